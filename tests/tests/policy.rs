//! Policy over real processes: an installation observes, pages once enabled, and after an answer pages only for what is unlike it.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use vedette_proto::{
    Block, Column, Observation,
    v1::{Batch, stream_request::Message},
};
use vedette_tests::{
    aggregator::{self, Aggregator},
    cli,
    feeder::{Feed, Node, now_unix_ms},
};

/// Seconds of ordinary life before the first attack; quiet windows are drawn from it.
const WARM_S: i64 = 840;
const ATTACK_S: i64 = 12;
/// Long enough for an incident to resolve: a level a hundred times beyond normal takes 20 s to come back, and then 5 s must be quiet.
const QUIET_S: i64 = 40;
/// Rows may be so much older or newer than now and are live.
const REACH_MS: i64 = 50_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Three replicas of one workload of a shop, on one node.
struct Shop {
    aggregator: Aggregator,
    node: Node,
    feed: Feed,
    sequence: u64,
    unix_ms: i64,
}

/// A second of a web container; `times` as many requests as usual, each a connection.
fn row(times: u64) -> Observation {
    let mut row = Observation::default();
    for (column, value) in [
        (Column::IntervalUs, 1_000_000),
        (Column::SlowIntervalUs, 1_000_000),
        (Column::CpuUsageUs, 30_000 + 100 * times),
        (Column::NetRxPackets, 100 * times),
        (Column::NetTxPackets, 100 * times),
        (Column::NetRxBytes, 10_000 * times),
        (Column::NetTxBytes, 20_000 * times),
        (Column::TcpActiveOpens, 0),
        (Column::TcpPassiveOpens, 10 * times),
        (Column::TcpEstablished, 5 * times),
        (Column::MemoryAnonBytes, 60 << 20),
        (Column::PidsCurrent, 6),
    ] {
        row.set(column, value);
    }
    row
}

