//! Sends batches to the aggregator in order, and forgets them when they are acknowledged.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri},
};
use vedette_proto::{
    Column,
    v1::{
        Batch, ContainerRemoved, Goodbye, Heartbeat, Hello, Origin, StreamRequest, StreamResponse,
        ingest_service_client::IngestServiceClient, stream_request, stream_response,
    },
};

use crate::{
    config::UplinkConfig,
    metrics::{Metrics, Reason},
    outbox::Outbox,
    resolve::addresses,
};

/// Connecting, and waiting for the answer to Hello.
const CONNECT: Duration = Duration::from_secs(10);
/// A stream whose batches are not acknowledged for so long is given up and begun anew.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
/// How often an unanswered peer is pinged, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Port of an endpoint that names none.
const HTTPS: u16 = 443;
/// The same failure is logged again after so long.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Whether the sensor works; the uplink says so in its heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SensorStatus {
    /// The last tick read what it meant to read.
    pub ready: bool,
    /// Why not, one line.
    pub error: String,
    /// When the last tick ended, and after how long without one the sensor counts as hung. `None` where nobody keeps time.
    pub ticked: Option<(Instant, Duration)>,
}

impl SensorStatus {
    /// Why the sensor does not work now; `None` while it does. A tick that never ends cannot say so itself.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let silent = self.ticked.map(|(at, limit)| (at.elapsed(), limit)).filter(|(silent, limit)| silent > limit);
        match silent {
            Some((silent, _)) => Some(format!("no tick for {} s", silent.as_secs())),
            None => (!self.ready).then(|| self.error.clone()),
        }
    }
}

/// Who is speaking.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Node name.
    pub node: String,
    /// The sampling interval in milliseconds.
    pub interval_ms: u32,
    /// Random id of the boot; empty where not known.
    pub boot_id: String,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("cannot read {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect { endpoint: String, reason: String },
    #[error("{endpoint} refuses: {reason}")]
    Refused { endpoint: String, reason: String },
    #[error("the stream to {endpoint} ended: {reason}")]
    Ended { endpoint: String, reason: String },
}

impl StreamError {
    fn label(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Connect { .. } => "connect",
            Self::Refused { .. } => "refused",
            Self::Ended { .. } => "ended",
        }
    }
}

