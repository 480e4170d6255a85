//! What looks like exfiltration, a scan or recon, and how it differs on the wire.

use super::range::{Range, Watched, seconds, soon};

#[tokio::test]
async fn a_backup_is_an_upload_over_one_connection_that_is_acknowledged() {
    let Some(range) = Range::new("backup").await else { return };
    let store = range.run("archive", "store --address {address}").await;

    let command = "--tree-mib 4 --rate 4000000 --chunk-kib 128 --every-seconds 60 --seconds 120";
    let backup = range.run("snapshots", &format!("backup --dir {{dir}} --target {} {command}", store.at(9100))).await;
    soon("the whole tree is sent", || backup.eth0().sent > 4 << 20).await;

    let traffic = backup.eth0();
    assert!(traffic.sent < 6 << 20, "no more than there is: {traffic:?}");
    assert!(traffic.sent > 20 * traffic.received, "{traffic:?}");
    assert_eq!((backup.tcp("ActiveOpens"), backup.fruitless()), (1, 0));
    assert_eq!(store.tcp("PassiveOpens"), 1);
    range.end().await;
}

#[tokio::test]
async fn an_image_push_sends_only_the_layers_that_changed() {
    let Some(range) = Range::new("push").await else { return };
    let registry = range.run("registry", "store --address {address}").await;

    let command = "--layers 4 --layer-mib 1 --rate 8000000 --every-seconds 3 --seconds 120";
    let push = range.run("ci", &format!("image-push --target {} {command}", registry.at(9100))).await;
    soon("the first image is there", || push.eth0().sent > 4 << 20).await;
    let after_first = push.eth0().sent;
    soon("the second push begins", || push.tcp("ActiveOpens") == 2).await;
    soon("and ends", || push.tcp("CurrEstab") == 0).await;

    let second = push.eth0().sent - after_first;
    assert!((2 << 20..3 << 20).contains(&second), "half of the layers: {second}");
    assert!(push.eth0().sent > 20 * push.eth0().received);
    assert_eq!(push.fruitless(), 0);
    range.end().await;
}

/// Every connection that was opened was accepted by one of these.
fn all_were_accepted(client: &Watched, services: &[&Watched]) {
    let opened = client.tcp("ActiveOpens");
    let accepted: u64 = services.iter().map(|service| service.tcp("PassiveOpens")).sum();
    assert!(accepted + 2 >= opened, "{opened} opened, {accepted} accepted");
    assert_eq!((client.fruitless(), client.tcp("EstabResets")), (0, 0));
    let arp = client.net("arp");
    assert!(arp.lines().skip(1).all(|line| !line.contains(" 0x0 ")), "a neighbour that does not exist:\n{arp}");
}

#[tokio::test]
async fn service_discovery_opens_many_connections_that_are_all_established() {
    let Some(range) = Range::new("discovery").await else { return };
    let resolver = range.run("dns", "resolver --address {address}").await;
    let web = range.run("web", "web --address {address}").await;
    let cache = range.run("cache", "cache --address {address}").await;
    let store = range.run("archive", "store --address {address}").await;

    let targets = format!("--target {} --target {} --target {}", web.at(8080), cache.at(6379), store.at(9100));
    let command = format!("discovery --resolver {} {targets} --rate 40 --keep-ms 500 --seconds 60", resolver.at(53));
    let mesh = range.run("mesh", &command).await;
    soon("it connects", || mesh.tcp("ActiveOpens") >= 80).await;

    let (asked, answered) = (mesh.counter("Udp", "OutDatagrams"), mesh.counter("Udp", "InDatagrams"));
    assert!(asked >= 80 && answered + 2 >= asked, "{asked} questions, {answered} answers");
    assert_eq!(mesh.counter("Udp", "NoPorts"), 0);
    assert!(mesh.tcp("CurrEstab") >= 5, "connections are kept: {}", mesh.tcp("CurrEstab"));
    all_were_accepted(&mesh, &[&web, &cache, &store]);
    range.end().await;
}

#[tokio::test]
async fn health_checks_open_a_connection_each_and_none_fails() {
    let Some(range) = Range::new("checks").await else { return };
    let web = range.run("web", "web --address {address} --slow-pct 0").await;
    let sidecar = range.run("proxy", "sidecar --address {address}").await;

    let command = format!("health-checks --target {} --target {} --every-ms 50", web.at(8080), sidecar.at(15020));
    let monitor = range.run("monitor", &command).await;
    soon("it checks", || monitor.tcp("ActiveOpens") >= 60).await;

    assert!(monitor.tcp("CurrEstab") <= 1);
    all_were_accepted(&monitor, &[&web, &sidecar]);
    range.end().await;
}

#[tokio::test]
async fn a_controller_reads_much_over_two_connections() {
    let Some(range) = Range::new("resync").await else { return };
    let api = range.run("api", "api --address {address} --objects 700 --event-ms 300").await;

    let controller = range.run("operator", &format!("resync --target {} --relist-seconds 2 --page 300", api.at(6443))).await;
    soon("it read", || controller.eth0().received > 8 << 20).await;
    seconds(1.0).await;

    assert_eq!((controller.tcp("ActiveOpens"), controller.tcp("CurrEstab")), (2, 2), "no storm of connections");
    assert_eq!((controller.tcp("EstabResets"), controller.tcp("OutRsts"), controller.fruitless()), (0, 0, 0));
    assert!(controller.eth0().received > 20 * controller.eth0().sent);
    range.end().await;
}
