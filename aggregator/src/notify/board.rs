//! The board: what there is to tell of, and to whom. Pure: the clock is given.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vedette_proto::v1::{Answer, Incident, Origin, Severity};

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
    /// Whether the routes give it to anybody as it is now.
    routed: bool,
    /// When it was over, or was snoozed, by our clock. `None` while it fires.
    over_ms: Option<i64>,
    /// Somebody wants quiet for a while: it does not fire, and comes back by itself.
    snoozed: bool,
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
    /// Whether it fires, is snoozed, or is over.
    pub state: State,
}

/// What becomes of an incident that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Firing,
    /// It goes on, and somebody wants to hear nothing of it for a while.
    Snoozed,
    /// It is over.
    Resolved,
}

impl State {
    /// As receivers are told.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Snoozed => "snoozed",
            Self::Resolved => "resolved",
        }
    }
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
    pub fn restore(&mut self, incident: Incident, record: Record, told: BTreeMap<usize, String>, now_ms: i64) {
        let snoozed = !is_over(&incident) && is_snoozed(&incident, now_ms);
        // An end that came while nobody listened, or just before: by event time, which is all there is.
        let over_ms = (snoozed || is_over(&incident)).then(|| incident.resolved_unix_ms.max(incident.updated_unix_ms));
        let receivers = self.routes.receivers(&incident).iter().copied().chain(told.keys().copied()).collect();
        let entry = Entry { incident: trimmed(incident), record, receivers, routed: true, over_ms, snoozed, told };
        self.entries.insert(entry.incident.id, entry);
    }

    /// Takes in an incident as it is now.
    pub fn take(&mut self, incident: Incident, now_ms: i64) -> Taken {
        let own = incident.workload.as_ref().is_some_and(|workload| workload.cluster == self.cluster);
        if !own || incident.origin() == Origin::Replay {
            return Taken::default();
        }
        let incident = trimmed(incident);
        let receivers: BTreeSet<usize> = self.routes.receivers(&incident).iter().copied().collect();
        let Some(entry) = self.entries.get_mut(&incident.id) else {
            if receivers.is_empty() || is_over(&incident) || is_snoozed(&incident, now_ms) {
                return Taken::default();
            }
            if self.entries.len() >= MAX_ENTRIES {
                return Taken { dropped: true, ..Taken::default() };
            }
            let identity = Identity::new(&incident, kind_word(incident.kind()));
            let record = Record { identity, since_unix_ms: incident.onset_unix_ms, turn: 0 };
            let told = BTreeMap::new();
            let entry = Entry { incident, record: record.clone(), receivers, routed: true, over_ms: None, snoozed: false, told };
            self.entries.insert(entry.incident.id, entry);
            return Taken { record: Some(record), news: true, dropped: false };
        };
        let before = entry.record.clone();
        let was_over = entry.over_ms.is_some();
        // Who was told of it is told of its end, even if it goes to nobody any more.
        entry.routed = !receivers.is_empty();
        if entry.routed {
            entry.receivers.extend(receivers);
            let identity = Identity::new(&incident, &before.identity.kind);
            if identity != before.identity {
                entry.record = Record { identity, since_unix_ms: incident.updated_unix_ms.max(before.since_unix_ms), ..before.clone() };
            }
        }
        // Told in an annotation, or by a webhook that was not told yet.
        let news = entry.incident.acknowledged_unix_ms != incident.acknowledged_unix_ms
            || entry.incident.snoozed_until_unix_ms != incident.snoozed_until_unix_ms;
        let at_ms = incident.updated_unix_ms;
        entry.incident = incident;
        entry.settle(at_ms, now_ms);
        let over = entry.over_ms.is_some();
        let changed = entry.record != before;
        let record = changed.then(|| entry.record.clone());
        if changed && !was_over && entry.record.identity != before.identity {
            self.retired.push((before.identity, before.since_unix_ms, now_ms));
            let too_many = self.retired.len().saturating_sub(MAX_RETIRED);
            self.retired.drain(..too_many);
        }
        Taken { record, news: news || changed || was_over != over, dropped: false }
    }

    /// Ends the snoozes whose time is over: what fires again by that is to be remembered.
    pub fn wake(&mut self, now_ms: i64) -> Vec<(u64, Record)> {
        let mut woken = Vec::new();
        for (id, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.snoozed) {
            let before = entry.record.clone();
            entry.settle(now_ms, now_ms);
            if entry.record != before {
                woken.push((*id, entry.record.clone()));
            }
        }
        woken
    }

    /// Takes those off that everybody was told of for long enough: their ids, and how many webhooks were never told.
    pub fn expire(&mut self, webhooks: &BTreeSet<usize>, now_ms: i64) -> (Vec<u64>, u64) {
        let resolved_ms = self.resolved_ms;
        self.retired.retain(|(_, _, over_ms)| now_ms - over_ms < resolved_ms);
        let mut gone = Vec::new();
        let mut untold = 0;
        self.entries.retain(|id, entry| {
            let Some(over_ms) = entry.over_ms.filter(|_| !entry.snoozed) else { return true };
            let waiting = webhooks.iter().filter(|index| entry.waits(**index)).count() as u64;
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
                annotations: annotations(&entry.incident, now_ms),
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
        let event = |entry: &Entry| Event { stage: entry.stage(), incident: entry.incident.clone(), state: entry.state() };
        self.entries.values().filter(|entry| entry.waits(receiver)).take(most).map(event).collect()
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
        let what = match self.state() {
            State::Firing => self.record.identity.severity.as_str(),
            other => other.word(),
        };
        format!("{what}-{}", self.record.turn)
    }

    fn state(&self) -> State {
        match (self.over_ms, self.snoozed) {
            (None, _) => State::Firing,
            (Some(_), true) => State::Snoozed,
            (Some(_), false) => State::Resolved,
        }
    }

    /// Whether a webhook is to be told. Of a snooze only who was told that it fires; and who was told as loudly of what somebody
    /// acknowledged has seen it.
    fn waits(&self, receiver: usize) -> bool {
        if !self.receivers.contains(&receiver) {
            return false;
        }
        let Some(told) = self.told.get(&receiver) else { return self.state() != State::Snoozed };
        let severity = |word: &str| Severity::from_word(word).unwrap_or_default();
        let heard = told.split_once('-').map_or(Severity::Unspecified, |(word, _)| severity(word));
        let seen = self.incident.acknowledged_unix_ms > 0 && self.state() == State::Firing;
        *told != self.stage() && !(seen && heard >= severity(&self.record.identity.severity))
    }

    /// Begins, ends or goes on, as the incident is at `now_ms` by our clock; what begins again does so at `at_ms`.
    fn settle(&mut self, at_ms: i64, now_ms: i64) {
        let ended = is_over(&self.incident) || !self.routed;
        let snoozed = !ended && is_snoozed(&self.incident, now_ms);
        match (self.over_ms.is_some(), ended || snoozed) {
            (false, true) => self.over_ms = Some(now_ms),
            (true, false) => {
                self.over_ms = None;
                self.record.turn += 1;
                self.record.since_unix_ms = at_ms.max(self.record.since_unix_ms);
            }
            // Its end comes while it is quiet, and is told like any other.
            (true, true) if self.snoozed && !snoozed => self.over_ms = Some(now_ms),
            _ => {}
        }
        self.snoozed = snoozed;
    }
}

/// Whether somebody wants to hear nothing of it for now. One that becomes more severe is snoozed no more: the store sees to that.
fn is_snoozed(incident: &Incident, now_ms: i64) -> bool {
    now_ms < incident.snoozed_until_unix_ms
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
