//! What looks like a flood: a load test and a sale. The service is busy, and everybody is served.

use super::range::{Range, Watched, soon};

/// What a flood leaves at its victim, and a crowd does not.
fn nobody_is_turned_away(web: &Watched, clients: &Watched) {
    for name in ["ListenDrops", "ListenOverflows", "SyncookiesSent", "TCPAbortOnData"] {
        assert_eq!(web.counter("TcpExt", name), 0, "{name}");
    }
    assert_eq!((web.tcp("AttemptFails"), clients.fruitless()), (0, 0));
    assert_eq!(web.tcp("OutRsts"), 0);
    assert!(web.eth0().sent > 3 * web.eth0().received, "answers outweigh questions: {:?}", web.eth0());
}

#[tokio::test]
async fn a_load_test_rises_and_is_served() {
    let Some(range) = Range::new("loadtest").await else { return };
    let web = range.run("web", "web --address {address} --work-us 50 --slow-pct 0").await;

    let load = "--shape ramp --period-seconds 4 --rate 250 --connections 40 --reuse 20 --mix shop --seconds 60";
    let clients = range.run("k6", &format!("load --target {} {load}", web.at(8080))).await;
    soon("the load is there", || web.eth0().packets_in > 1_500).await;

    assert!(web.tcp("CurrEstab") >= 30, "{}", web.tcp("CurrEstab"));
    nobody_is_turned_away(&web, &clients);
    range.end().await;
}

#[tokio::test]
async fn a_sale_brings_visitors_who_are_served_and_leave() {
    let Some(range) = Range::new("sale").await else { return };
    let web = range.run("web", "web --address {address} --work-us 50 --slow-pct 0").await;

    let sale = "--base 2 --peak 30 --rise-seconds 2 --hold-seconds 30 --steps 4 --think-ms 150 --seconds 60";
    let visitors = range.run("visitors", &format!("sale --target {} {sale}", web.at(8080))).await;
    soon("visitors came and went", || web.tcp("PassiveOpens") > web.tcp("CurrEstab") + 40).await;

    assert!(web.tcp("CurrEstab") > 3, "{}", web.tcp("CurrEstab"));
    nobody_is_turned_away(&web, &visitors);
    range.end().await;
}
