//! The agents of the benchmark, in a process of their own: what they cost is not the aggregator's.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig},
};
use vedette_proto::{
    Block, Column, Observation,
    v1::{self, ingest_service_client::IngestServiceClient, stream_request::Message, stream_response},
};

/// The argument before a job.
pub const FLAG: &str = "--send";
/// Batches on their way without an acknowledgement, as an agent has them.
const WINDOW: u64 = 32;
/// Different ticks; which columns a row has repeats after five.
const VARIANTS: u64 = 20;

/// What goes wrong, and does not here.
const FAILS: [Column; 10] = [
    Column::Restarts,
    Column::OomKills,
    Column::RawSockets,
    Column::PacketSockets,
    Column::ArpIncomplete,
    Column::TcpAttemptFails,
    Column::TcpEstabResets,
    Column::TcpOutResets,
    Column::TcpSynRetransmits,
    Column::ListenDrops,
];

/// What is to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The aggregator's.
    pub address: String,
    /// The aggregator's, for certificate and token.
    pub data: PathBuf,
    pub streams: u64,
    pub containers: u64,
    pub ticks: u64,
    /// The first sequence.
    pub from: u64,
    /// Time between two ticks of a stream; 0 is as fast as they are taken.
    pub pace_ms: u64,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sent {
    /// From each batch to its acknowledgement, ascending.
    lags: Vec<f64>,
    /// The senders' CPU time.
    pub cpu_seconds: f64,
}

impl Sent {
    pub fn lag(&self, quantile: f64) -> f64 {
        self.lags[((self.lags.len() - 1) as f64 * quantile) as usize]
    }
}

impl Job {
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap()
    }
}

/// A process of senders that is ready.
pub struct Senders {
    child: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Senders {
    pub fn start(job: &Job) -> Self {
        let job = serde_json::to_string(job).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.args([FLAG, &job]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(answers.next().unwrap().unwrap(), "ready");
        Self { child, answers }
    }

    /// Sends, until all is acknowledged.
    pub fn send(mut self) -> Sent {
        writeln!(self.child.stdin.take().unwrap(), "go").unwrap();
        let sent = self.answers.next().expect("the senders go on to their end").unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&sent).unwrap()
    }
}

/// The process itself.
pub async fn run(job: Job) {
    let blocks: Arc<Vec<v1::ColumnBlock>> = Arc::new((0..VARIANTS.min(job.ticks)).map(|tick| block(job.containers, tick)).collect());
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let job = Arc::new(job);
    let mut senders = JoinSet::new();
    for stream in 0..job.streams {
        let (job, blocks) = (Arc::clone(&job), Arc::clone(&blocks));
        senders.spawn(async move { deliver(&job, stream, &blocks).await });
    }
    let mut lags: Vec<f64> = senders.join_all().await.into_iter().flatten().collect();
    lags.sort_by(f64::total_cmp);
    println!("{}", serde_json::to_string(&Sent { lags, cpu_seconds: super::cpu_seconds() }).unwrap());
}

/// A tick of a node whose containers do ordinary, slightly different things.
fn block(containers: u64, tick: u64) -> v1::ColumnBlock {
    let row = |container: u64| {
        let mut row = Observation::default();
        let noise = (container * 17 + tick * 7) % 97;
        row.set(Column::IntervalUs, 1_000_000 + noise);
        row.set(Column::CpuUsageUs, 20_000 + noise * 50);
        row.set(Column::MemoryCurrentBytes, (64 << 20) + noise * 4_096);
        for column in [Column::NetRxBytes, Column::NetRxPackets, Column::NetTxBytes, Column::NetTxPackets] {
            row.set(column, 1_000 + noise);
        }
        if tick % 5 == container % 5 {
            row.set(Column::SlowIntervalUs, 5_000_000);
            for &column in Column::ALL.iter().filter(|column| (21..=80).contains(&column.id())) {
                row.set(column, if FAILS.contains(&column) { 0 } else { noise });
            }
            row.set(Column::PidsLimit, 4_096);
            row.set(Column::MemoryLimitBytes, 512 << 20);
        }
        row
    };
    let rows = (0..=containers).map(row).collect();
    Block { unix_ms: 0, container_refs: (0..=containers as u32).collect(), rows }.encode()
}

/// One stream from its handshake on; gives the seconds from each batch to its acknowledgement.
async fn deliver(job: &Job, stream: u64, blocks: &[v1::ColumnBlock]) -> Vec<f64> {
    let pace = Duration::from_millis(job.pace_ms);
    // Agents are not in step.
    tokio::time::sleep(pace.mul_f64(stream as f64 / job.streams as f64)).await;
    let (to, messages) = mpsc::channel(16);
    let said = |message| v1::StreamRequest { message: Some(message) };
    to.send(said(Message::Hello(hello(job, stream)))).await.unwrap();
    let mut request = Request::new(ReceiverStream::new(messages));
    let token = std::fs::read_to_string(job.data.join("agent.token")).unwrap();
    request.metadata_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    let mut answers = IngestServiceClient::new(connect(job).await).stream(request).await.unwrap().into_inner();

    let last = job.from + job.ticks - 1;
    let (mut next, mut acknowledged) = (job.from, job.from - 1);
    let (mut sent, mut lags) = (std::collections::VecDeque::new(), Vec::new());
    let mut due = tokio::time::Instant::now();
    while acknowledged < last {
        tokio::select! {
            answer = answers.message() => {
                let answer = answer.unwrap().expect("the stream goes on");
                if let Some(stream_response::Message::Acknowledgement(ack)) = answer.message {
                    for _ in acknowledged..ack.sequence {
                        let at: Instant = sent.pop_front().expect("nothing is acknowledged that was not sent");
                        lags.push(at.elapsed().as_secs_f64());
                    }
                    acknowledged = ack.sequence.max(acknowledged);
                }
            }
            () = tokio::time::sleep_until(due), if next <= last && next <= acknowledged + WINDOW => {
                let mut block = blocks[(next % blocks.len() as u64) as usize].clone();
                // A stream flat out sends more than a tick in a millisecond, and event time has to go on.
                block.unix_ms = now() - if job.pace_ms == 0 { (last - next) as i64 } else { 0 };
                let batch = v1::Batch { sequence: next, block: Some(block), ..v1::Batch::default() };
                sent.push_back(Instant::now());
                to.send(said(Message::Batch(batch))).await.unwrap();
                next += 1;
                due += pace;
            }
        }
    }
    lags
}

fn hello(job: &Job, stream: u64) -> v1::Hello {
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
        containers: (1..=job.containers as u32).map(added).collect(),
        ..v1::Hello::default()
    }
}

/// Comes back until it is let in, as an agent does.
async fn connect(job: &Job) -> Channel {
    let ca = std::fs::read(job.data.join("tls/ca.pem")).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
    let endpoint = Channel::from_shared(format!("https://{}", job.address)).unwrap().tls_config(tls).unwrap();
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

pub fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}
