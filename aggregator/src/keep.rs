//! Makes scored batches durable, in order and overlapping, and tells each stream how far it is; saves and tells of incidents; saves what was learnt.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesOrdered};
use tokio::sync::{broadcast, mpsc};
use vedette_detect::{Accepted, Change, Memory};
use vedette_history::{History, HistoryError, Receipt};
use vedette_proto::v1;

use crate::{
    clock,
    counters::Counters,
    ingest::Peer,
    pipeline::Scored,
    policy::Desk,
    problems::{Problems, Source},
    store::{Handled, NewAnswer, Store, StoreError},
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
    open.iter().for_each(|incident| counters.open.note(incident));
    let mut open: HashMap<u64, v1::Severity> = open.iter().map(|incident| (incident.id, incident.severity())).collect();
    count_open(&open, &counters);
    while let Some(Change { change, mut incident, reasoning }) = queue.recv().await {
        let decided = policy.decide(&mut incident).await;
        let saved = store.save_incident(&incident, &reasoning).await;
        // Whoever is told of the change is told what people did about it, too; also while nothing can be written.
        let handled = match &saved {
            Ok(handled) => Some(handled.clone()),
            Err(_) => store.incident(incident.id).await.ok().flatten().map(|stored| Handled::of(&stored.incident)),
        };
        handled.unwrap_or_default().say(&mut incident);
        match decided.and(saved.map(drop)) {
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
        counters.open.note(&incident);
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

/// How soon what could not be saved is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often workloads that are gone for long are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// A workload not seen for so long has no normal any more, in milliseconds: 30 days.
const FORGOTTEN_MS: i64 = 30 * 24 * 3_600_000;

/// How often something is tried before it is given up; what follows is tried once, until something is saved again, so that a full disk does
/// not keep the aggregator from stopping.
const TRIES: usize = 3;

/// Saves what the detector learnt, until the queue ends; of `most` workloads. What cannot be saved is stated as a problem; those workloads
/// come again when they learnt more.
pub async fn memories(store: Store, mut queue: mpsc::Receiver<Vec<Memory>>, most: usize, problems: Arc<Problems>) {
    let mut forget_at = tokio::time::Instant::now();
    let mut tries = TRIES;
    while let Some(learnt) = queue.recv().await {
        let mut saved = store.save_baselines(&learnt).await;
        for _ in 1..tries {
            if saved.is_err() {
                tokio::time::sleep(AGAIN).await;
                saved = store.save_baselines(&learnt).await;
            }
        }
        if let Err(error) = saved {
            tries = 1;
            tracing::error!(%error, workloads = learnt.len(), "what was learnt cannot be saved");
            problems.state(Source::Memory, format!("what was learnt of {} workloads: {error}", learnt.len()));
            continue;
        }
        tries = TRIES;
        if tokio::time::Instant::now() >= forget_at {
            forget_at = tokio::time::Instant::now() + FORGET_EVERY;
            if let Err(error) = store.forget_baselines(clock::unix_ms() - FORGOTTEN_MS, most).await {
                problems.state(Source::Memory, error.to_string());
                continue;
            }
        }
        problems.clear(Source::Memory);
    }
}

/// Records what a timer accepted, as an answer of its own, until the queue ends.
pub async fn accepted(store: Store, mut queue: mpsc::Receiver<Accepted>, problems: Arc<Problems>) {
    while let Some(Accepted { incident_id, workload, .. }) = queue.recv().await {
        match record(&store, incident_id, &workload).await {
            Ok(()) => tracing::warn!(incident = incident_id, %workload, "a timer accepted a new level"),
            Err(error) => problems.state(Source::Store, format!("what a timer accepted of incident {incident_id}: {error}")),
        }
    }
}

/// A timer's answer, and the line of the audit log; of an incident that is gone there is nothing to record.
async fn record(store: &Store, incident_id: u64, workload: &impl std::fmt::Display) -> Result<(), StoreError> {
    let missing = StoreError::Missing { what: "incident", id: incident_id };
    let incident = store.incident(incident_id).await?.ok_or(missing)?.incident;
    let answer = NewAnswer {
        incident_id,
        answer: v1::Answer::Accepted,
        kind: v1::Kind::Unspecified,
        author: TIMER,
        note: "nobody answered within two days, and the new level is steady",
        labels: &[],
        incident: &incident,
        exception: None,
    };
    store.add_answer(&answer).await?;
    store.audit(TIMER, "accept", &format!("incident {incident_id}: {workload}")).await
}

/// The author of what nobody said.
const TIMER: &str = "timer";

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
