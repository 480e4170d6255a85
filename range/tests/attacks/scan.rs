//! Scans: what opens, fails, is sent again and listens, by method and by what the targets do.

use vedette_proto::Column;
use vedette_range::cgroups::Limits;

use crate::stage::{Actor, Stage};

async fn scans(stage: &Stage, args: &[&str]) -> Actor {
    stage.runs("ledger", Limits::default(), &[&["scan", "--seconds", "60"], args].concat()).await
}

#[tokio::test]
async fn connects_into_what_refuses_are_opens_that_fail() {
    let Some(stage) = Stage::make("refused").await else { return };

    let scanner = scans(&stage, &["--into", "refusing", "--rate", "400"]).await;
    let row = scanner.until("400 opens", |row, _| row.get(Column::TcpActiveOpens) >= Some(400)).await;

    let opens = row.get(Column::TcpActiveOpens).expect("opens");
    assert!(row.get(Column::TcpAttemptFails) >= Some(opens - 20), "{row:?}");
    assert_eq!(row.get(Column::TcpEstablished), Some(0));
    assert_eq!(row.get(Column::TcpPassiveOpens), Some(0));
    // Behind the bridge: no neighbour is asked for.
    assert_eq!(row.get(Column::ArpIncomplete), Some(0));
    stage.end([scanner]).await;
}

#[tokio::test]
async fn connects_into_silence_are_sent_again() {
    let Some(stage) = Stage::make("silent").await else { return };

    let scanner = scans(&stage, &["--into", "silent", "--rate", "100", "--timeout-ms", "2500"]).await;
    let row = scanner.until("SYNs sent again", |row, _| row.get(Column::TcpSynRetransmits) >= Some(100)).await;

    assert!(row.get(Column::TcpActiveOpens) >= Some(100), "{row:?}");
    assert!(row.get(Column::TcpTimeouts) >= Some(100), "{row:?}");
    assert_eq!(row.get(Column::TcpEstablished), Some(0));
    // What is given up before the kernel does is no failed attempt of it: a silent target leaves fewer than a refusing one.
    assert_eq!(row.get(Column::TcpInSegments), Some(0));
    assert_eq!(row.get(Column::IcmpInMessages), Some(0));
    stage.end([scanner]).await;
}

#[tokio::test]
async fn connects_into_what_is_forbidden_are_told_so_now_and_then() {
    let Some(stage) = Stage::make("denied").await else { return };

    let scanner = scans(&stage, &["--into", "denied", "--rate", "100"]).await;
    let row =
        scanner.until("answers", |row, _| row.get(Column::IcmpInMessages) >= Some(3) && row.get(Column::TcpActiveOpens) >= Some(100)).await;

    assert_eq!(row.get(Column::TcpInSegments), Some(0));
    // The kernel answers a sender about once a second.
    assert!(row.get(Column::IcmpInMessages) < row.get(Column::TcpActiveOpens), "{row:?}");
    stage.end([scanner]).await;
}

#[tokio::test]
async fn connects_among_the_pods_ask_for_neighbours_that_are_not_there() {
    let Some(stage) = Stage::make("absent").await else { return };
    let bystander = stage.runs("stock", Limits::default(), &["idle", "--seconds", "600"]).await;
    let own = bystander.pod.network.address.octets()[3].to_string();

    let scanner = scans(&stage, &["--into", "pods", "--except", &own, "--rate", "200"]).await;
    let row = scanner.until("absent neighbours", |row, _| row.get(Column::ArpIncomplete) >= Some(50)).await;

    assert!(row.get(Column::TcpActiveOpens) >= Some(50), "{row:?}");
    assert!(bystander.column(Column::NetRxPackets) < 20, "a bystander hears nothing");
    stage.end([scanner, bystander]).await;
}

#[tokio::test]
async fn a_slow_scan_is_slow() {
    let Some(stage) = Stage::make("slow").await else { return };

    let scanner = scans(&stage, &["--into", "refusing", "--rate", "2"]).await;
    let row = scanner.until("4 opens", |row, _| row.get(Column::TcpActiveOpens) >= Some(4)).await;

    let seconds = row.get(Column::SlowIntervalUs).expect("interval") / 1_000_000;
    assert!(row.get(Column::TcpActiveOpens).expect("opens") <= 2 * seconds + 3, "{row:?}");
    stage.end([scanner]).await;
}

#[tokio::test]
async fn raw_syns_open_nothing_and_need_sockets_that_show() {
    let Some(stage) = Stage::make("rawsyn").await else { return };

    let scanner = scans(&stage, &["--method", "syn", "--into", "refusing", "--rate", "500"]).await;
    let row = scanner.until("resets that nobody asked for", |row, _| row.get(Column::TcpInSegments) >= Some(300)).await;

    assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
    assert_eq!(row.get(Column::TcpAttemptFails), Some(0));
    assert_eq!(row.get(Column::RawSockets), Some(1));
    assert_eq!(row.get(Column::PacketSockets), Some(1));
    assert!(row.get(Column::NetTxPackets) >= Some(300), "{row:?}");
    stage.end([scanner]).await;
}

#[tokio::test]
async fn a_raw_syn_to_an_open_port_is_answered_and_reset_by_the_kernel() {
    let Some(stage) = Stage::make("rawopen").await else { return };
    let web = stage.serves("web", &["web"]).await;

    // Among the pods, where web listens on 8080.
    let scanner = scans(&stage, &["--method", "syn", "--into", "pods", "--hosts", "20", "--rate", "500"]).await;
    let row = scanner.until("a reset", |row, _| row.get(Column::TcpOutResets) >= Some(3)).await;

    assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
    let victim = web.until("failed attempts", |row, _| row.get(Column::TcpAttemptFails) >= Some(3)).await;
    assert_eq!(victim.get(Column::TcpPassiveOpens), Some(0));
    stage.end([scanner, web]).await;
}

#[tokio::test]
async fn datagrams_go_out_and_little_comes_back() {
    let Some(stage) = Stage::make("udp").await else { return };

    let scanner = scans(&stage, &["--method", "udp", "--into", "refusing", "--into", "silent", "--rate", "400"]).await;
    let row = scanner
        .until("datagrams and answers", |row, _| {
            row.get(Column::UdpOutDatagrams) >= Some(400) && row.get(Column::IcmpInMessages) >= Some(1)
        })
        .await;

    assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
    assert_eq!(row.get(Column::UdpInDatagrams), Some(0));
    assert_eq!(row.get(Column::RawSockets), Some(0));
    stage.end([scanner]).await;
}
