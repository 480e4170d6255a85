//! Floods: what the victim shows, and what the source.

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::{Actor, Stage};

async fn syn_flood(stage: &Stage, web: &Actor, args: &[&str]) -> Actor {
    let target = web.at(8080);
    stage.runs("digest", Limits::default(), &[&["syn-flood", "--target", &target, "--seconds", "60"], args].concat()).await
}

#[tokio::test]
async fn syns_from_a_living_source_are_reset_by_its_own_kernel() {
    let Some(stage) = Stage::make("synown").await else { return };
    let web = stage.serves("web", &["web"]).await;

    let source = syn_flood(&stage, &web, &["--rate", "1000"]).await;
    let victim = web.until("failed attempts", |row, _| row.get(Column::TcpAttemptFails) >= Some(500)).await;

    assert_eq!(victim.get(Column::TcpPassiveOpens), Some(0));
    let row = source.until("resets sent", |row, _| row.get(Column::TcpOutResets) >= Some(500)).await;
    assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
    assert_eq!(row.get(Column::RawSockets), Some(1));
    stage.end([source, web]).await;
}

#[tokio::test]
async fn syns_that_say_they_come_from_elsewhere_are_reset_there() {
    let Some(stage) = Stage::make("synother").await else { return };
    let web = stage.serves("web", &["web"]).await;

    let source = syn_flood(&stage, &web, &["--rate", "1000", "--source", "refusing"]).await;
    let victim = web.until("failed attempts", |row, _| row.get(Column::TcpAttemptFails) >= Some(300)).await;

    assert_eq!(victim.get(Column::TcpPassiveOpens), Some(0));
    let row = source.until("packets sent", |row, _| row.get(Column::NetTxPackets) >= Some(300)).await;
    assert_eq!(row.get(Column::TcpOutResets), Some(0));
    assert_eq!(row.get(Column::TcpInSegments), Some(0));
    stage.end([source, web]).await;
}

#[tokio::test]
async fn syns_from_nowhere_leave_answers_that_are_sent_again() {
    let Some(stage) = Stage::make("synsilent").await else { return };
    let web = stage.serves("web", &["web"]).await;

    let source = syn_flood(&stage, &web, &["--rate", "2000", "--source", "silent"]).await;
    let victim = web
        .until("answers sent again", |row, _| row.get(Column::TcpRetransmits) >= Some(200) && row.get(Column::TcpInSegments) >= Some(1_000))
        .await;

    assert_eq!(victim.get(Column::TcpPassiveOpens), Some(0));
    assert_eq!(victim.get(Column::TcpAttemptFails), Some(0));
    assert_eq!(source.column(Column::TcpOutResets), 0);
    stage.end([source, web]).await;
}

#[tokio::test]
async fn slow_loris_holds_connections_and_sends_hardly_anything() {
    let Some(stage) = Stage::make("loris").await else { return };
    let web = stage.serves("web", &["web"]).await;
    let target = web.at(8080);

    let args = ["slow-loris", "--target", &target, "--connections", "210", "--every-ms", "1000", "--seconds", "60"];
    let source = stage.runs("digest", Limits::default(), &args).await;
    let victim = web.until("210 connections", |row, _| row.get(Column::TcpEstablished) >= Some(205)).await;

    assert!(victim.get(Column::NetTxBytes) < Some(60_000), "nothing is answered: {victim:?}");
    let before = web.column(Column::NetRxBytes);
    let later = web.until("lines now and then", |row, _| row.get(Column::NetRxBytes) > Some(before + 10_000)).await;
    assert!(later.get(Column::TcpEstablished) >= Some(205), "{later:?}");
    stage.end([source, web]).await;
}

#[tokio::test]
async fn an_http_flood_is_packets_cpu_and_connections_at_the_victim() {
    let Some(stage) = Stage::make("httpflood").await else { return };
    let web = stage.serves("web", &["web"]).await;
    let target = web.at(8080);

    let args = ["load", "--target", &target, "--rate", "1500", "--connections", "120", "--reuse", "20", "--seconds", "60"];
    let source = stage.runs("digest", Limits::default(), &args).await;
    let victim =
        web.until("a flood", |row, _| row.get(Column::NetRxPackets) >= Some(3_000) && row.get(Column::TcpPassiveOpens) >= Some(150)).await;

    assert!(victim.get(Column::CpuUsageUs) > Some(100_000), "{victim:?}");
    let row = web.until("many at once", |row, _| row.get(Column::TcpEstablished) >= Some(60)).await;
    assert_eq!(row.get(Column::TcpAttemptFails), Some(0));
    stage.end([source, web]).await;
}
