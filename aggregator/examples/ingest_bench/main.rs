//! How much the aggregator takes in: decode + features + classify + durable per core, and a thousand streams at once.
//!
//! The senders are a process of their own, so CPU and memory are the aggregator's, TLS included; the two share the machine's cores.
//! Prints a JSON list of measurements. `VEDETTE_BENCH_STREAMS` (1000), `VEDETTE_BENCH_CONTAINERS` (110), `VEDETTE_BENCH_TICKS` (30).
#![allow(clippy::unwrap_used)]

mod send;

use std::{path::Path, time::Instant};

use send::{Order, Sent};
use serde_json::{Value, json};
use tokio::process::Command;
use vedette_aggregator::{
    Config,
    serve::{self, Aggregator},
};

/// DESIGN's budget, per core.
const BUDGET: f64 = 300_000.0;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    if let Some(order) = std::env::args().nth(1) {
        let sent = send::send(serde_json::from_str(&order).unwrap()).await;
        println!("{}", serde_json::to_string(&sent).unwrap());
        return;
    }
    let (streams, containers, ticks) = (setting("STREAMS", 1_000), setting("CONTAINERS", 110), setting("TICKS", 30));
    let mut measured = flat_out(containers, 4, ticks * 100).await;
    measured.extend(many_streams(streams, containers, ticks).await);
    println!("{}", serde_json::to_string_pretty(&measured).unwrap());
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(format!("VEDETTE_BENCH_{name}")).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn line(name: &str, value: f64, unit: &str, better: &str, budget: Option<f64>) -> Value {
    let ratio = budget.map(|budget| value / budget);
    json!({ "name": name, "value": value, "unit": unit, "better": better, "budget": budget, "peer": null, "peer_value": null, "ratio": ratio })
}

/// A few streams as fast as they are taken.
async fn flat_out(containers: u64, streams: u64, ticks: u64) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = open(dir.path()).await;
    let (cpu, began) = (cpu_seconds(), Instant::now());
    deliver(&Order { streams, containers, ticks, pace_ms: 0, storm: false, ..at(&aggregator, dir.path()) }).await;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let observations = aggregator.shared.counters.observations.get() as f64;
    aggregator.stop().await;
    vec![
        line("ingest.observations_per_core", observations / cpu, "observations/s/core", "higher", Some(BUDGET)),
        line("ingest.observations", observations / wall, "observations/s", "higher", None),
    ]
}

/// Many streams at 1 Hz, then all of them again at once.
async fn many_streams(streams: u64, containers: u64, ticks: u64) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = open(dir.path()).await;
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let sent = deliver(&Order { streams, containers, ticks, pace_ms: 1_000, storm: true, ..at(&aggregator, dir.path()) }).await;
    let cores = (cpu_seconds() - cpu) / began.elapsed().as_secs_f64();
    let expected = (streams * (containers + 1) * (ticks + 1)) as f64;
    let stored = aggregator.shared.counters.observations.get() as f64;
    let rss = rss_mib();
    aggregator.stop().await;
    let name = |what: &str| format!("ingest.{streams}_streams_of_{containers}.{what}");
    vec![
        line(&name("observations"), sent.observations_per_second, "observations/s", "higher", None),
        line(&name("cores"), cores, "cores", "lower", None),
        line(&name("connected"), sent.connect_seconds, "s", "lower", None),
        line(&name("acknowledged_p50"), sent.lag_p50_seconds, "s", "lower", None),
        line(&name("acknowledged_p99"), sent.lag_p99_seconds, "s", "lower", None),
        line(&name("rss"), rss, "MiB", "lower", None),
        line(&name("reconnect_storm"), sent.storm_seconds, "s", "lower", None),
        line(&name("stored_of_expected"), stored / expected, "ratio", "higher", Some(1.0)),
    ]
}

async fn open(dir: &Path) -> Aggregator {
    let mut config = Config { data_dir: dir.join("data"), ..Config::default() };
    config.grpc.listen = "127.0.0.1:0".parse().unwrap();
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    serve::start(config).await.unwrap()
}

fn at(aggregator: &Aggregator, dir: &Path) -> Order {
    Order { endpoint: format!("https://{}", aggregator.grpc), data_dir: dir.join("data"), ..Order::default() }
}

/// Has another process send.
async fn deliver(order: &Order) -> Sent {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(serde_json::to_string(order).unwrap()).kill_on_drop(true).stderr(std::process::Stdio::inherit());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "the senders failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// CPU time of this process in seconds (`/proc/self/stat`, fields 14 and 15, in ticks of 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
}
