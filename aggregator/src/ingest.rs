//! `IngestService`: one task per stream, every check at the door, acknowledgements of what is durable.

pub mod check;
mod stream;
mod turns;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use vedette_detect::{AcceptError, Namespaces};
use vedette_history::History;
use vedette_proto::{
    Block,
    v1::{self, ingest_service_server::IngestService},
};

use crate::{
    auth::Grant,
    config,
    counters::{Counters, Refusal},
    fleet::{Fleet, NodeId},
};
pub use turns::Turns;

/// Answers that wait for a peer that does not read; acknowledgements are merged, so few are needed.
const ANSWERS: usize = 4;

/// What every stream needs.
pub struct Door {
    /// The aggregator's own cluster.
    pub cluster: Arc<str>,
    /// Limits.
    pub limits: config::Ingest,
    /// Nodes.
    pub fleet: Arc<Fleet>,
    /// For what is durable already.
    pub history: History,
    /// Counts.
    pub counters: Arc<Counters>,
    /// Who may speak for a spool.
    pub turns: Turns,
    /// To the pipeline, bounded by `ingest.queue_batches`.
    pub work: mpsc::Sender<Work>,
    /// Becomes true when the aggregator stops.
    pub stop: watch::Receiver<bool>,
    /// Numbers the streams.
    pub streams: AtomicU64,
}

/// One stream, as pipeline and keeper know it.
#[derive(Debug)]
pub struct Peer {
    /// Number of the stream.
    pub id: u64,
    /// Its node.
    pub node_id: NodeId,
    /// Cluster or replay name.
    pub cluster: Arc<str>,
    /// Node name.
    pub node: String,
    /// Its spool.
    pub spool_id: [u8; 16],
    /// As stated in Hello.
    pub origin: v1::Origin,
    /// How far its batches are.
    pub progress: watch::Sender<Progress>,
}

/// How far the batches of one stream are.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Highest durable sequence.
    pub durable: u64,
    /// Batches that left the pipeline, durable or not.
    pub finished: u64,
    /// Why a batch could not be made durable.
    pub failed: Option<String>,
}

/// What ingest hands to the pipeline, in the order of each stream.
#[derive(Debug)]
pub enum Work {
    /// A stream opened with these containers.
    Opened(Arc<Peer>, Vec<v1::ContainerAdded>),
    /// A batch.
    Batch(Box<Delivery>),
    /// A stream ended; nothing more comes of it.
    Ended(Arc<Peer>),
    /// An operator says that a new level is normal from now on.
    Accept {
        /// The incident.
        incident_id: u64,
        /// Whether it was.
        reply: oneshot::Sender<Result<(), AcceptError>>,
    },
    /// Somebody answered an incident.
    Answered(u64, v1::Answer),
    /// The configuration says of namespaces something else from now on.
    Namespaces(Namespaces),
    /// The aggregator stops: finish what is queued.
    Stop,
}

/// A batch that was checked and decoded.
#[derive(Debug)]
pub struct Delivery {
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// The batch without its block.
    pub batch: v1::Batch,
    /// The block; without rows where the batch had none.
    pub block: Block,
    /// Live, late or replay.
    pub origin: v1::Origin,
    /// Durable already: only its containers matter.
    pub duplicate: bool,
}

/// A message that is refused: ends its stream, and only that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For the counter and the status code.
    pub reason: Refusal,
    /// Names the field and what is wrong with it.
    pub problem: String,
}

impl Refused {
    /// A refusal.
    #[must_use]
    pub fn new(reason: Refusal, problem: impl Into<String>) -> Self {
        Self { reason, problem: problem.into() }
    }

    /// What the peer is told. The one place where ingest and the check of tokens choose codes.
    #[must_use]
    pub fn status(&self, node: &str) -> Status {
        let text = if node.is_empty() { self.problem.clone() } else { format!("node {node}: {}", self.problem) };
        match self.reason {
            Refusal::Unauthenticated | Refusal::Expired | Refusal::Audience | Refusal::Revoked => Status::unauthenticated(text),
            Refusal::PermissionDenied | Refusal::OtherNode | Refusal::UnknownPod => Status::permission_denied(text),
            Refusal::Future | Refusal::TooOld => Status::out_of_range(text),
            Refusal::Sequence => Status::failed_precondition(text),
            Refusal::Limit => Status::resource_exhausted(text),
            Refusal::Superseded => Status::aborted(text),
            Refusal::Unavailable => Status::unavailable(text),
            _ => Status::invalid_argument(text),
        }
    }
}

/// The service.
pub struct IngestApi(Arc<Door>);

impl IngestApi {
    /// A service behind this door.
    #[must_use]
    pub fn new(door: Arc<Door>) -> Self {
        Self(door)
    }
}

#[tonic::async_trait]
impl IngestService for IngestApi {
    type StreamStream = ReceiverStream<Result<v1::StreamResponse, Status>>;

    async fn stream(&self, request: Request<Streaming<v1::StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let door = Arc::clone(&self.0);
        let grant = request.extensions().get::<Grant>().cloned();
        let grant = grant.ok_or_else(|| Refused::new(Refusal::Unauthenticated, "nobody checked who calls").status(""))?;
        if door.counters.streams.inc() >= door.limits.max_streams as i64 {
            door.counters.streams.dec();
            door.counters.refuse(Refusal::Limit);
            return Err(Refused::new(Refusal::Limit, "too many streams, the limit of ingest.max_streams").status(""));
        }
        let id = door.streams.fetch_add(1, Ordering::Relaxed);
        let (answers, receiver) = mpsc::channel(ANSWERS);
        tokio::spawn(async move {
            stream::serve(&door, id, grant, request.into_inner(), answers).await;
            door.counters.streams.dec();
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
