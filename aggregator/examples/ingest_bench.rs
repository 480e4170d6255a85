//! How much the aggregator takes in: decode + features + classify + durable per core, and many streams at once.
//!
//! Both run in this process, so CPU and memory include the senders: what the aggregator alone needs is less. Prints a JSON list of measurements. `VEDETTE_BENCH_STREAMS` (1000), `VEDETTE_BENCH_CONTAINERS` (110), `VEDETTE_BENCH_TICKS` (20).
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use vedette_aggregator::{
    Config,
    serve::{self, Aggregator},
};
use vedette_proto::{
    Block, Column, Observation,
    v1::{self, ingest_service_client::IngestServiceClient, stream_request::Message, stream_response},
};

/// DESIGN's budget, per core.
const BUDGET: f64 = 300_000.0;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let (streams, containers, ticks) = (setting("STREAMS", 1_000), setting("CONTAINERS", 110), setting("TICKS", 20));
    let mut measured = Vec::new();
    measured.extend(flat_out(containers, 4, 2_000.min(ticks * 100)).await);
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

/// A few streams as fast as they are taken, over TLS; the CPU time is that of the whole process.
async fn flat_out(containers: u64, streams: u64, ticks: u64) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let (aggregator, channel, token) = open(dir.path()).await;
    let blocks: Vec<_> = (0..streams).map(|stream| blocks(stream, containers, ticks)).collect();
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let mut senders = JoinSet::new();
    for (stream, blocks) in blocks.into_iter().enumerate() {
        let (channel, token) = (channel.clone(), token.clone());
        senders.spawn(async move { deliver(&channel, &token, stream as u64, containers, blocks, Duration::ZERO, 1).await });
    }
    senders.join_all().await;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let observations = aggregator.shared.counters.observations.get() as f64;
    aggregator.stop().await;
    vec![
        line("ingest, observations per CPU-second, senders and TLS included", observations / cpu, "1/s", "higher", Some(BUDGET)),
        line("ingest, observations per second of wall time, 4 streams", observations / wall, "1/s", "higher", None),
    ]
}

/// Many streams at 1 Hz, then all of them again at once.
async fn many_streams(streams: u64, containers: u64, ticks: u64) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let (aggregator, channel, token) = open(dir.path()).await;
    let (cpu, began) = (cpu_seconds(), Instant::now());
    let mut senders = JoinSet::new();
    for stream in 0..streams {
        let (channel, token) = (channel_of(&aggregator, dir.path(), stream, &channel).await, token.clone());
        let blocks = blocks(stream, containers, ticks);
        senders.spawn(async move { deliver(&channel, &token, stream, containers, blocks, Duration::from_secs(1), 1).await });
    }
    let mut lags: Vec<f64> = senders.join_all().await.into_iter().flatten().collect();
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let observations = aggregator.shared.counters.observations.get() as f64;
    lags.sort_by(f64::total_cmp);
    let at = |quantile: f64| lags[((lags.len() - 1) as f64 * quantile) as usize];

    // The storm: every agent comes back at once, with everything unacknowledged of one tick.
    let storm = Instant::now();
    let mut senders = JoinSet::new();
    for stream in 0..streams {
        let (channel, token) = (channel_of(&aggregator, dir.path(), stream, &channel).await, token.clone());
        let blocks = blocks(stream, containers, 1);
        senders.spawn(async move { deliver(&channel, &token, stream, containers, blocks, Duration::ZERO, ticks + 1).await });
    }
    senders.join_all().await;
    let storm = storm.elapsed().as_secs_f64();
    let expected = (streams * (containers + 1) * (ticks + 1)) as f64;
    let stored = aggregator.shared.counters.observations.get() as f64;
    let rss = rss_mib();
    aggregator.stop().await;
    vec![
        line(&format!("{streams} streams x {containers} containers: observations per second"), observations / wall, "1/s", "higher", None),
        line(&format!("{streams} streams: cores used, senders included"), cpu / wall, "cores", "lower", None),
        line(&format!("{streams} streams: batch to acknowledgement, p50"), at(0.5), "s", "lower", None),
        line(&format!("{streams} streams: batch to acknowledgement, p99"), at(0.99), "s", "lower", None),
        line(&format!("{streams} streams: memory of process, senders included"), rss, "MiB", "lower", None),
        line(&format!("{streams} streams: reconnect storm until all is acknowledged"), storm, "s", "lower", None),
        line(&format!("{streams} streams: stored of expected"), stored / expected, "ratio", "higher", Some(1.0)),
    ]
}

