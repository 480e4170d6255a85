//! Services and their ordinary clients.

use super::range::{Range, samples, seconds, soon};

#[tokio::test]
async fn a_client_of_the_shop_keeps_its_connections_and_gets_pages_of_many_sizes() {
    let Some(range) = Range::new("shop").await else { return };
    let web = range.run("web", "web --address {address}").await;

    let load = format!("load --target {} --rate 60 --connections 3 --mix shop --think-ms 5 --reuse 1000 --seconds 60", web.at(8080));
    let client = range.run("frontend", &load).await;
    soon("the client is answered", || client.eth0().received > 200_000).await;

    assert_eq!(client.tcp("CurrEstab"), 3);
    assert_eq!((client.tcp("ActiveOpens"), client.fruitless()), (3, 0));
    assert_eq!(web.tcp("PassiveOpens"), 3);
    assert!(client.eth0().received > client.eth0().sent * 3, "{:?}", client.eth0());
    assert!(web.cpu_ms() > 5, "requests are work: {} ms", web.cpu_ms());
    range.end().await;
}

/// Packets sent per tenth of the time.
fn tenths(samples: &[u64]) -> Vec<u64> {
    let step = samples.len() / 10;
    (0..10).map(|place| samples[(place + 1) * step - 1] - samples[place * step]).collect()
}

#[tokio::test]
async fn load_has_the_shape_asked_for() {
    let Some(range) = Range::new("shapes").await else { return };
    let web = range.run("web", "web --address {address} --work-us 20 --slow-pct 0").await;
    let load = |shape: &str| format!("load --target {} --rate 60 --connections 6 --reuse 10000 --seconds 60 --shape {shape}", web.at(8080));

    let ramp = range.run("ramp", &load("ramp --period-seconds 5")).await;
    let ramps = samples(5.0, || ramp.eth0().packets_out).await;
    // Begins at the mean, has its peak after a quarter and its trough after three.
    let diurnal = range.run("diurnal", &load("diurnal --period-seconds 5 --amplitude-pct 100")).await;
    let diurnals = samples(5.0, || diurnal.eth0().packets_out).await;
    let bursty = range.run("bursty", &load("bursty --period-seconds 4 --burst-seconds 1 --burst-factor 8")).await;
    let bursts = samples(5.0, || bursty.eth0().packets_out).await;

    let (ramps, diurnals, bursts) = (tenths(&ramps), tenths(&diurnals), tenths(&bursts));
    let part = |counts: &[u64]| counts.iter().sum::<u64>();
    assert!(part(&ramps[7..]) > 2 * part(&ramps[..3]), "{ramps:?}");
    assert!(part(&diurnals[1..4]) > 3 * part(&diurnals[6..9]), "{diurnals:?}");
    let mut sorted = bursts.clone();
    sorted.sort_unstable();
    assert!(sorted[9] > 3 * sorted[3].max(1), "{bursts:?}");
    range.end().await;
}

#[tokio::test]
async fn a_chain_fans_out_over_connections_that_it_keeps() {
    let Some(range) = Range::new("chain").await else { return };
    let items = range.run("items", "web --address {address} --slow-pct 0").await;
    let prices = range.run("prices", &format!("chain --address {{address}} --next {} --fan-out 2", items.at(8080))).await;
    let (first, second) = (prices.at(8080), items.at(8080));
    let api = range.run("api", &format!("chain --address {{address}} --next {first} --next {second} --fan-out 4")).await;

    let client =
        range.run("frontend", &format!("load --target {} --rate 40 --connections 2 --reuse 1000 --seconds 60", api.at(8080))).await;
    soon("requests reach the last", || items.eth0().packets_in > 600).await;

    // Per request: four calls of the first tier, two of the second for each of two of them.
    assert!(items.eth0().packets_in > 2 * client.eth0().packets_out, "{:?} {:?}", items.eth0(), client.eth0());
    for tier in [&api, &prices] {
        let opens = tier.tcp("ActiveOpens");
        assert!((2..=16).contains(&opens), "{opens} opens");
        assert_eq!(tier.fruitless(), 0);
        assert!(tier.tcp("PassiveOpens") <= 16);
    }
    assert_eq!(client.tcp("ActiveOpens"), 2);
    range.end().await;
}

#[tokio::test]
async fn a_database_answers_when_the_write_is_on_disk() {
    let Some(range) = Range::new("database").await else { return };
    let database = range.run("orders", "database --address {address} --dir {dir} --checkpoint-kib 256").await;

    let client = range.run("session", &format!("cache-client --target {} --rate 200 --connections 3", database.at(5432))).await;
    soon("writes reach the disk", || database.written() > 200_000).await;
    let sizes = samples(3.0, || std::fs::metadata(database.dir.join("database/log")).map_or(0, |log| log.len())).await;

    assert!(sizes.windows(2).any(|pair| pair[1] < pair[0]), "the log begins again after a checkpoint");
    assert!(sizes.iter().all(|&size| size < 256 * 1024 + 64 * 16 * 1024), "{:?}", sizes.iter().max());
    assert_eq!((client.tcp("ActiveOpens"), client.tcp("CurrEstab")), (3, 3));
    range.end().await;
}

#[tokio::test]
async fn a_cache_is_used_over_few_connections_and_touches_no_disk() {
    let Some(range) = Range::new("cache").await else { return };
    let cache = range.run("cache", "cache --address {address}").await;

    let client = range.run("session", &format!("cache-client --target {} --rate 200 --connections 3", cache.at(6379))).await;
    soon("it is used", || cache.eth0().packets_in > 300).await;

    assert_eq!((client.tcp("ActiveOpens"), client.tcp("CurrEstab"), client.fruitless()), (3, 3, 0));
    assert_eq!(cache.written(), 0);
    range.end().await;
}

#[tokio::test]
async fn an_idle_sidecar_only_answers_probes() {
    let Some(range) = Range::new("sidecar").await else { return };
    let sidecar = range.run("proxy", "sidecar --address {address}").await;

    let checks = range.run("monitor", &format!("health-checks --target {} --every-ms 200", sidecar.at(15020))).await;
    soon("probes arrive", || sidecar.tcp("PassiveOpens") >= 5).await;
    let before = sidecar.cpu_ms();
    seconds(2.0).await;

    assert!(sidecar.cpu_ms() - before < 100, "{} ms", sidecar.cpu_ms() - before);
    assert_eq!(sidecar.tcp("ActiveOpens"), 0);
    assert_eq!(checks.fruitless(), 0);
    range.end().await;
}