/// Everything the uplink works with.
pub struct Uplink {
    /// Where to send.
    pub config: UplinkConfig,
    /// Who is speaking.
    pub speaker: Speaker,
    /// What to send.
    pub outbox: Arc<Outbox>,
    /// For heartbeats.
    pub sensor: watch::Receiver<SensorStatus>,
    /// Set once the agent stops: until then it may drain.
    pub stop: watch::Receiver<Option<Instant>>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Uplink {
    /// Streams until told to stop, and after that until everything is acknowledged or the time is up. Says whether all was acknowledged.
    pub async fn run(mut self) -> bool {
        let mut failures = 0u32;
        let mut logged: Option<(String, Instant)> = None;
        loop {
            if self.stopped() {
                return self.outbox.is_drained();
            }
            let acknowledged = self.outbox.acknowledged();
            let error = match self.stream().await {
                Ok(()) => return self.outbox.is_drained(),
                Err(ended) => ended,
            };
            self.metrics.connected.set(0);
            self.metrics.stream_failures.get_or_create(&Reason { reason: error.label() }).inc();
            // A welcome alone is no success: the same batch may be refused over and over.
            failures = if self.outbox.acknowledged() > acknowledged { 0 } else { failures.saturating_add(1) };
            let text = error.to_string();
            if logged.as_ref().is_none_or(|(before, at)| *before != text || at.elapsed() > LOG_AGAIN) {
                tracing::warn!(error = %text, waiting = self.outbox.waiting(), "no stream to the aggregator; batches wait in the spool");
                logged = Some((text, Instant::now()));
            }
            let wait = self.backoff(failures);
            let stopping = self.stop.borrow().is_some();
            tokio::select! {
                () = sleep(wait) => {}
                // A stop ends the wait; after it the waits are short.
                _ = self.stop.changed(), if !stopping => {}
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.borrow().is_some_and(|deadline| Instant::now() >= deadline || self.outbox.is_drained())
    }

    /// Doubles with every failure; the jitter keeps a thousand agents from coming back at once.
    fn backoff(&self, failures: u32) -> Duration {
        let (min, max) = (self.config.backoff_min_ms, self.config.backoff_max_ms);
        let full = min.saturating_mul(1 << failures.min(16)).min(max);
        let full = if self.stop.borrow().is_some() { full.min(min) } else { full };
        Duration::from_millis(full).mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    async fn connect(&self) -> Result<(Channel, Option<MetadataValue<tonic::metadata::Ascii>>), StreamError> {
        let file = |path: &std::path::Path| {
            let name = path.display().to_string();
            std::fs::read(path).map_err(|source| StreamError::File { path: name, source })
        };
        let endpoint = self.config.endpoint.clone();
        let failed = |reason: String| StreamError::Connect { endpoint: endpoint.clone(), reason };
        let ca = file(&self.config.ca_file)?;
        let token = if self.config.token_file.as_os_str().is_empty() {
            None
        } else {
            let token = file(&self.config.token_file)?;
            let text = format!("Bearer {}", String::from_utf8_lossy(&token).trim());
            let mut value: MetadataValue<_> =
                text.parse().map_err(|_| failed(format!("{} holds no token", self.config.token_file.display())))?;
            value.set_sensitive(true);
            Some(value)
        };
        let uri: Uri = endpoint.parse().map_err(|error| failed(format!("{error}")))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = if self.config.server_name.is_empty() { host } else { &self.config.server_name };
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).assume_http2(true).domain_name(name);
        let found = addresses(host, &self.config.resolv_conf).await.map_err(|error| failed(error.to_string()))?;
        let mut reason = String::new();
        for address in found {
            match open(SocketAddr::new(address, uri.port_u16().unwrap_or(HTTPS)), &uri, &tls).await {
                Ok(channel) => return Ok((channel, token)),
                Err(error) => reason = chain(&error),
            }
        }
        Err(failed(reason))
    }

    fn hello(&self) -> Hello {
        Hello {
            node: self.speaker.node.clone(),
            spool_id: self.outbox.spool_id().to_vec(),
            origin: Origin::Live.into(),
            replay_session: String::new(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            column_ids: Column::ALL.iter().map(|column| column.id()).collect(),
            interval_ms: self.speaker.interval_ms,
            boot_id: self.speaker.boot_id.clone(),
            containers: self.outbox.referred(),
        }
    }

    /// One stream, from Hello to Goodbye.
    async fn stream(&mut self) -> Result<(), StreamError> {
        let endpoint = self.config.endpoint.clone();
        let refused = |reason: String| StreamError::Refused { endpoint: endpoint.clone(), reason };
        let (channel, token) = timeout(CONNECT * 2, self.connect())
            .await
            .map_err(|_| StreamError::Connect { endpoint: endpoint.clone(), reason: "timed out".to_owned() })??;
        let mut client = IngestServiceClient::new(channel);
        let (sender, receiver) = mpsc::channel(4);
        // Before Hello: what is dropped from now on it does not know.
        let drops = self.outbox.drops();
        // The channel has room: nothing was sent yet.
        let _ = sender.try_send(message(stream_request::Message::Hello(self.hello())));
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token);
        }
        let answer = timeout(CONNECT, client.stream(request)).await.map_err(|_| refused("no answer to the stream".to_owned()))?;
        let mut incoming = answer.map_err(|status| refused(status_text(&status)))?.into_inner();
        let first = timeout(CONNECT, incoming.message()).await.map_err(|_| refused("no answer to Hello".to_owned()))?;
        let welcome = match first.map_err(|status| refused(status_text(&status)))?.and_then(|response| response.message) {
            Some(stream_response::Message::Welcome(welcome)) => welcome,
            _ => return Err(refused("the answer to Hello is no Welcome".to_owned())),
        };
        let removed = self.outbox.welcomed(welcome.acknowledged_sequence);
        self.metrics.connected.set(1);
        tracing::info!(%endpoint, acknowledged = welcome.acknowledged_sequence, waiting = self.outbox.waiting(), "stream established");
        let heartbeat = match welcome.heartbeat_interval_ms {
            0 => self.config.heartbeat_ms,
            asked => self.config.heartbeat_ms.min(u64::from(asked)).max(100),
        };
        let next = welcome.acknowledged_sequence + 1;
        self.exchange(sender, &mut incoming, Opened { next, drops, removed }, Duration::from_millis(heartbeat))
            .await
            .map_err(|reason| StreamError::Ended { endpoint: endpoint.clone(), reason })
    }

    /// Sends what is there within the window and takes acknowledgements, until the stream fails or the agent stops.
    async fn exchange(
        &mut self,
        sender: mpsc::Sender<StreamRequest>,
        incoming: &mut Streaming<StreamResponse>,
        opened: Opened,
        heartbeat: Duration,
    ) -> Result<(), String> {
        let Opened { mut next, drops, mut removed } = opened;
        let mut acknowledged = next - 1;
        // Read and decoded once, however long it waits for room.
        let mut pending: Option<Batch> = None;
        let mut progress = Instant::now();
        let mut heartbeats = interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.stopped() {
                let goodbye = message(stream_request::Message::Goodbye(Goodbye { reason: "terminated".to_owned() }));
                let _ = timeout(Duration::from_secs(1), sender.send(goodbye)).await;
                break;
            }
            let stopping = self.stop.borrow().is_some();
            let in_flight = next - 1 - acknowledged;
            // A batch that was refused is sent alone: then it is clear which one is refused again.
            let window = in_flight == 0 || (in_flight < self.config.window as u64 && !self.outbox.suspects(acknowledged + 1));
            if window && pending.is_none() {
                pending = self.outbox.read(next).map_err(|error| format!("cannot read batch {next} from the spool: {error}"))?;
                if pending.as_ref().is_some_and(|batch| batch.sequence != next) && self.outbox.drops() != drops {
                    // What the lost batches announced or removed only a new Hello can say.
                    return Err("the spool dropped batches not yet sent; beginning anew".to_owned());
                }
            }
            let waiting = pending.is_none();
            tokio::select! {
                permit = sender.reserve(), if !waiting => {
                    let Ok(permit) = permit else { return Err("closed by the aggregator".to_owned()) };
                    if let Some(mut batch) = pending.take() {
                        if acknowledged + 1 == next {
                            progress = Instant::now();
                        }
                        // Hello named them though they are gone: what was acknowledged was not known then.
                        batch.removed.append(&mut removed);
                        next = batch.sequence + 1;
                        permit.send(message(stream_request::Message::Batch(batch)));
                    }
                }
                response = incoming.message() => match response {
                    Ok(Some(StreamResponse { message: Some(stream_response::Message::Acknowledgement(ack)) })) => {
                        self.outbox.acknowledge(ack.sequence);
                        acknowledged = acknowledged.max(ack.sequence.min(next - 1));
                        progress = Instant::now();
                    }
                    Ok(Some(_)) => return Err("the aggregator sent what is not expected here".to_owned()),
                    Ok(None) => return Err("closed by the aggregator".to_owned()),
                    Err(status) => {
                        if next - 1 > acknowledged && is_refusal(status.code()) {
                            self.outbox.refused(acknowledged + 1, &status_text(&status));
                        }
                        return Err(status_text(&status));
                    }
                },
                () = self.outbox.appended.notified(), if waiting && window => {}
                _ = heartbeats.tick() => {
                    if next - 1 > acknowledged && progress.elapsed() > UNACKNOWLEDGED {
                        return Err(format!("batch {} is not acknowledged", acknowledged + 1));
                    }
                    let problem = self.sensor.borrow().problem();
                    let beat = Heartbeat {
                        unix_ms: crate::agent::unix_ms(),
                        outbox_batches: self.outbox.waiting(),
                        sensor_ready: problem.is_none(),
                        sensor_error: problem.unwrap_or_default(),
                    };
                    // A full channel means that batches are on their way: those say as much.
                    let _ = sender.try_send(message(stream_request::Message::Heartbeat(beat)));
                }
                _ = self.stop.changed() => {}
                () = sleep(Duration::from_millis(100)), if stopping => {}
            }
        }
        drop(sender);
        // The aggregator ends the stream once it has read Goodbye.
        let _ = timeout(Duration::from_secs(2), async {
            while let Ok(Some(StreamResponse { message: Some(stream_response::Message::Acknowledgement(ack)) })) = incoming.message().await
            {
                self.outbox.acknowledge(ack.sequence);
            }
        })
        .await;
        Ok(())
    }
}

/// A connection to one address of a host; it is named in requests as the endpoint names it.
async fn open(address: SocketAddr, uri: &Uri, tls: &ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("https://{address}"))?
        .origin(uri.clone())
        .tls_config(tls.clone())?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
}

