//! What is asked for beyond a ceiling is cut by the program itself.

use std::time::Instant;

use super::range::{Range, samples, seconds};

/// Rates are measured over this long.
const LASTS: f64 = 3.0;

#[tokio::test]
async fn connects_and_bytes_stay_below_their_ceilings() {
    let Some(range) = Range::new("ceilings").await else { return };
    let web = range.run("web", "web --address {address}").await;
    let store = range.run("archive", "store --address {address}").await;
    let checks = range.run("monitor", &format!("health-checks --every-ms 0 --target {}", web.at(8080))).await;
    let mesh = range.run("mesh", &format!("discovery --rate 1000000 --keep-ms 1 --target {}", web.at(8080))).await;
    let backup = format!("backup --dir {{dir}} --tree-mib 100 --every-seconds 0 --rate 1000000000000 --target {}", store.at(9100));
    let backup = range.run("snapshots", &backup).await;
    let sale = format!("sale --target {} --base 1000000 --peak 1000000 --think-ms 0 --steps 1", web.at(8080));
    let sale = range.run("visitors", &sale).await;

    let began = Instant::now();
    let before = [checks.tcp("ActiveOpens"), mesh.tcp("ActiveOpens"), sale.tcp("ActiveOpens"), backup.eth0().sent];
    seconds(LASTS).await;
    let after = [checks.tcp("ActiveOpens"), mesh.tcp("ActiveOpens"), sale.tcp("ActiveOpens"), backup.eth0().sent];

    let elapsed = began.elapsed().as_secs_f64();
    assert!(before.iter().zip(&after).all(|(before, after)| after > before), "{before:?} {after:?}");
    for (place, ceiling) in [200.0, 200.0, 100.0, 20_000_000.0].into_iter().enumerate() {
        let rate = (after[place] - before[place]) as f64 / elapsed;
        assert!(rate < ceiling * 1.25, "{place}: {rate} a second, at most {ceiling}");
    }
    range.end().await;
}

#[tokio::test]
async fn processes_and_disk_stay_below_their_ceilings() {
    let Some(range) = Range::new("limits").await else { return };
    let build = range.run("builder", "build --dir {dir} --jobs 100000 --units 100000 --unit-ms 20000 --seconds 60").await;
    let writer =
        range.run("gateway", "log-writer --file {dir}/app.log --rate 4000000000 --line-bytes 1000000 --keep 1 --rotate-kib 1024").await;

    let most = samples(LASTS, || (build.processes().len(), writer.disk())).await;

    let (processes, disk) = most.into_iter().fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)));
    assert!((10..=66).contains(&processes), "{processes}");
    // Two files of 1 MiB, and above that the lines of a quarter of a second.
    assert!((1 << 20..(2 << 20) + (18 << 20)).contains(&disk), "{disk}");
    range.end().await;
}
