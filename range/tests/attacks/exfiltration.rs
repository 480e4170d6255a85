//! Exfiltration: bytes that go out, over streams and datagrams, one or many connections, both address families.

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::{Actor, Stage};

async fn uploads(stage: &Stage, sink: &Actor, args: &[&str]) -> Actor {
    let target = sink.at(9000);
    stage.runs("digest", Limits::default(), &[&["upload", "--target", &target, "--seconds", "60"], args].concat()).await
}

#[tokio::test]
async fn a_drip_is_steady_and_small() {
    let Some(stage) = Stage::make("drip").await else { return };
    let sink = stage.serves("archive", &["sink"]).await;

    let source = uploads(&stage, &sink, &["--rate", "100000"]).await;
    let row = source.until("200 kB", |row, _| row.get(Column::NetTxBytes) > Some(200_000)).await;

    let (sent, took_us) = (row.get(Column::NetTxBytes).expect("sent"), row.get(Column::IntervalUs).expect("interval"));
    assert!(sent * 1_000_000 / took_us < 130_000, "{sent} bytes in {took_us} us");
    assert!(row.get(Column::NetRxBytes) < Some(sent / 10), "{row:?}");
    assert_eq!(row.get(Column::TcpActiveOpens), Some(1));
    assert_eq!(row.get(Column::TcpEstablished), Some(1));
    stage.end([source, sink]).await;
}

#[tokio::test]
async fn many_connections_share_the_rate() {
    let Some(stage) = Stage::make("manyup").await else { return };
    let sink = stage.serves("archive", &["sink"]).await;

    let source = uploads(&stage, &sink, &["--rate", "4000000", "--connections", "12"]).await;
    let row = source.until("3 MB", |row, _| row.get(Column::NetTxBytes) > Some(3_000_000)).await;

    assert_eq!(row.get(Column::TcpEstablished), Some(12));
    let (sent, took_us) = (row.get(Column::NetTxBytes).expect("sent"), row.get(Column::IntervalUs).expect("interval"));
    assert!(sent * 1_000_000 / took_us < 6_000_000, "{sent} bytes in {took_us} us");
    assert!(sent > row.get(Column::NetRxBytes).expect("received") * 5, "{row:?}");
    stage.end([source, sink]).await;
}

#[tokio::test]
async fn datagrams_go_out_and_nothing_comes_back() {
    let Some(stage) = Stage::make("dgram").await else { return };
    let sink = stage.serves("archive", &["sink"]).await;

    let source = uploads(&stage, &sink, &["--rate", "100000", "--datagrams"]).await;
    let row = source.until("150 datagrams", |row, _| row.get(Column::UdpOutDatagrams) >= Some(150)).await;

    assert_eq!(row.get(Column::UdpInDatagrams), Some(0));
    assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
    // Somebody takes them: no answer says that nobody does.
    assert_eq!(row.get(Column::IcmpInMessages), Some(0));
    assert!(row.get(Column::UdpOutDatagrams) < Some(83 * (row.get(Column::IntervalUs).expect("interval") / 1_000_000 + 3)), "{row:?}");
    stage.end([source, sink]).await;
}

#[tokio::test]
async fn streams_and_datagrams_go_over_ipv6_as_well() {
    let Some(stage) = Stage::make("v6").await else { return };
    let sink = stage.serves("archive", &["sink"]).await;
    if sink.pod.network.address6.is_none() {
        eprintln!("SKIPPED: this kernel has no IPv6");
        return stage.end([sink]).await;
    }

    let stream = uploads(&stage, &sink, &["--rate", "2000000", "--v6"]).await;
    let datagrams = uploads(&stage, &sink, &["--rate", "100000", "--v6", "--datagrams"]).await;
    let streamed = stream.until("1 MB", |row, _| row.get(Column::NetTxBytes) > Some(1_000_000)).await;
    let sent = datagrams.until("100 datagrams", |row, _| row.get(Column::Udp6OutDatagrams) >= Some(100)).await;

    assert_eq!(streamed.get(Column::TcpEstablished), Some(1));
    assert!(streamed.get(Column::Ip6OutPackets) > Some(100), "{streamed:?}");
    assert_eq!(sent.get(Column::UdpOutDatagrams), Some(0));
    assert_eq!(sent.get(Column::Udp6InDatagrams), Some(0));
    sink.until("datagrams received", |row, _| row.get(Column::Udp6InDatagrams) >= Some(50)).await;
    stage.end([stream, datagrams, sink]).await;
}