/// What is known once a stream is open.
struct Opened {
    /// The sequence to go on with.
    next: u64,
    /// [`Outbox::drops`] when Hello was made.
    drops: u64,
    /// Containers that Hello named and the aggregator had seen removed.
    removed: Vec<ContainerRemoved>,
}

/// Whether it is the message that is at fault: sending it again will not help.
fn is_refusal(code: tonic::Code) -> bool {
    use tonic::Code::{FailedPrecondition, InvalidArgument, OutOfRange, ResourceExhausted};
    // The last of these is a batch beyond the aggregator's limits.
    matches!(code, InvalidArgument | OutOfRange | FailedPrecondition | ResourceExhausted)
}

fn message(message: stream_request::Message) -> StreamRequest {
    StreamRequest { message: Some(message) }
}

fn status_text(status: &tonic::Status) -> String {
    let text = if status.message().is_empty() { chain(status) } else { status.message().to_owned() };
    format!("{:?}: {}", status.code(), text.replace('\n', " "))
}

/// An error with what caused it, on one line: the cause is what says "invalid peer certificate".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensor_without_a_tick_for_too_long_is_not_ready() {
        let now = Instant::now();
        let status = |limit| SensorStatus { ready: true, error: String::new(), ticked: Some((now, limit)) };
        std::thread::sleep(Duration::from_millis(20));

        assert_eq!(status(Duration::from_secs(60)).problem(), None);
        assert_eq!(status(Duration::from_millis(10)).problem().as_deref(), Some("no tick for 0 s"));
    }
}
