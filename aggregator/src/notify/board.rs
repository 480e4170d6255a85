//! The board: what there is to tell of, and to whom. Pure: the clock is given.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vedette_proto::v1::{Answer, Incident, Origin};

use super::{
    alert::{self, Alert, Identity, annotations, kind_word, link, rfc3339},
    route::Routes,
};

/// Most incidents on the board, those that resolved a moment ago among them; beyond it a new one is not told, and counted. As many as
/// the detector opens by default.
pub const MAX_ENTRIES: usize = 10_000;
/// Most identities told as over because their severity changed; beyond it the oldest go, and Alertmanager ends them by itself.
const MAX_RETIRED: usize = 1_000;
/// Pods, nodes and containers of an incident that are kept for telling.
const MAX_NAMES: usize = 20;
/// A webhook that is away for so long after the end of an incident is not told of it any more, and that is counted.
const GIVE_UP_MS: i64 = 3_600_000;

/// What is remembered of an incident across a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its labels.
    pub identity: Identity,
    /// Since when these fire, Unix milliseconds.
    pub since_unix_ms: i64,
    /// How often it began again after it had resolved.
    pub turn: u32,
}

struct Entry {
    incident: Incident,
    record: Record,
    receivers: BTreeSet<usize>,
    /// When it was over, by our clock. `None` while it fires.
    over_ms: Option<i64>,
    /// What webhooks were told last.
    told: BTreeMap<usize, String>,
}

/// One thing that a webhook is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What is remembered once it was told; with cluster and incident it names the event for ever.
    pub stage: String,
    /// The incident as it is now.
    pub incident: Incident,
    /// Whether it goes on.
    pub firing: bool,
}

/// What taking a change in came to.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// To be remembered for this incident.
    pub record: Option<Record>,
    /// Receivers should hear of it soon.
    pub news: bool,
    /// There was no room.
    pub dropped: bool,
}

/// What there is to tell of.
pub struct Board {
    cluster: String,
    routes: Routes,
    resolved_ms: i64,
    entries: BTreeMap<u64, Entry>,
    /// Identities that are over because their incident is told as another one, since when they fired, and when they ended.
    retired: Vec<(Identity, i64, i64)>,
}

impl Board {
    /// An empty board of the cluster with this name. What is over is told for `resolved_ms` more.
    #[must_use]
    pub fn new(cluster: &str, routes: Routes, resolved_ms: i64) -> Self {
        Self { cluster: cluster.to_owned(), routes, resolved_ms, entries: BTreeMap::new(), retired: Vec::new() }
    }

    /// Goes on with an incident of an earlier run: as it was told, and to whom.
    pub fn restore(&mut self, incident: Incident, record: Record, told: BTreeMap<usize, String>) {
        // An end that came while nobody listened, or just before: by event time, which is all there is.
        let over_ms = is_over(&incident).then(|| incident.resolved_unix_ms.max(incident.updated_unix_ms));
        let receivers = self.routes.receivers(&incident).iter().copied().chain(told.keys().copied()).collect();
        self.entries.insert(incident.id, Entry { incident: trimmed(incident), record, receivers, over_ms, told });
    }

    /// Takes in an incident as it is now.
    pub fn take(&mut self, incident: Incident, now_ms: i64) -> Taken {
        let own = incident.workload.as_ref().is_some_and(|workload| workload.cluster == self.cluster);
        if !own || incident.origin() == Origin::Replay {
            return Taken::default();
        }
        let mut incident = trimmed(incident);
        let receivers: BTreeSet<usize> = self.routes.receivers(&incident).iter().copied().collect();
        let Some(entry) = self.entries.get_mut(&incident.id) else {
            if receivers.is_empty() || is_over(&incident) {
                return Taken::default();
            }
            if self.entries.len() >= MAX_ENTRIES {
                return Taken { dropped: true, ..Taken::default() };
            }
            let identity = Identity::new(&incident, kind_word(incident.kind()));
            let record = Record { identity, since_unix_ms: incident.onset_unix_ms, turn: 0 };
            let entry = Entry { incident, record: record.clone(), receivers, over_ms: None, told: BTreeMap::new() };
            self.entries.insert(entry.incident.id, entry);
            return Taken { record: Some(record), news: true, dropped: false };
        };
        if incident.answer() == Answer::Unspecified {
            // The detector does not know what people said.
            incident.answer = entry.incident.answer;
        }
        let before = entry.record.clone();
        let was_over = entry.over_ms.is_some();
        // Who was told of it is told of its end, even if it goes to nobody any more.
        let over = is_over(&incident) || receivers.is_empty();
        if !receivers.is_empty() {
            entry.receivers.extend(receivers);
            let identity = Identity::new(&incident, &before.identity.kind);
            if identity != before.identity {
                entry.record = Record { identity, since_unix_ms: incident.updated_unix_ms.max(before.since_unix_ms), ..before.clone() };
            }
        }
        match (was_over, over) {
            (false, true) => entry.over_ms = Some(now_ms),
            (true, false) => {
                entry.over_ms = None;
                entry.record.turn += 1;
                entry.record.since_unix_ms = incident.updated_unix_ms.max(before.since_unix_ms);
            }
            _ => {}
        }
        entry.incident = incident;
        let changed = entry.record != before;
        let record = changed.then(|| entry.record.clone());
        if changed && !was_over && entry.record.identity != before.identity {
            self.retired.push((before.identity, before.since_unix_ms, now_ms));
            let too_many = self.retired.len().saturating_sub(MAX_RETIRED);
            self.retired.drain(..too_many);
        }
        Taken { record, news: changed || was_over != over, dropped: false }
    }

