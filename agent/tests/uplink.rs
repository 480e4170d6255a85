//! The uplink against an aggregator's door in this process: it resends what was not acknowledged and forgets nothing.
#![allow(clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};
use vedette_agent::{
    config::{OutboxConfig, UplinkConfig},
    metrics::Metrics,
    outbox::Outbox,
    uplink::{SensorStatus, Speaker, Uplink},
};
use vedette_proto::v1::{
    Acknowledgement, Batch, ColumnBlock, ContainerAdded, Hello, StreamRequest, StreamResponse, Welcome,
    ingest_service_server::{IngestService, IngestServiceServer},
    stream_request, stream_response,
};

/// What came through the door.
#[derive(Default)]
struct Seen {
    hellos: Vec<Hello>,
    tokens: Vec<String>,
    sequences: Vec<u64>,
    durable: u64,
    heartbeats: usize,
    goodbyes: usize,
}

/// A door that acknowledges each batch, and breaks off after so many per stream.
#[derive(Clone)]
struct Door {
    seen: Arc<Mutex<Seen>>,
    break_after: usize,
}

#[tonic::async_trait]
impl IngestService for Door {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let token = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.seen.lock().unwrap().tokens.extend(token);
        let mut incoming = request.into_inner();
        let (sender, receiver) = mpsc::channel(16);
        let door = self.clone();
        tokio::spawn(async move {
            let mut left = door.break_after;
            while let Some(Ok(request)) = incoming.next().await {
                let answer = match request.message.unwrap() {
                    stream_request::Message::Hello(hello) => {
                        let mut seen = door.seen.lock().unwrap();
                        seen.hellos.push(hello);
                        stream_response::Message::Welcome(Welcome { acknowledged_sequence: seen.durable, ..Default::default() })
                    }
                    stream_request::Message::Batch(batch) => {
                        let mut seen = door.seen.lock().unwrap();
                        seen.sequences.push(batch.sequence);
                        if left == 0 {
                            // Received, and broken off before it was acknowledged.
                            return;
                        }
                        left -= 1;
                        seen.durable = seen.durable.max(batch.sequence);
                        stream_response::Message::Acknowledgement(Acknowledgement { sequence: batch.sequence })
                    }
                    stream_request::Message::Heartbeat(_) => {
                        door.seen.lock().unwrap().heartbeats += 1;
                        continue;
                    }
                    stream_request::Message::Goodbye(_) => {
                        door.seen.lock().unwrap().goodbyes += 1;
                        return;
                    }
                };
                if sender.send(Ok(StreamResponse { message: Some(answer) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Serves a door with TLS; its certificate authority is written into the folder.
async fn serve(folder: &Path, break_after: usize) -> (SocketAddr, Arc<Mutex<Seen>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("ca.crt"), made.cert.pem()).unwrap();
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let door = Door { seen: seen.clone(), break_after };
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))
        .unwrap()
        .add_service(IngestServiceServer::new(door))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (address, seen)
}

struct Running {
    outbox: Arc<Outbox>,
    stop: watch::Sender<Option<tokio::time::Instant>>,
    _sensor: watch::Sender<SensorStatus>,
    metrics: Metrics,
    task: JoinHandle<bool>,
}

fn start(folder: &Path, address: SocketAddr) -> Running {
    let metrics = Metrics::default();
    std::fs::write(folder.join("token"), "secret\n").unwrap();
    let spool = OutboxConfig { dir: folder.join("spool"), ..OutboxConfig::default() };
    let outbox = Arc::new(Outbox::open(spool, "boot", metrics.clone()).unwrap());
    let (sensor, sensor_seen) = watch::channel(SensorStatus { ready: true, ..SensorStatus::default() });
    let (stop, stop_seen) = watch::channel(None);
    let uplink = Uplink {
        config: UplinkConfig {
            endpoint: format!("https://{address}"),
            ca_file: folder.join("ca.crt"),
            token_file: folder.join("token"),
            backoff_min_ms: 10,
            backoff_max_ms: 50,
            heartbeat_ms: 100,
            window: 4,
            ..UplinkConfig::default()
        },
        speaker: Speaker { node: "node-1".to_owned(), interval_ms: 1_000, boot_id: "boot".to_owned() },
        outbox: outbox.clone(),
        sensor: sensor_seen,
        stop: stop_seen,
        metrics: metrics.clone(),
    };
    Running { outbox, stop, _sensor: sensor, metrics, task: tokio::spawn(uplink.run()) }
}

fn batch(tick: i64, added: Vec<ContainerAdded>) -> Batch {
    let now = vedette_agent::agent::unix_ms();
    Batch { added, block: Some(ColumnBlock { unix_ms: now + tick, container_refs: vec![0, 1], columns: Vec::new() }), ..Batch::default() }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not in 30 s: {what}"));
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_in_order_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (address, seen) = serve(folder.path(), 3).await;
    let running = start(folder.path(), address);
    let added = ContainerAdded { container_ref: 1, container_id: "c".to_owned(), ..Default::default() };

    for tick in 0..20 {
        running.outbox.append(batch(tick, if tick == 0 { vec![added.clone()] } else { Vec::new() }), vedette_agent::agent::unix_ms());
    }
    until("all acknowledged", || running.outbox.is_drained()).await;

    let seen = seen.lock().unwrap();
    let mut durable: Vec<u64> = seen.sequences.clone();
    durable.dedup();
    durable.sort_unstable();
    durable.dedup();
    assert_eq!(durable, (1..=20).collect::<Vec<_>>());
    assert!(seen.sequences.len() > 20, "some were sent again: {:?}", seen.sequences);
    assert!(seen.hellos.len() > 3, "streams were begun anew");
    assert!(seen.tokens.iter().all(|token| token == "Bearer secret") && seen.tokens.len() == seen.hellos.len());
    assert_eq!(seen.hellos.last().unwrap().containers, [added], "later streams refer to it without adding it");
    assert_eq!(running.metrics.acknowledged_observations.get(), 20);
}

#[tokio::test]
async fn a_stop_drains_until_acknowledged_and_says_goodbye() {
    let folder = tempfile::tempdir().unwrap();
    let (address, seen) = serve(folder.path(), usize::MAX).await;
    let running = start(folder.path(), address);
    until("a heartbeat without any batch", || seen.lock().unwrap().heartbeats > 0).await;
    for tick in 0..50 {
        running.outbox.append(batch(tick, Vec::new()), vedette_agent::agent::unix_ms());
    }

    running.stop.send(Some(tokio::time::Instant::now() + Duration::from_secs(20))).unwrap();
    let drained = running.task.await.unwrap();

    assert!(drained && running.outbox.is_drained());
    let seen = seen.lock().unwrap();
    assert_eq!((seen.durable, seen.goodbyes, seen.hellos.len()), (50, 1, 1));
}

#[tokio::test]
async fn what_welcome_says_is_durable_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (address, seen) = serve(folder.path(), usize::MAX).await;
    seen.lock().unwrap().durable = 3;
    let spool = OutboxConfig { dir: folder.path().join("spool"), ..OutboxConfig::default() };
    let outbox = Outbox::open(spool, "boot", Metrics::default()).unwrap();
    for tick in 0..5 {
        outbox.append(batch(tick, Vec::new()), vedette_agent::agent::unix_ms());
    }
    drop(outbox);

    let running = start(folder.path(), address);
    until("the rest is acknowledged", || running.outbox.is_drained()).await;

    assert_eq!(seen.lock().unwrap().sequences, [4, 5]);
}

#[tokio::test]
async fn a_wrong_certificate_stops_nothing_but_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let (address, seen) = serve(folder.path(), usize::MAX).await;
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let right = std::fs::read(folder.path().join("ca.crt")).unwrap();
    std::fs::write(folder.path().join("ca.crt"), other.cert.pem()).unwrap();
    let running = start(folder.path(), address);
    running.outbox.append(batch(0, Vec::new()), vedette_agent::agent::unix_ms());
    let connect = vedette_agent::metrics::Reason { reason: "connect" };
    until("two refusals", || running.metrics.stream_failures.get_or_create(&connect).get() >= 2).await;
    assert!(seen.lock().unwrap().hellos.is_empty());
    assert_eq!(running.outbox.waiting(), 1);

    std::fs::write(folder.path().join("ca.crt"), right).unwrap();
    until("acknowledged with the right one", || running.outbox.is_drained()).await;

    assert_eq!(seen.lock().unwrap().sequences, [1]);
}
