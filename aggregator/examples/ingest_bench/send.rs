//! The agents of the benchmark: streams of ordinary nodes, each connection its own, as agents have them.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Barrier, mpsc},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use vedette_proto::{
    Block, Column, Observation,
    v1::{self, ingest_service_client::IngestServiceClient, stream_request::Message, stream_response},
};

/// What to send, and where.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Order {
    /// Of the aggregator.
    pub endpoint: String,
    /// The aggregator's, for its certificate and token.
    pub data_dir: PathBuf,
    /// Nodes.
    pub streams: u64,
    /// On each.
    pub containers: u64,
    /// Batches of each.
    pub ticks: u64,
    /// Between two ticks; 0 is as fast as they are taken.
    pub pace_ms: u64,
    /// At the end everybody comes back at once with one batch more.
    pub storm: bool,
}

/// How it went.
#[derive(Serialize, Deserialize)]
pub struct Sent {
    /// Until every stream is welcome.
    pub connect_seconds: f64,
    /// Acknowledged, from the first tick to the last acknowledgement.
    pub observations_per_second: f64,
    /// From a batch to its acknowledgement.
    pub lag_p50_seconds: f64,
    /// The same.
    pub lag_p99_seconds: f64,
    /// Until all that came back are acknowledged.
    pub storm_seconds: f64,
}

/// Sends.
pub async fn send(order: Order) -> Sent {
    let endpoint = endpoint(&order);
    let began = Instant::now();
    let everybody = Arc::new(Barrier::new(order.streams as usize + 1));
    let mut agents = JoinSet::new();
    for stream in 0..order.streams {
        let (order, endpoint, everybody) = (order.clone(), endpoint.clone(), Arc::clone(&everybody));
        agents.spawn(async move {
            let mut agent = Agent::connect(&endpoint, &order, stream).await;
            everybody.wait().await;
            agent.ticks(&order, stream, 1..=order.ticks).await
        });
    }
    everybody.wait().await;
    let (connect_seconds, started) = (began.elapsed().as_secs_f64(), Instant::now());
    let mut lags: Vec<f64> = agents.join_all().await.into_iter().flatten().collect();
    let wall = started.elapsed().as_secs_f64();
    lags.sort_by(f64::total_cmp);
    let at = |quantile: f64| lags[((lags.len() - 1) as f64 * quantile) as usize];
    let storm = Instant::now();
    if order.storm {
        let mut agents = JoinSet::new();
        for stream in 0..order.streams {
            let (order, endpoint) = (order.clone(), endpoint.clone());
            agents.spawn(async move {
                let mut agent = Agent::connect(&endpoint, &order, stream).await;
                agent.ticks(&Order { pace_ms: 0, ..order.clone() }, stream, order.ticks + 1..=order.ticks + 1).await
            });
        }
        agents.join_all().await;
    }
    Sent {
        connect_seconds,
        observations_per_second: (order.streams * order.ticks * (order.containers + 1)) as f64 / wall,
        lag_p50_seconds: at(0.5),
        lag_p99_seconds: at(0.99),
        storm_seconds: storm.elapsed().as_secs_f64(),
    }
}

fn endpoint(order: &Order) -> Endpoint {
    let ca = std::fs::read(order.data_dir.join("tls/ca.pem")).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
    Channel::from_shared(order.endpoint.clone()).unwrap().tls_config(tls).unwrap()
}

struct Agent {
    to: mpsc::Sender<v1::StreamRequest>,
    answers: Streaming<v1::StreamResponse>,
}

impl Agent {
    /// Connects, says who it is and waits until it is welcome.
    async fn connect(endpoint: &Endpoint, order: &Order, stream: u64) -> Self {
        let channel = endpoint.connect().await.unwrap();
        let token = std::fs::read_to_string(order.data_dir.join("agent.token")).unwrap();
        let (to, messages) = mpsc::channel(16);
        to.send(said(Message::Hello(hello(stream, order.containers)))).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
        let mut answers = IngestServiceClient::new(channel).stream(request).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert!(matches!(answer.message, Some(stream_response::Message::Welcome(_))));
        Self { to, answers }
    }

