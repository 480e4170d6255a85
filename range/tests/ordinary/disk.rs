//! What looks like a disk that fills: it is given back. And logs on their way.

use super::range::{Range, samples, soon};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn compaction_fills_the_disk_and_gives_it_back() {
    let Some(range) = Range::new("compaction").await else { return };
    let command = "compaction --dir {dir} --segment-mib 2 --segments 3 --rate-mib 24 --rest-ms 300 --seconds 60";
    let store = range.run("timeseries", command).await;

    let sizes = samples(5.0, || store.disk()).await;

    let most = sizes.iter().copied().max().expect("samples");
    assert!((4 * MIB..12 * MIB).contains(&most), "{most}");
    let falls = sizes.windows(2).filter(|pair| pair[1] + 2 * MIB < pair[0]).count();
    assert!(falls >= 1, "what was merged is removed: {sizes:?}");
    assert!(store.written() > most, "{} written, {most} at most on disk", store.written());
    range.end().await;
}

#[tokio::test]
async fn a_log_burst_is_rotated_away() {
    let Some(range) = Range::new("logburst").await else { return };
    let command =
        "log-writer --file {dir}/app.log --rate 50 --burst-rate 30000 --burst-seconds 60 --burst-every 1 --rotate-kib 1024 --keep 2";
    let writer = range.run("gateway", command).await;
    let first = || std::fs::metadata(writer.dir.join("app.log.2")).is_ok();

    soon("it was rotated twice", first).await;
    let sizes = samples(3.0, || writer.disk()).await;

    let most = sizes.iter().copied().max().expect("samples");
    assert!(most < 5 * MIB, "{most}");
    assert!(sizes.windows(2).any(|pair| pair[1] + MIB / 4 < pair[0]), "old files go: {sizes:?}");
    assert!(writer.written() > 2 * MIB, "{}", writer.written());
    range.end().await;
}

#[tokio::test]
async fn a_log_shipper_sends_what_another_writes_over_one_connection() {
    let Some(range) = Range::new("shipper").await else { return };
    let store = range.run("loki", "store --address {address}").await;
    let writer = range.run("gateway", "log-writer --file {dir}/app.log --rate 2000 --rotate-kib 256 --keep 4").await;
    let file = writer.dir.join("app.log");

    let shipper = range.run("fluent", &format!("log-shipper --file {} --target {} --flush-ms 200", file.display(), store.at(9100))).await;
    soon("logs arrive, rotations included", || store.eth0().received > 3 * MIB / 2).await;

    assert_eq!((shipper.tcp("ActiveOpens"), shipper.tcp("CurrEstab"), shipper.fruitless()), (1, 1, 0));
    let (shipped, stored) = (shipper.eth0(), store.eth0());
    assert!(shipped.sent > 10 * shipped.received, "{shipped:?}");
    assert!(stored.packets_out > 20, "each batch is acknowledged: {stored:?}");
    assert_eq!(writer.tcp("ActiveOpens"), 0);
    range.end().await;
}
