//! What history costs: append, seal, merge, bytes per observation, and questions over 10 million rows.
//!
//! Prints a JSON list of measurements. `VEDETTE_BENCH_ROWS` (10,000,000) says over how many; `VEDETTE_BENCH_DIR` where (the
//! system's temporary directory; append is only worth its name on a real disk).
#![allow(clippy::unwrap_used)]

#[path = "node/mod.rs"]
mod node;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::future::join_all;
use node::{Node, TICK_MS};
use serde_json::{Value, json};
use vedette_history::{Config, History, QueryLimits, StoredBatch};

const START: i64 = 1_760_000_400_000;
const HOUR_MS: i64 = 3_600_000;
/// Batches that wait for the same fsyncs: about what a thousand nodes send in half a second.
const WINDOW: usize = 512;
/// Rows appended before they are sealed: just below what the default configuration seals at.
const CHUNK_ROWS: u64 = 130_000;
/// Ticks that are in the log when everything was asked once: as long as it takes until a segment is sealed.
const UNSEALED_TICKS: u64 = 600;

#[tokio::main]
async fn main() {
    let rows: u64 = std::env::var("VEDETTE_BENCH_ROWS").map_or(10_000_000, |text| text.replace('_', "").parse().unwrap());
    let parent = std::env::var_os("VEDETTE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let config = Config {
        dir: dir.path().to_owned(),
        seal_after_seconds: 0,
        retention_days: 36_500,
        retention_bytes: u64::MAX,
        ..Config::default()
    };
    let history = History::open(config).await.unwrap();
    let mut node = Node::new();
    let mut measured = store(&history, &mut node, rows).await;
    measured.extend(ask(&history, &mut node, rows).await);
    history.close().await.unwrap();
    println!("{}", serde_json::to_string_pretty(&measured).unwrap());
}

fn line(name: &str, value: f64, unit: &str, better: &str, budget: Option<f64>) -> Value {
    let ratio = budget.map(|budget| value / budget);
    json!({ "name": name, "value": value, "unit": unit, "better": better, "budget": budget, "peer": null, "peer_value": null, "ratio": ratio })
}

/// CPU time and time of a stretch of work, summed over its turns.
#[derive(Default)]
struct Cost {
    cpu: Duration,
    wall: Duration,
}

impl Cost {
    async fn of<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (cpu, began) = (cpu_time(), Instant::now());
        let result = work.await;
        self.cpu += cpu_time() - cpu;
        self.wall += began.elapsed();
        result
    }
}

/// CPU time of this process, all threads; in hundredths of a second, which chunks are long enough for.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn append(history: &History, batches: Vec<StoredBatch>) {
    let mut batches = batches.into_iter();
    loop {
        let mut receipts = Vec::with_capacity(WINDOW);
        for batch in batches.by_ref().take(WINDOW) {
            receipts.push(history.submit(batch).await.unwrap().durable());
        }
        if receipts.is_empty() {
            return;
        }
        join_all(receipts).await.into_iter().for_each(Result::unwrap);
    }
}

async fn store(history: &History, node: &mut Node, rows: u64) -> Vec<Value> {
    let (mut appending, mut sealing, mut merging) = (Cost::default(), Cost::default(), Cost::default());
    let mut stored = 0;
    while stored < rows {
        let wanted = CHUNK_ROWS.min(rows - stored).div_ceil(node.rows_per_tick());
        let batches: Vec<_> = (0..wanted).map(|_| node.tick(START)).collect();
        stored += wanted * node.rows_per_tick();
        appending.of(append(history, batches)).await;
        sealing.of(history.maintain(START, &[])).await.unwrap();
    }
    let stats = history.stats();
    assert_eq!((stats.rows, stats.wal_rows), (stored, 0), "everything is sealed");
    let sealed_bytes = stats.bytes;
    let files = stats.files;
    // An hour is merged by at most 32 files at a time.
    loop {
        let before = history.stats().files;
        merging.of(history.maintain(START + 10_000 * HOUR_MS, &[])).await.unwrap();
        if history.stats().files == before {
            break;
        }
    }
    let stats = history.stats();
    assert_eq!(stats.rows, stored, "merging keeps every row");
    eprintln!(
        "{stored} rows; {files} files sealed, {} merged; appended in {:.1?}, sealed in {:.1?}, merged in {:.1?}",
        stats.files, appending.wall, sealing.wall, merging.wall
    );
    let per_second = |time: Duration| stored as f64 / time.as_secs_f64().max(0.01);
    vec![
        line("history.append_rows_per_core", per_second(appending.cpu), "rows/s/core", "higher", None),
        line("history.append_rows", per_second(appending.wall), "rows/s", "higher", None),
        line("history.seal_rows_per_core", per_second(sealing.cpu), "rows/s/core", "higher", None),
        line("history.merge_rows_per_core", per_second(merging.cpu), "rows/s/core", "higher", None),
        line("history.bytes_per_observation", stats.bytes as f64 / stored as f64, "bytes", "lower", Some(40.0)),
        line("history.bytes_per_observation_before_merging", sealed_bytes as f64 / stored as f64, "bytes", "lower", None),
    ]
}

