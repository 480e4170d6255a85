//! Recon: a storm of new connections, or the same questions over one.

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::Stage;

#[tokio::test]
async fn a_storm_opens_and_resets_connections() {
    let Some(stage) = Stage::make("recon").await else { return };
    let api = stage.serves("gateway", &["api"]).await;

    let args = ["recon", "--target", &api.at(6443), "--rate", "120", "--seconds", "60"];
    let source = stage.runs("session", Limits::default(), &args).await;
    let row = source.until("200 opens", |row, _| row.get(Column::TcpActiveOpens) >= Some(200)).await;

    let opens = row.get(Column::TcpActiveOpens).expect("opens");
    for column in [Column::TcpEstabResets, Column::TcpOutResets] {
        assert!(row.get(column) > Some(opens / 5), "{}: {row:?}", column.name());
    }
    assert!(row.get(Column::TcpAttemptFails) < Some(5), "{row:?}");
    assert!(row.get(Column::NetRxBytes) > Some(opens * 300), "it is answered: {row:?}");
    stage.end([source, api]).await;
}

#[tokio::test]
async fn one_connection_shows_none_of_it() {
    let Some(stage) = Stage::make("keepalive").await else { return };
    let api = stage.serves("gateway", &["api"]).await;

    let args = ["recon", "--target", &api.at(6443), "--rate", "120", "--keep-alive", "--seconds", "60"];
    let source = stage.runs("session", Limits::default(), &args).await;
    let row = source.until("answers", |row, _| row.get(Column::NetRxBytes) > Some(2_000_000)).await;

    assert_eq!(row.get(Column::TcpActiveOpens), Some(1));
    assert_eq!(row.get(Column::TcpEstablished), Some(1));
    assert_eq!(row.get(Column::TcpOutResets), Some(0));
    stage.end([source, api]).await;
}
