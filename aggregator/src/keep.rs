//! Makes scored batches durable, in order and overlapping, and tells each stream how far it is; saves and tells of incidents.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::{StreamExt, stream::FuturesOrdered};
use tokio::sync::{broadcast, mpsc};
use vedette_detect::Change;
use vedette_history::{History, HistoryError, Receipt};
use vedette_proto::v1;

use crate::{
    counters::Counters,
    ingest::Peer,
    pipeline::Scored,
    policy::Desk,
    problems::{Problems, Source},
    store::Store,
};

/// Makes batches durable until the queue ends; at most `in_flight` at once. Nothing is acknowledged before.
pub async fn batches(
    history: History,
    mut queue: mpsc::Receiver<Scored>,
    in_flight: usize,
    counters: Arc<Counters>,
    problems: Arc<Problems>,
) {
    let mut waiting = FuturesOrdered::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        tokio::select! {
            scored = queue.recv(), if open && waiting.len() < in_flight => match scored {
                Some(Scored { peer, batch }) => {
                    let (sequence, rows) = (batch.sequence, batch.block.rows.len() as u64);
                    // Submitting fixes the order; history refuses what follows a batch that failed.
                    let receipt = history.submit(batch).await;
                    waiting.push_back(durable(peer, sequence, rows, receipt));
                }
                None => open = false,
            },
            Some((peer, sequence, rows, outcome)) = waiting.next(), if !waiting.is_empty() => {
                counters.durable_queue.dec();
                match &outcome {
                    Ok(()) => {
                        counters.batches.inc();
                        counters.observations.inc_by(rows);
                        problems.clear(Source::History);
                    }
                    Err(error) => {
                        counters.appends_failed.inc();
                        if !is_of_one_peer(error) {
                            problems.state(Source::History, error.to_string());
                        }
                        tracing::error!(node = %peer.node, sequence, %error, "batch is not durable");
                    }
                }
                peer.progress.send_modify(|progress| {
                    progress.finished += 1;
                    match outcome {
                        Ok(()) if progress.failed.is_none() => progress.durable = sequence.max(progress.durable),
                        Ok(()) => {}
                        Err(error) => progress.failed = Some(error.to_string()),
                    }
                });
            }
        }
    }
}

/// Whether the error tells of one peer's batches only, so that everybody else can still be served.
fn is_of_one_peer(error: &HistoryError) -> bool {
    // What a later batch waits for was stated itself, if it was history's fault.
    matches!(error, HistoryError::InvalidBatch { .. } | HistoryError::AfterFailed { .. })
}

async fn durable(
    peer: Arc<Peer>,
    sequence: u64,
    rows: u64,
    receipt: Result<Receipt, HistoryError>,
) -> (Arc<Peer>, u64, u64, Result<(), HistoryError>) {
    let outcome = match receipt {
        Ok(receipt) => receipt.durable().await,
        Err(error) => Err(error),
    };
    (peer, sequence, rows, outcome)
}

/// Gives incidents the severity that policy decides, saves them and tells watchers, until the queue ends. What cannot be saved is still told, and stated as a problem. `open` are
/// those that an earlier run left open.
pub async fn incidents(
    store: Store,
    policy: Arc<Desk>,
    mut queue: mpsc::Receiver<Change>,
    open: Vec<v1::Incident>,
    changes: broadcast::Sender<v1::WatchIncidentsResponse>,
    counters: Arc<Counters>,
    problems: Arc<Problems>,
) {
    // Bounded by detect.max_open_incidents.
    let mut open: HashMap<u64, v1::Severity> = open.iter().map(|incident| (incident.id, incident.severity())).collect();
    count_open(&open, &counters);
    while let Some(Change { change, mut incident, reasoning }) = queue.recv().await {
        let decided = policy.decide(&mut incident).await;
        match decided.and(store.save_incident(&incident, &reasoning).await) {
            Ok(()) => problems.clear(Source::Store),
            Err(error) => {
                tracing::error!(incident = incident.id, %error, "cannot save incident");
                problems.state(Source::Store, format!("incident {}: {error}", incident.id));
            }
        }
        if change == v1::IncidentChange::Opened {
            counters.incident_opened(incident.severity());
            counters.withheld(incident.withheld());
            tracing::info!(incident = incident.id, severity = incident.severity().word(), summary = ?incident.summary, "incident opened");
        }
        match incident.resolved_unix_ms {
            0 => open.insert(incident.id, incident.severity()),
            _ => open.remove(&incident.id),
        };
        count_open(&open, &counters);
        // Nobody watching is no error.
        let _ = changes.send(v1::WatchIncidentsResponse { change: change.into(), incident: Some(incident) });
    }
}

/// Saves what comparing with Prometheus came to, until the queue ends. What cannot be saved is stated as a problem.
pub async fn cross_checks(store: Store, mut queue: mpsc::Receiver<Vec<v1::ComparedCounter>>, problems: Arc<Problems>) {
    while let Some(changed) = queue.recv().await {
        match store.save_cross_checks(&changed).await {
            Ok(()) => problems.clear(Source::CrossChecks),
            Err(error) => problems.state(Source::CrossChecks, error.to_string()),
        }
    }
}

fn count_open(open: &HashMap<u64, v1::Severity>, counters: &Counters) {
    let mut by_severity = BTreeMap::new();
    for severity in open.values() {
        *by_severity.entry(*severity).or_insert(0) += 1;
    }
    counters.incidents_open(&by_severity);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_bad_batch_is_no_failure_of_history() {
        let invalid = HistoryError::InvalidBatch { node: "n".into(), sequence: 1, reason: "no subjects".into() };
        let after = HistoryError::AfterFailed { node: "n".into(), sequence: 2, failed: 1 };
        let backlog = HistoryError::Backlog { segments: 9, cause: "no space left".into() };

        assert!(is_of_one_peer(&invalid) && is_of_one_peer(&after));
        assert!(!is_of_one_peer(&backlog));
    }
}