impl Shop {
    async fn open(folder: &Path) -> Self {
        let node = Node::new("worker", 3, WARM_S + 60);
        let pods = node.added().into_iter().enumerate().map(|(replica, added)| {
            let uid = added.pod_uid;
            format!(r#"{{"pod_uid":"{uid}","namespace":"shop","pod":"web-{replica}","owner_kind":"Deployment","owner_name":"web","containers":["app"]}}"#)
        });
        fs::write(folder.join("identity.jsonl"), pods.collect::<Vec<_>>().join("\n")).unwrap();
        let identity = folder.join("identity.jsonl").display().to_string();
        let more = format!(
            "[identity]\nfile = {identity:?}\n[detect]\nmodel = \"none\"\nresolve_after_seconds = 5\nreopen_within_seconds = 0\nsilence_ticket_seconds = 900\nsilence_page_seconds = 900\n"
        );
        let (grpc, http) = aggregator::configure(folder, &more).unwrap();
        let aggregator = Aggregator::start_configured(folder, grpc, http).unwrap();
        let feed = Feed::open(&aggregator, &node).await.unwrap();
        let unix_ms = node.start_unix_ms;
        let mut shop = Self { aggregator, node, feed, sequence: 0, unix_ms };
        shop.run(WARM_S, 0, 1).await;
        shop
    }

    /// Seconds in which one replica is asked so many times as usual, and the others as usual.
    async fn run(&mut self, seconds: i64, replica: u32, times: u64) {
        for _ in 0..seconds {
            self.unix_ms += 1_000;
            self.sequence += 1;
            let references: Vec<u32> = (1..=self.node.containers).collect();
            let rows = references.iter().map(|&one| row(if one == replica { times } else { 1 })).collect();
            let block = Block { unix_ms: self.unix_ms, container_refs: references, rows };
            let batch = Batch { sequence: self.sequence, block: Some(block.encode()), ..Batch::default() };
            self.feed.send(Message::Batch(batch)).await.unwrap();
            while self.feed.acknowledged + 32 < self.sequence {
                self.feed.receive().await.unwrap();
            }
        }
        while self.feed.acknowledged < self.sequence {
            self.feed.receive().await.unwrap();
        }
    }

    /// A flood of one replica now, and its end; gives the incident as it was resolved.
    async fn flood(&mut self, replica: u32, times: u64) -> Value {
        let length = (ATTACK_S + QUIET_S) * 1_000;
        self.unix_ms = self.unix_ms.max(now_unix_ms() - REACH_MS);
        while self.unix_ms + length > now_unix_ms() + REACH_MS {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let before = self.incidents().len();
        self.run(ATTACK_S, replica, times).await;
        self.run(QUIET_S, 0, 1).await;
        let started = std::time::Instant::now();
        loop {
            let incidents = self.incidents();
            if incidents.len() > before && !incidents[0]["resolved"].is_null() {
                assert_eq!(incidents.len(), before + 1, "{incidents:#?}");
                return incidents[0].clone();
            }
            assert!(started.elapsed() < PATIENCE, "{incidents:#?}\n{}", self.aggregator.process.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Newest first.
    fn incidents(&self) -> Vec<Value> {
        self.json(&["incidents"]).as_array().cloned().unwrap_or_default()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = cli::run(&self.aggregator, [arguments, &["-o", "json"]].concat()).unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}{err}"))
    }

    /// Runs a command; gives its exit code and everything it said.
    fn say(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = cli::run(&self.aggregator, arguments).unwrap();
        (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    }
}

fn told(incident: &Value) -> [&str; 3] {
    ["severity", "asked_severity", "withheld"].map(|name| incident[name].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_observes_pages_when_told_to_and_learns_from_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut shop = Shop::open(folder.path()).await;

    // It observes: what would have paged is a ticket that says so, and enabling it early wants to be meant.
    let first = shop.flood(1, 60).await;
    assert_eq!(told(&first), ["ticket", "page", "observing"], "{first:#}");
    assert!(first["summary"].as_str().unwrap().ends_with("; would have paged"), "{first:#}");
    let status = shop.json(&["alerts", "status"]);
    assert_eq!((status["state"].as_str(), status["expected"]["count"].as_u64()), (Some("observing"), Some(1)), "{status:#}");
    let (code, said) = shop.say(&["alerts", "enable", "--yes"]);
    assert!(code == Some(1) && said.contains("observes for"), "{code:?} {said}");
    let (code, said) = shop.say(&["alerts", "enable", "--yes", "--early"]);
    assert!(code == Some(0) && said.contains("paging is enabled") && said.contains("days of watching"), "{code:?} {said}");

    // Answered as expected: what is like it, in another replica and half as much again, does not page; what is far beyond it does.
    let (code, said) = shop.say(&["answer", "1", "expected", "--author", "mira", "--note", "sale"]);
    assert!(code == Some(0) && said.contains("exception answer-1"), "{said}");
    let similar = shop.flood(2, 90).await;
    assert_eq!(told(&similar), ["ticket", "page", "answered"], "{similar:#}");
    let attack = shop.flood(3, 200).await;
    assert_eq!(told(&attack), ["page", "", ""], "{attack:#}");

    // Counted, with the interval; the exception of the answer is listed with what it made less loud.
    let budget = shop.json(&["budget"]);
    let count = |what: &str| budget[what]["count"].as_u64();
    assert_eq!((count("pages"), count("would_have_paged"), count("tickets")), (Some(1), Some(1), Some(3)), "{budget:#}");
    assert_eq!(budget["namespaces"][0]["namespace"], "shop");
    let (code, said) = shop.say(&["budget"]);
    assert!(code == Some(0) && said.contains("Rota default: 1 of 2 pages in 7 days"), "{said}");
    let exceptions = shop.json(&["exception", "list"]);
    assert_eq!((exceptions[0]["name"].as_str(), exceptions[0]["lowered"].as_u64()), (Some("answer-1"), Some(1)), "{exceptions:#}");

    // A file of exceptions: said what it would have hidden, then applied; the caller is in the audit log.
    let file = folder.path().join("exceptions.yaml");
    let text = "exceptions:\n  - {name: sale, namespace: shop, owner: Deployment/web, kind: flood, reason: a sale, expires: 2099-01-01}\n";
    fs::write(&file, text).unwrap();
    let (code, said) = shop.say(&["apply", file.to_str().unwrap(), "--dry-run"]);
    assert!(code == Some(1) && said.contains("at most 366 days ahead"), "{code:?} {said}");
    let day = jiff::Timestamp::from_millisecond(now_unix_ms() + 30 * 86_400_000).unwrap().strftime("%Y-%m-%d").to_string();
    fs::write(&file, text.replace("2099-01-01", &day)).unwrap();
    let dry = shop.json(&["apply", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!(
        (dry[0]["change"].as_str(), dry[0]["would_have_hidden"].as_u64(), dry[0]["pages"].as_u64()),
        (Some("added"), Some(3), Some(3))
    );
    assert_eq!(shop.json(&["exception", "list"]).as_array().unwrap().len(), 1);
    let (code, said) = shop.say(&["apply", file.to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("sale"), "{said}");

    // Hidden now, and still stored.
    let hidden = shop.flood(1, 200).await;
    assert_eq!(told(&hidden), ["note", "page", "exception"], "{hidden:#}");
    assert_eq!(hidden["withheld_by"], "sale");
    assert_eq!(shop.say(&["exception", "remove", "sale"]).0, Some(0));

    // Quiet minutes to judge; the budget says how many were misses.
    let windows = shop.json(&["judge", "--list", "--count", "2"]);
    assert_eq!(windows.as_array().unwrap().len(), 2, "{windows:#}");
    let id = windows[0]["id"].to_string();
    assert!(windows[0]["series"].as_array().unwrap().iter().any(|series| series["feature"] == "cpu_cores"));
    let (code, said) = shop.say(&["judge", &id, "nothing-there", "--author", "mira"]);
    assert!(code == Some(0) && said.contains("label"), "{said}");
    let judged = shop.json(&["budget"])["judged"].clone();
    assert_eq!((judged["judged"].as_u64(), judged["misses"].as_u64()), (Some(1), Some(0)), "{judged}");

    // The answer is taken back, and what followed from it.
    let (code, said) = shop.say(&["answer", "1", "--undo", "--author", "mira"]);
    assert!(code == Some(0) && said.contains("expected is taken back") && said.contains("exception answer-1 is over"), "{said}");
    assert_eq!(shop.say(&["exception", "list"]).0, Some(3));
}