/// Milliseconds of planning, and in all: the medians of five, after a first time that is told apart. Each is a session of its own; the page
/// cache is warm, as it is on a node that wrote them.
async fn time(history: &History, sql: &str, expected_rows: Option<usize>) -> (f64, f64) {
    let (mut planning, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let began = Instant::now();
        let session = history.session().unwrap();
        let limits = QueryLimits { max_rows: usize::MAX, timeout: Duration::from_secs(600) };
        let mut answer = history.query(&session, sql, limits).await.unwrap();
        planning.push(began.elapsed().as_secs_f64() * 1e3);
        let rows: usize = answer.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum();
        whole.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(rows > 0 && expected_rows.is_none_or(|expected| expected == rows), "{rows} rows answer {sql}");
    }
    eprintln!("the first session: planned in {:.1} ms, answered in {:.1} ms", planning[0], whole[0]);
    let median = |mut times: Vec<f64>| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (median(planning), median(whole))
}

/// What a person looks at: the last hour of one container.
fn last_hour_of(container_id: &str, end: i64) -> String {
    format!(
        "SELECT time, cpu_usage_us, memory_current_bytes, net_rx_bytes, net_tx_bytes, tcp_active_opens, score, kind FROM observations
         WHERE container_id = '{container_id}' AND time >= to_timestamp_millis({}) ORDER BY time",
        end - HOUR_MS
    )
}

async fn ask(history: &History, node: &mut Node, rows: u64) -> Vec<Value> {
    let ticks = rows.div_ceil(node.rows_per_tick()) as i64;
    let end = START + ticks * TICK_MS;
    // Ten labels of two minutes, spread over everything; a training set wants all columns.
    let label = |place: i64| {
        let from = START + ticks * TICK_MS * place / 10;
        let to = from + 120_000;
        let container = node.container_id(place as usize * 9);
        format!("(container_id = '{container}' AND time >= to_timestamp_millis({from}) AND time < to_timestamp_millis({to}))")
    };
    let labelled = format!("SELECT * FROM observations WHERE {}", (0..10).map(label).collect::<Vec<_>>().join(" OR "));
    let whole = (ticks >= HOUR_MS / TICK_MS).then_some((HOUR_MS / TICK_MS) as usize);
    let all_labels = (ticks >= 1_200).then_some(1_200);
    let (last_hour_planned, last_hour) = time(history, &last_hour_of(node.container_id(17), end), whole).await;
    let (labelled_planned, labelled) = time(history, &labelled, all_labels).await;
    // The last minutes are in the log still, in a row per tick and node.
    append(history, (0..UNSEALED_TICKS).map(|_| node.tick(START)).collect()).await;
    assert_eq!(history.stats().wal_rows, UNSEALED_TICKS * node.rows_per_tick());
    let end = end + UNSEALED_TICKS as i64 * TICK_MS;
    let (_, unsealed) = time(history, &last_hour_of(node.container_id(17), end), whole).await;
    vec![
        line("history.container_last_hour", last_hour, "ms", "lower", Some(50.0)),
        line("history.container_last_hour, planning alone", last_hour_planned, "ms", "lower", None),
        line("history.container_last_hour, ten minutes of it not sealed", unsealed, "ms", "lower", Some(50.0)),
        line("history.all_labelled", labelled, "ms", "lower", Some(2_000.0)),
        line("history.all_labelled, planning alone", labelled_planned, "ms", "lower", None),
    ]
}
