//! Incidents as they open, change and resolve.

use std::sync::Arc;

use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use vedette_proto::v1::{IncidentChange, Selector, Severity, WatchIncidentsRequest, WatchIncidentsResponse};

use crate::{
    Shared,
    label::check,
    query::{about, checked_selector},
    store::IncidentFilter,
};

/// Most watchers at a time.
pub const MAX_WATCHERS: usize = 256;
/// Changes that wait for one watcher beyond those that the broadcast keeps for all.
const QUEUE: usize = 64;
/// Most open incidents that a watch begins with, the newest.
const MAX_CURRENT: usize = 10_000;

/// What a watcher receives.
pub type Changes = ReceiverStream<Result<WatchIncidentsResponse, Status>>;

struct Wanted {
    minimum_severity: Severity,
    selector: Option<Selector>,
}

impl Wanted {
    fn is(&self, change: &WatchIncidentsResponse) -> bool {
        let Some(incident) = &change.incident else { return true };
        incident.severity() >= self.minimum_severity && self.selector.as_ref().is_none_or(|selector| about(selector, incident))
    }
}

/// Begins a watch: those open now unless only changes are wanted, then every change until the client goes away.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field, `RESOURCE_EXHAUSTED` with [`MAX_WATCHERS`]; what the store says.
pub async fn watch(shared: &Shared, slots: &Arc<Semaphore>, request: WatchIncidentsRequest) -> Result<Changes, Status> {
    check::known_or_any("minimum_severity", Severity::WORDS, request.minimum_severity)?;
    let minimum_severity = request.minimum_severity();
    let selector = request.selector.map(|selector| checked_selector(Some(selector), &shared.cluster)).transpose()?;
    let wanted = Wanted { minimum_severity, selector };
    let slot = Arc::clone(slots)
        .try_acquire_owned()
        .map_err(|_| Status::resource_exhausted(format!("{MAX_WATCHERS} watches are open already, the most that are allowed")))?;

    // Listening begins before the list is read: a change in between is sent twice rather than lost.
    let changes = shared.changes.subscribe();
    let mut current = Vec::new();
    if !request.changes_only {
        let filter = IncidentFilter { open_only: true, minimum_severity: wanted.minimum_severity, ..IncidentFilter::default() };
        let stored = shared.store.incidents(&filter, MAX_CURRENT, |_| true).await?;
        current = stored
            .into_iter()
            .map(|stored| WatchIncidentsResponse { change: IncidentChange::Current.into(), incident: Some(stored.incident) })
            .filter(|change| wanted.is(change))
            .collect();
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let _slot = slot;
        forward(current, changes, &wanted, &sender).await;
    });
    Ok(ReceiverStream::new(receiver))
}

/// Runs until the client or the aggregator goes away.
async fn forward(
    current: Vec<WatchIncidentsResponse>,
    mut changes: broadcast::Receiver<WatchIncidentsResponse>,
    wanted: &Wanted,
    sender: &mpsc::Sender<Result<WatchIncidentsResponse, Status>>,
) {
    for change in current {
        if sender.send(Ok(change)).await.is_err() {
            return;
        }
    }
    loop {
        let received = tokio::select! {
            () = sender.closed() => return,
            received = changes.recv() => received,
        };
        let change = match received {
            Ok(change) if wanted.is(&change) => change,
            Ok(_) => continue,
            Err(broadcast::error::RecvError::Lagged(_)) => WatchIncidentsResponse { change: IncidentChange::Missed.into(), incident: None },
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if sender.send(Ok(change)).await.is_err() {
            return;
        }
    }
}
