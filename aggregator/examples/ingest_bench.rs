//! How much the aggregator takes in: decode + features + classify + durable per core, and many streams at once.
//!
//! `ingest_bench [STREAMS] [CONTAINERS] [TICKS]`, by default 1000, 110 and 30. The senders run in a process of their own, so CPU time and memory are the
//! aggregator's alone, TLS included. Prints a JSON list of measurements. `VEDETTE_BENCH_DIR` says where the data goes (the system's
//! temporary directory; durable is only worth its name on a real disk).
#![allow(clippy::unwrap_used)]

#[path = "senders/mod.rs"]
mod senders;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use senders::{Job, Senders};
use serde_json::{Value, json};
use vedette_aggregator::{
    Config,
    serve::{self, Aggregator},
};

/// DESIGN's budget, per core.
const BUDGET: f64 = 300_000.0;
/// Streams that send as fast as they are taken.
const FLAT_OUT: u64 = 4;
/// Rows that they send in all: seconds of CPU time, and few enough to be sealed at once in memory.
const FLAT_OUT_ROWS: u64 = 1_000_000;

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let [flag, job] = &arguments[..]
        && flag == senders::FLAG
    {
        return runtime.block_on(senders::run(Job::read(job)));
    }
    let mut numbers = arguments.iter().map(|argument| argument.parse::<u64>().expect("STREAMS CONTAINERS TICKS are numbers"));
    let mut next = |default| numbers.next().unwrap_or(default);
    let (streams, containers, ticks) = (next(1_000), next(110), next(30));
    let measured = runtime.block_on(async {
        // Memory is told at its highest, so the larger one comes first.
        let mut measured = many_streams(streams, containers, ticks).await;
        measured.extend(flat_out(containers, (FLAT_OUT_ROWS / FLAT_OUT / (containers + 1)).min(ticks * 300)).await);
        measured
    });
    println!("{}", serde_json::to_string_pretty(&measured).unwrap());
}

fn line(name: &str, value: f64, unit: &str, better: &str, budget: Option<f64>) -> Value {
    let ratio = budget.map(|budget| value / budget);
    json!({ "name": name, "value": value, "unit": unit, "better": better, "budget": budget, "peer": null, "peer_value": null, "ratio": ratio })
}

/// A few streams as fast as they are taken; then what they sent is sealed into Parquet, which has its own figure.
async fn flat_out(containers: u64, ticks: u64) -> Vec<Value> {
    let dir = folder();
    let aggregator = open(dir.path(), u64::MAX).await;
    let job = Job { streams: FLAT_OUT, ticks, pace_ms: 0, ..job(&aggregator, dir.path(), containers) };
    let senders = Senders::start(&job);
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let senders = senders.send();
    let (wall, taken_cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let observations = stored(&aggregator, &job) as f64;
    eprintln!(
        "flat out: {observations} observations in {wall:.1} s with {taken_cpu:.1} s of CPU time, {:.1} s of the senders'",
        senders.cpu_seconds
    );

    let cpu = cpu_seconds();
    // The log is sealed once it is old enough, which here is at once.
    aggregator.shared.history.maintain(senders::now(), &[]).await.unwrap();
    let sealed_cpu = cpu_seconds() - cpu;
    assert_eq!(aggregator.shared.history.stats().wal_rows, 0, "everything is sealed");
    aggregator.stop().await;
    let both = taken_cpu + sealed_cpu;
    vec![
        line("ingest: decode + features + classify + durable, TLS included", observations / taken_cpu, "1/s/core", "higher", Some(BUDGET)),
        line("ingest: the same, and sealed into Parquet", observations / both, "1/s/core", "higher", None),
        line(&format!("ingest: observations per second, {FLAT_OUT} streams flat out"), observations / wall, "1/s", "higher", None),
    ]
}

/// Many streams at 1 Hz, each with its own connection; then all of them again at once.
async fn many_streams(streams: u64, containers: u64, ticks: u64) -> Vec<Value> {
    let dir = folder();
    let aggregator = open(dir.path(), Config::default().history.seal_rows).await;
    let job = Job { streams, ticks, pace_ms: 1_000, ..job(&aggregator, dir.path(), containers) };
    let senders = Senders::start(&job);
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let steady = senders.send();
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let observations = stored(&aggregator, &job) as f64;
    eprintln!(
        "{streams} streams: {observations} observations in {wall:.1} s with {cpu:.1} s of CPU time, {:.1} s of the senders'",
        steady.cpu_seconds
    );

    // The storm: every agent comes back at once, with a handshake, all its containers, and a tick that is not acknowledged.
    let again = Job { from: ticks + 1, ticks: 1, pace_ms: 0, ..job.clone() };
    let senders = Senders::start(&again);
    let began = Instant::now();
    senders.send();
    let storm = began.elapsed().as_secs_f64();
    let expected = (streams * (containers + 1) * (ticks + 1)) as f64;
    let ratio = stored(&aggregator, &again) as f64 / expected;
    let refused = aggregator.shared.counters.refused();
    assert!(refused.is_empty(), "refused: {refused:?}");
    aggregator.stop().await;
    vec![
        line(&format!("{streams} streams x {containers} containers: observations per second"), observations / wall, "1/s", "higher", None),
        line(&format!("{streams} streams: cores used, sealing included"), cpu / wall, "cores", "lower", None),
        line(&format!("{streams} streams: batch to acknowledgement, p50"), steady.lag(0.5), "s", "lower", None),
        line(&format!("{streams} streams: batch to acknowledgement, p99"), steady.lag(0.99), "s", "lower", None),
        line(&format!("{streams} streams: highest memory of the process"), highest_rss_mib(), "MiB", "lower", None),
        line(&format!("{streams} streams: reconnect storm until all is acknowledged"), storm, "s", "lower", None),
        line(&format!("{streams} streams: stored of expected"), ratio, "ratio", "higher", Some(1.0)),
    ]
}

/// What history holds. All of it was judged: what the detector had no room for would be cheaper than it should.
fn stored(aggregator: &Aggregator, job: &Job) -> u64 {
    let problems = aggregator.shared.problems.lines();
    assert!(problems.is_empty(), "{problems:?}");
    let stats = aggregator.shared.history.stats();
    eprintln!("{} observations stored", stats.rows);
    assert!(stats.rows >= job.streams * job.ticks * (job.containers + 1), "{} rows", stats.rows);
    stats.rows
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::var_os("VEDETTE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)).unwrap()
}

async fn open(dir: &Path, seal_rows: u64) -> Aggregator {
    let mut config = Config { data_dir: dir.join("data"), ..Config::default() };
    config.grpc.listen = "127.0.0.1:0".parse().unwrap();
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    config.history.seal_rows = seal_rows;
    if seal_rows == u64::MAX {
        config.history.seal_after_seconds = 0;
    }
    let aggregator = serve::start(config).await.unwrap();
    // Housekeeping looks at history at once, and then after a minute.
    tokio::time::sleep(Duration::from_millis(200)).await;
    aggregator
}

fn job(aggregator: &Aggregator, dir: &Path, containers: u64) -> Job {
    Job { address: aggregator.grpc.to_string(), data: dir.join("data"), streams: 1, containers, ticks: 1, from: 1, pace_ms: 0 }
}

/// CPU time of this process in seconds (`/proc/self/stat`, fields 14 and 15, in ticks of 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn highest_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
}