    /// Takes those off that everybody was told of for long enough: their ids, and how many webhooks were never told.
    pub fn expire(&mut self, webhooks: &BTreeSet<usize>, now_ms: i64) -> (Vec<u64>, u64) {
        let resolved_ms = self.resolved_ms;
        self.retired.retain(|(_, _, over_ms)| now_ms - over_ms < resolved_ms);
        let mut gone = Vec::new();
        let mut untold = 0;
        self.entries.retain(|id, entry| {
            let Some(over_ms) = entry.over_ms else { return true };
            let waiting =
                entry.receivers.intersection(webhooks).filter(|index| entry.told.get(*index) != Some(&entry.stage())).count() as u64;
            let stays = now_ms - over_ms < resolved_ms || (waiting > 0 && now_ms - over_ms < GIVE_UP_MS);
            if !stays {
                gone.push(*id);
                untold += waiting;
            }
            stays
        });
        (gone, untold)
    }

    /// Incidents that fire.
    #[must_use]
    pub fn firing(&self) -> usize {
        self.entries.values().filter(|entry| entry.over_ms.is_none()).count()
    }

    /// Ids of the incidents that fire.
    #[must_use]
    pub fn firing_ids(&self) -> Vec<u64> {
        self.entries.iter().filter(|(_, entry)| entry.over_ms.is_none()).map(|(id, _)| *id).collect()
    }

    /// What an Alertmanager is to hear now: one alert for each identity, however many incidents have it. What fires ends by itself at
    /// `until_ms` unless it is sent again.
    #[must_use]
    pub fn alerts(&self, receiver: usize, pattern: &str, until_ms: i64, now_ms: i64) -> Vec<Alert> {
        let mut alerts: BTreeMap<&Identity, (bool, Alert)> = BTreeMap::new();
        for (identity, since_ms, over_ms) in &self.retired {
            alerts.insert(identity, (false, ended(identity, *since_ms, *over_ms)));
        }
        // Ids count up, so the newest speaks last: what fires goes before what is over, whichever is newer.
        for entry in self.entries.values().filter(|entry| entry.receivers.contains(&receiver)) {
            let identity = &entry.record.identity;
            let firing = entry.over_ms.is_none();
            if entry.over_ms.is_some_and(|over_ms| now_ms - over_ms >= self.resolved_ms) {
                continue;
            }
            let before = alerts.get(identity);
            if before.is_some_and(|(other_fires, _)| *other_fires && !firing) {
                continue;
            }
            let since_ms = entry.record.since_unix_ms;
            let mut one = Alert {
                labels: identity.labels(),
                annotations: annotations(&entry.incident),
                starts_at: rfc3339(since_ms),
                ends_at: rfc3339(entry.over_ms.map_or(until_ms, |over_ms| over_ms.max(since_ms))),
                generator_url: link(pattern, entry.incident.id),
            };
            if let Some((true, other)) = before {
                one.starts_at.clone_from(&other.starts_at);
            }
            alerts.insert(identity, (firing, one));
        }
        alerts.into_values().map(|(_, alert)| alert).collect()
    }

    /// What a webhook was not told yet, the oldest incident first.
    #[must_use]
    pub fn events(&self, receiver: usize, most: usize) -> Vec<Event> {
        let waiting = |entry: &&Entry| entry.receivers.contains(&receiver) && entry.told.get(&receiver) != Some(&entry.stage());
        let event = |entry: &Entry| Event { stage: entry.stage(), incident: entry.incident.clone(), firing: entry.over_ms.is_none() };
        self.entries.values().filter(waiting).take(most).map(event).collect()
    }

    /// A webhook was told.
    pub fn told(&mut self, receiver: usize, incident: u64, stage: &str) {
        if let Some(entry) = self.entries.get_mut(&incident) {
            entry.told.insert(receiver, stage.to_owned());
        }
    }
}

impl Entry {
    /// What a webhook is told once: that it fires, as severe as this, or that it is over; again after each new beginning.
    fn stage(&self) -> String {
        let what = if self.over_ms.is_some() { "resolved" } else { self.record.identity.severity.as_str() };
        format!("{what}-{}", self.record.turn)
    }
}

/// Resolved, or somebody looked and said that there is nothing to do.
fn is_over(incident: &Incident) -> bool {
    incident.resolved_unix_ms > 0 || matches!(incident.answer(), Answer::Expected | Answer::NothingThere)
}

/// The message cannot hold more names than are told.
fn trimmed(mut incident: Incident) -> Incident {
    incident.pods.truncate(MAX_NAMES);
    incident.nodes.truncate(MAX_NAMES);
    incident.container_ids.truncate(MAX_NAMES);
    incident
}

/// The end of an identity whose incident goes on as another.
fn ended(identity: &Identity, since_ms: i64, over_ms: i64) -> Alert {
    let summary = "goes on with another severity".to_owned();
    Alert {
        labels: identity.labels(),
        annotations: [("summary", summary)].into(),
        starts_at: alert::rfc3339(since_ms),
        ends_at: alert::rfc3339(over_ms.max(since_ms)),
        generator_url: String::new(),
    }
}

#[cfg(test)]
mod tests;