    /// Sends these ticks at the order's pace; gives the seconds from each batch to its acknowledgement.
    async fn ticks(&mut self, order: &Order, stream: u64, ticks: std::ops::RangeInclusive<u64>) -> Vec<f64> {
        let (first, last) = (*ticks.start(), *ticks.end());
        let (to, order) = (self.to.clone(), order.clone());
        let (sent, mut times) = mpsc::channel((last - first + 1) as usize);
        let sender = tokio::spawn(async move {
            // Agents' ticks are spread over the second.
            let pace = Duration::from_millis(order.pace_ms);
            let begin = tokio::time::Instant::now() + pace * (stream % 1_000) as u32 / 1_000;
            for tick in ticks {
                tokio::time::sleep_until(begin + pace * (tick - first) as u32).await;
                // Without a pace a tick is 10 ms: event times must ascend and not be ahead.
                let unix_ms = if pace.is_zero() { now() - (last - tick) as i64 * 10 } else { now() };
                let block = block(unix_ms, stream, order.containers, tick).encode();
                let _ = sent.try_send(Instant::now());
                to.send(said(Message::Batch(v1::Batch { sequence: tick, block: Some(block), ..v1::Batch::default() }))).await.unwrap();
            }
        });
        let (mut lags, mut acknowledged) = (Vec::new(), first - 1);
        while acknowledged < last {
            let answer = self.answers.message().await.unwrap().expect("the stream goes on");
            if let Some(stream_response::Message::Acknowledgement(ack)) = answer.message {
                for _ in acknowledged..ack.sequence {
                    if let Ok(sent) = times.try_recv() {
                        lags.push(sent.elapsed().as_secs_f64());
                    }
                }
                acknowledged = ack.sequence.max(acknowledged);
            }
        }
        sender.await.unwrap();
        lags
    }
}

fn said(message: Message) -> v1::StreamRequest {
    v1::StreamRequest { message: Some(message) }
}

fn hello(stream: u64, containers: u64) -> v1::Hello {
    let added = |container_ref| v1::ContainerAdded {
        container_ref,
        pod_uid: format!("pod-{stream}-{container_ref}"),
        container_id: format!("{stream:032x}{container_ref:032x}"),
        cgroup: format!("/kubepods/{stream}/{container_ref}"),
        first_seen_unix_ms: now(),
        already_running: true,
        ..v1::ContainerAdded::default()
    };
    v1::Hello {
        node: format!("node-{stream}"),
        spool_id: u128::from(stream + 1).to_be_bytes().to_vec(),
        origin: v1::Origin::Live.into(),
        containers: (1..=containers as u32).map(added).collect(),
        ..v1::Hello::default()
    }
}

/// A tick of a node whose containers do ordinary, slightly different things: no facts, no incidents.
fn block(unix_ms: i64, stream: u64, containers: u64, tick: u64) -> Block {
    let row = |container: u64| {
        let noise = (stream * 31 + container * 17 + tick * 7) % 97;
        let mut row = Observation::default();
        let mut set = |column, value| row.set(column, value);
        set(Column::IntervalUs, 1_000_000 + noise);
        if container == 0 {
            set(Column::NodeCpuBusyUs, 400_000 + noise * 500);
            set(Column::NodeCpuIdleUs, 1_600_000 - noise * 500);
            set(Column::NodeMemoryTotalBytes, 64 << 30);
            set(Column::NodeMemoryAvailableBytes, 32 << 30);
            set(Column::NodeContainers, containers);
            return row;
        }
        set(Column::CpuUsageUs, 20_000 + noise * 50);
        set(Column::MemoryCurrentBytes, (64 << 20) + noise * 4_096);
        for column in [Column::NetRxBytes, Column::NetRxPackets, Column::NetTxBytes, Column::NetTxPackets] {
            set(column, 1_000 + noise);
        }
        set(Column::NetDropped, 0);
        if tick % 5 == container % 5 {
            for &column in Column::ALL.iter().filter(|column| (21..=80).contains(&column.id())) {
                set(column, ordinary(column, noise));
            }
            set(Column::SlowIntervalUs, 5_000_000);
        }
        row
    };
    Block { unix_ms, container_refs: (0..=containers as u32).collect(), rows: (0..=containers).map(row).collect() }
}

fn ordinary(column: Column, noise: u64) -> u64 {
    match column {
        Column::MemoryLimitBytes => 512 << 20,
        Column::PidsLimit => 4_096,
        Column::PidsCurrent => 8,
        Column::CpuPeriods => 50,
        Column::TcpActiveOpens | Column::TcpPassiveOpens | Column::TcpEstablished | Column::TcpSockets => 3 + noise % 3,
        Column::CpuUserUs | Column::CpuSystemUs => 50_000 + noise * 100,
        column if column.name().starts_with("memory") && column.unit() == "bytes" => (48 << 20) + noise * 4_096,
        Column::TcpInSegments | Column::TcpOutSegments | Column::PageFaults => 100 + noise,
        // What goes wrong does not.
        _ => 0,
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}