async fn open(dir: &Path) -> (Aggregator, Channel, String) {
    let mut config = Config { data_dir: dir.join("data"), ..Config::default() };
    config.grpc.listen = "127.0.0.1:0".parse().unwrap();
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    let aggregator = serve::start(config).await.unwrap();
    let token = std::fs::read_to_string(dir.join("data/agent.token")).unwrap().trim().to_owned();
    let channel = connect(&aggregator, dir).await;
    (aggregator, channel, token)
}

/// A connection serves at most 64 calls at once.
async fn channel_of(aggregator: &Aggregator, dir: &Path, stream: u64, first: &Channel) -> Channel {
    if stream < 32 { first.clone() } else { connect(aggregator, dir).await }
}

async fn connect(aggregator: &Aggregator, dir: &Path) -> Channel {
    let ca = std::fs::read(dir.join("data/tls/ca.pem")).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
    Channel::from_shared(format!("https://{}", aggregator.grpc)).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
}

/// Ticks of a node whose containers do ordinary, slightly different things.
fn blocks(stream: u64, containers: u64, ticks: u64) -> Vec<v1::ColumnBlock> {
    let row = |container: u64, tick: u64| {
        let mut row = Observation::default();
        let noise = (stream * 31 + container * 17 + tick * 7) % 97;
        row.set(Column::IntervalUs, 1_000_000 + noise);
        row.set(Column::CpuUsageUs, 20_000 + noise * 50);
        row.set(Column::MemoryCurrentBytes, (64 << 20) + noise * 4_096);
        for column in [Column::NetRxBytes, Column::NetRxPackets, Column::NetTxBytes, Column::NetTxPackets] {
            row.set(column, 1_000 + noise);
        }
        if tick % 5 == container % 5 {
            row.set(Column::SlowIntervalUs, 5_000_000);
            for &column in Column::ALL.iter().filter(|column| (21..=80).contains(&column.id())) {
                row.set(column, noise);
            }
        }
        row
    };
    let unix_ms = |tick: u64| now() - (ticks - tick) as i64 * 10;
    let block = |tick| Block {
        unix_ms: unix_ms(tick),
        container_refs: (0..=containers as u32).collect(),
        rows: (0..=containers).map(|container| row(container, tick)).collect(),
    };
    (0..ticks).map(|tick| block(tick).encode()).collect()
}

/// Sends the blocks at a pace; gives the seconds from each batch to its acknowledgement.
async fn deliver(
    channel: &Channel,
    token: &str,
    stream: u64,
    containers: u64,
    blocks: Vec<v1::ColumnBlock>,
    pace: Duration,
    from: u64,
) -> Vec<f64> {
    let added = |container_ref| v1::ContainerAdded {
        container_ref,
        pod_uid: format!("pod-{stream}-{container_ref}"),
        container_id: format!("{stream:032x}{container_ref:032x}"),
        cgroup: format!("/kubepods/{stream}/{container_ref}"),
        first_seen_unix_ms: now(),
        already_running: true,
        ..v1::ContainerAdded::default()
    };
    let hello = v1::Hello {
        node: format!("node-{stream}"),
        spool_id: u128::from(stream + 1).to_be_bytes().to_vec(),
        origin: v1::Origin::Live.into(),
        containers: (1..=containers as u32).map(added).collect(),
        ..v1::Hello::default()
    };
    let (to, messages) = mpsc::channel(16);
    let said = |message| v1::StreamRequest { message: Some(message) };
    to.send(said(Message::Hello(hello))).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(messages));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let mut answers = IngestServiceClient::new(channel.clone()).stream(request).await.unwrap().into_inner();
    let last = from + blocks.len() as u64 - 1;
    let (sent, mut times) = mpsc::channel(blocks.len().max(1));
    let sender = tokio::spawn(async move {
        for (place, mut block) in blocks.into_iter().enumerate() {
            if !pace.is_zero() {
                block.unix_ms = now();
            }
            let batch = v1::Batch { sequence: from + place as u64, block: Some(block), ..v1::Batch::default() };
            let _ = sent.try_send(Instant::now());
            to.send(said(Message::Batch(batch))).await.unwrap();
            tokio::time::sleep(pace).await;
        }
        to
    });
    let (mut lags, mut acknowledged) = (Vec::new(), from - 1);
    while acknowledged < last {
        let answer = answers.message().await.unwrap().expect("the stream goes on");
        if let Some(stream_response::Message::Acknowledgement(ack)) = answer.message {
            for _ in acknowledged..ack.sequence {
                if let Ok(sent) = times.try_recv() {
                    lags.push(sent.elapsed().as_secs_f64());
                }
            }
            acknowledged = ack.sequence.max(acknowledged);
        }
    }
    drop(sender.await.unwrap());
    lags
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
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
