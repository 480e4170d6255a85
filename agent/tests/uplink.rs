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

async fn serve(folder: &Path, break_after: usize) -> (SocketAddr, Arc<Mutex<Seen>>) {
    serve_as("127.0.0.1", folder, break_after).await
}

/// Serves a door with TLS under a name; its certificate authority is written into the folder.
async fn serve_as(name: &str, folder: &Path, break_after: usize) -> (SocketAddr, Arc<Mutex<Seen>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
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
    start_towards(folder, &format!("https://{address}"))
}

fn start_towards(folder: &Path, endpoint: &str) -> Running {
    let metrics = Metrics::default();
    std::fs::write(folder.join("token"), "secret\n").unwrap();
    let spool = OutboxConfig { dir: folder.join("spool"), ..OutboxConfig::default() };
    let outbox = Arc::new(Outbox::open(spool, "boot", metrics.clone()).unwrap());
    let (sensor, sensor_seen) = watch::channel(SensorStatus { ready: true, ..SensorStatus::default() });
    let (stop, stop_seen) = watch::channel(None);
    let uplink = Uplink {
        config: UplinkConfig {
            endpoint: endpoint.to_owned(),
            resolv_conf: folder.join("resolv.conf"),
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

/// Names that were asked for, with the type of the record, in order.
type Asked = Arc<Mutex<Vec<(String, u16)>>>;

/// A name server that knows one name, by an A record for this machine; any other name it says there is not.
async fn name_server(listen: SocketAddr, known: &'static str) -> std::io::Result<Asked> {
    let (socket, asked) = (tokio::net::UdpSocket::bind(listen).await?, Asked::default());
    let told = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let (mut end, mut labels) = (12, Vec::new());
            while buffer[end] != 0 {
                let next = end + 1 + usize::from(buffer[end]);
                labels.push(String::from_utf8_lossy(&buffer[end + 1..next]).to_lowercase());
                end = next;
            }
            let (name, kind) = (labels.join("."), u16::from_be_bytes([buffer[end + 1], buffer[end + 2]]));
            assert!(end + 5 <= length, "a question has a type and a class");
            let mut answer = buffer[..end + 5].to_vec();
            // A response to a recursive question; no error, or no such name. One question, and nothing yet.
            (answer[2], answer[3]) = (0x81, if name == known { 0x80 } else { 0x83 });
            answer[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
            if name == known && kind == 1 {
                answer[7] = 1;
                // The name is where the question has it; A, IN, five seconds, four bytes.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
            }
            told.lock().unwrap().push((name, kind));
            let _ = socket.send_to(&answer, peer).await;
        }
    });
    Ok(asked)
}

#[tokio::test]
async fn a_name_is_asked_for_as_the_settings_of_a_pod_say() {
    // Name servers have port 53, and only loopback is ever sent to.
    let server = SocketAddr::from(([127, 86, 68, 53], 53));
    let asked = match name_server(server, "vedette-aggregator.vedette.svc.cluster.local").await {
        Ok(asked) => asked,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none_or(|value| value != "true"),
                "cannot run, and CI=true forbids to skip: {server}: {error}"
            );
            eprintln!("SKIPPED: a name server on {server}: {error}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let settings =
        format!("nameserver {}\nsearch vedette-agent.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", server.ip());
    std::fs::write(folder.path().join("resolv.conf"), settings).unwrap();
    let (address, seen) = serve_as("vedette-aggregator.vedette.svc", folder.path(), usize::MAX).await;

    let running = start_towards(folder.path(), &format!("https://vedette-aggregator.vedette.svc:{}", address.port()));
    running.outbox.append(batch(0, Vec::new()), vedette_agent::agent::unix_ms());
    until("acknowledged", || running.outbox.is_drained()).await;

    assert_eq!(seen.lock().unwrap().sequences, [1]);
    let asked = asked.lock().unwrap();
    let mut names: Vec<_> = asked.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let searched = ["svc.vedette-agent.svc.cluster.local", "svc.svc.cluster.local", "svc.cluster.local"];
    assert_eq!(names, searched.map(|end| format!("vedette-aggregator.vedette.{end}")));
    let kinds: std::collections::BTreeSet<_> = asked.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [1, 28], "both families");
}
