//! Listens to incidents and puts them on the board; remembers across restarts what was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{broadcast, watch};
use vedette_proto::v1::{Incident, WatchIncidentsResponse};

use super::{
    Notifier, ReceiverKind,
    board::{Record, Taken},
    stopped,
};
use crate::{
    clock,
    problems::Source,
    store::{Notified, StoreError},
};

/// How often what is over is looked at.
const EXPIRE: Duration = Duration::from_secs(5);

/// Puts what was open or still told when an earlier run ended on the board, and what opened while nobody listened.
///
/// # Errors
/// What the store says.
pub(super) async fn restore(notifier: &Arc<Notifier>) -> Result<(), StoreError> {
    let store = &notifier.shared.store;
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    let mut told: BTreeMap<u64, BTreeMap<usize, String>> = BTreeMap::new();
    for row in store.notified().await? {
        if row.receiver.is_empty() {
            match serde_json::from_str(&row.said) {
                Ok(record) => drop(records.insert(row.incident_id, record)),
                // Told anew then, rather than never.
                Err(error) => tracing::warn!(incident = row.incident_id, %error, "cannot read what was notified"),
            }
        } else if let Some(index) = notifier.config.receivers.iter().position(|receiver| receiver.name == row.receiver) {
            told.entry(row.incident_id).or_default().insert(index, row.said);
        }
    }
    for (id, record) in records {
        match store.incident(id).await? {
            Some(stored) => {
                notifier.board().restore(stored.incident, record, told.remove(&id).unwrap_or_default(), clock::unix_ms());
            }
            None => store.forget_notified(&[id]).await?,
        }
    }
    for stored in store.open_incidents().await? {
        take(notifier, stored.incident).await;
    }
    Ok(())
}

/// Runs until the aggregator stops.
pub(super) async fn run(
    notifier: Arc<Notifier>,
    mut changes: broadcast::Receiver<WatchIncidentsResponse>,
    mut stop: watch::Receiver<bool>,
) {
    let webhook = |index: &usize| notifier.receiver(*index).kind == ReceiverKind::Webhook;
    let webhooks: BTreeSet<usize> = (0..notifier.config.receivers.len()).filter(webhook).collect();
    let mut tick = tokio::time::interval(EXPIRE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = tick.tick() => {
                wake(&notifier).await;
                expire(&notifier, &webhooks).await;
            }
            received = changes.recv() => match received {
                Ok(change) => {
                    if let Some(incident) = change.incident {
                        take(&notifier, incident).await;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => catch_up(&notifier).await,
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

/// Some changes were missed: the store knows what is so.
async fn catch_up(notifier: &Arc<Notifier>) {
    let ids = notifier.board().firing_ids();
    let mut missed = Vec::new();
    for id in ids {
        match notifier.shared.store.incident(id).await {
            Ok(stored) => missed.extend(stored.map(|stored| stored.incident)),
            Err(error) => return notifier.shared.problems.state(Source::Store, error.to_string()),
        }
    }
    match notifier.shared.store.open_incidents().await {
        Ok(open) => missed.extend(open.into_iter().map(|stored| stored.incident)),
        Err(error) => return notifier.shared.problems.state(Source::Store, error.to_string()),
    }
    for incident in missed {
        take(notifier, incident).await;
    }
}

async fn take(notifier: &Arc<Notifier>, incident: Incident) {
    let id = incident.id;
    let Taken { record, news, dropped } = notifier.board().take(incident, clock::unix_ms());
    if dropped {
        notifier.shared.counters.notify.dropped.inc();
    }
    if let Some(record) = record {
        remember_record(notifier, id, &record).await;
    }
    if news {
        tell(notifier);
    }
}

/// Snoozes end by time, too.
async fn wake(notifier: &Arc<Notifier>) {
    let woken = notifier.board().wake(clock::unix_ms());
    for (id, record) in &woken {
        remember_record(notifier, *id, record).await;
    }
    if !woken.is_empty() {
        tell(notifier);
    }
}

/// There is something new to say.
fn tell(notifier: &Arc<Notifier>) {
    notifier.shared.counters.notify.firing.set(notifier.board().firing() as i64);
    notifier.news.send_modify(|count| *count += 1);
}

async fn remember_record(notifier: &Arc<Notifier>, incident_id: u64, record: &Record) {
    let said = serde_json::to_string(record).expect("a record is strings and numbers");
    remember(notifier, Notified { incident_id, receiver: String::new(), said }).await;
}

/// A webhook was told.
pub(super) async fn told(notifier: &Arc<Notifier>, index: usize, incident: u64, stage: &str) {
    notifier.board().told(index, incident, stage);
    let receiver = notifier.receiver(index).name.clone();
    remember(notifier, Notified { incident_id: incident, receiver, said: stage.to_owned() }).await;
}

async fn remember(notifier: &Arc<Notifier>, told: Notified) {
    if let Err(error) = notifier.shared.store.save_notified(&told).await {
        // Told all the same; after a restart perhaps twice.
        notifier.shared.problems.state(Source::Store, error.to_string());
    }
}

async fn expire(notifier: &Arc<Notifier>, webhooks: &BTreeSet<usize>) {
    let (gone, untold) = notifier.board().expire(webhooks, clock::unix_ms());
    notifier.shared.counters.notify.dropped.inc_by(untold);
    if let Err(error) = notifier.shared.store.forget_notified(&gone).await {
        notifier.shared.problems.state(Source::Store, error.to_string());
    }
}
