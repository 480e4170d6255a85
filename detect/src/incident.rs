//! The fold: from abnormal samples to incidents that open, change and resolve, one per event.

use std::collections::{BTreeMap, HashMap};

use vedette_proto::v1::{self, Severity};

use crate::{
    Change, Config, course, evidence,
    fold::{Fold, Report, Restored, Topic, list, severity, tell},
    thresholds as t,
};

/// All incidents that are open, and those resolved a moment ago.
pub struct Incidents {
    open: BTreeMap<u64, Fold>,
    by_workload: HashMap<u32, Vec<u64>>,
    recent: Vec<Fold>,
    next_id: u64,
    max_open: usize,
    max_listed: usize,
    reopen_ms: i64,
    changes: Vec<Change>,
    pub opened: u64,
    pub refused: u64,
}

/// Most incidents remembered after they resolved, to continue them.
const MAX_RECENT: usize = 1_000;
/// An open incident tells small changes at most this often.
const TELL_EVERY_MS: i64 = 5_000;

impl Incidents {
    pub fn new(config: &Config, next_id: u64) -> Self {
        Self {
            open: BTreeMap::new(),
            by_workload: HashMap::new(),
            recent: Vec::new(),
            next_id: next_id.max(1),
            max_open: config.max_open_incidents,
            max_listed: config.max_listed,
            reopen_ms: i64::from(config.reopen_within_seconds) * 1_000,
            changes: Vec::new(),
            opened: 0,
            refused: 0,
        }
    }

    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Whether an incident that people hear of is open for a workload.
    pub fn is_open(&self, workload: u32) -> bool {
        self.any(workload, |fold| fold.severity >= Severity::Ticket)
    }

    /// Whether what a workload does now may not teach what is normal for it: something is open, and not only about how it is counted.
    pub fn is_frozen(&self, workload: u32) -> bool {
        self.any(workload, Fold::holds)
    }

    /// Whether an incident about what a workload does was open before this detector began, and still is: its normal is not known, but
    /// that it was beyond it is.
    pub fn was_odd(&self, workload: u32) -> bool {
        self.any(workload, |fold| fold.restored && fold.topic == Topic::Behaviour && fold.severity >= Severity::Ticket)
    }

    /// Whether an incident on a topic is open for a workload.
    pub fn is_about(&self, workload: u32, topic: Topic) -> bool {
        self.any(workload, |fold| fold.topic == topic)
    }

    /// The workload of an incident that is open.
    pub fn workload_of(&self, id: u64) -> Option<u32> {
        self.open.get(&id).map(|fold| fold.workload)
    }

    /// Whether an incident keeps what its workload does from its baseline.
    pub fn holds(&self, id: u64) -> bool {
        self.open.get(&id).is_some_and(Fold::holds)
    }

    /// Somebody answered an incident.
    pub fn answered(&mut self, id: u64, answer: v1::Answer) {
        if let Some(fold) = self.open.get_mut(&id) {
            fold.incident.answer = answer.into();
        }
    }

    /// The incident that a timer may accept for a workload: all that hold its baseline are tickets, and none was called an attack or is
    /// undecided.
    pub fn accepted_by_timer(&self, workload: u32) -> Option<u64> {
        let ids = self.by_workload.get(&workload)?;
        let mut holding = ids.iter().filter_map(|id| self.open.get(id)).filter(|fold| fold.holds());
        let undecided =
            |fold: &Fold| fold.severity > Severity::Ticket || matches!(fold.incident.answer(), v1::Answer::Attack | v1::Answer::Unsure);
        let first = holding.next()?;
        (!undecided(first) && !holding.any(undecided)).then_some(first.incident.id)
    }

    /// Adds to the incidents that hold a workload's baseline that they ask to be accepted.
    pub fn ask(&mut self, workload: u32, unix_ms: i64, asks: impl Fn(u64) -> evidence::Ranked) {
        for id in self.by_workload.get(&workload).cloned().unwrap_or_default() {
            let Some(fold) = self.open.get_mut(&id).filter(|fold| fold.holds()) else { continue };
            let told = fold.evidence.iter().any(|one| one.evidence.feature == course::ASKS);
            evidence::merge(&mut fold.evidence, vec![asks(id)]);
            if !told {
                tell(&mut self.changes, fold, v1::IncidentChange::Updated, unix_ms);
            }
        }
    }

    /// Whether an incident about its failures is open for a workload.
    pub fn is_failing(&self, workload: u32) -> bool {
        self.any(workload, |fold| fold.topic == Topic::Failures)
    }

    fn any(&self, workload: u32, wanted: impl Fn(&Fold) -> bool) -> bool {
        let ids = self.by_workload.get(&workload);
        ids.is_some_and(|ids| ids.iter().any(|id| self.open.get(id).is_some_and(&wanted)))
    }

    /// Goes on with an incident that was open when an earlier run ended; false if there is no room.
    pub fn restore(&mut self, incident: v1::Incident, reasoning: String, place: &Restored) -> bool {
        if self.open.len() >= self.max_open || self.open.contains_key(&incident.id) {
            return false;
        }
        let id = incident.id;
        self.next_id = self.next_id.max(id.saturating_add(1));
        self.by_workload.entry(place.workload).or_default().push(id);
        self.open.insert(id, Fold::restored(incident, reasoning, place));
        true
    }

    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes in something abnormal. Below [`t::OPEN`] it only keeps alive what is open.
    pub fn report(&mut self, report: Report<'_>) {
        if let Some(id) = self.belongs_to(&report) {
            self.update(id, report);
        } else if report.strength >= t::OPEN {
            self.open_or_continue(report);
        }
    }

    /// The open incident that a report is part of: the same kind, or another kind that is not quiet yet.
    fn belongs_to(&self, report: &Report<'_>) -> Option<u64> {
        let ids = self.by_workload.get(&report.workload)?;
        let folds = || ids.iter().filter_map(|id| Some((*id, self.open.get(id)?)));
        if let Some((id, _)) = folds().find(|(_, fold)| fold.kind == report.kind && fold.speaks_like(report)) {
            return Some(id);
        }
        folds().find(|(_, fold)| fold.absorbs(report)).map(|(id, _)| id)
    }

    fn update(&mut self, id: u64, report: Report<'_>) {
        let max_listed = self.max_listed;
        let Some(fold) = self.open.get_mut(&id) else { return };
        fold.last_abnormal_ms = fold.last_abnormal_ms.max(report.unix_ms);
        fold.hear(&report, max_listed);
        if fold.incident.origin != report.origin as i32 {
            // Late data keeps a live incident open, and says no more of it: what is late never pages.
            return;
        }
        if report.kind == fold.kind {
            fold.strength = report.strength;
            fold.quiet_ms = fold.quiet_ms.max(report.quiet_ms);
        } else if report.unix_ms - fold.incident.opened_unix_ms <= t::REFINE_MS
            && report.strength >= t::OPEN
            && (report.refines || report.strength > fold.strength + t::REFINE_LEAD)
        {
            fold.kind = report.kind;
            fold.strength = report.strength;
            fold.reasoning.clone_from(&report.reasoning);
            fold.told_ms = i64::MIN;
            fold.changed = true;
        }
        let incident = &mut fold.incident;
        incident.peak_score = incident.peak_score.max(f64::from(report.strength));
        fold.changed |= list(&mut incident.nodes, report.node, max_listed)
            | list(&mut incident.pods, report.pod, max_listed)
            | list(&mut incident.container_ids, report.container_id, max_listed);
        fold.changed |= evidence::merge(&mut fold.evidence, report.evidence);
        let severity = fold.severity.max(severity(&fold.evidence, report.strength, report.fact, report.least, report.most));
        if severity > fold.severity {
            fold.severity = severity;
            fold.told_ms = i64::MIN;
            fold.changed = true;
        }
        if fold.changed && report.unix_ms - fold.told_ms.max(0) >= TELL_EVERY_MS {
            tell(&mut self.changes, fold, v1::IncidentChange::Updated, report.unix_ms);
        }
    }

    fn open_or_continue(&mut self, report: Report<'_>) {
        let again = self.recent.iter().position(|fold| {
            fold.workload == report.workload
                && fold.kind == report.kind
                && fold.incident.origin == report.origin as i32
                && fold.speaks_like(&report)
                && report.unix_ms - fold.incident.resolved_unix_ms <= self.reopen_ms
        });
        if let Some(place) = again {
            let mut fold = self.recent.remove(place);
            fold.incident.resolved_unix_ms = 0;
            fold.changed = true;
            fold.told_ms = i64::MIN;
            let id = fold.incident.id;
            self.by_workload.entry(fold.workload).or_default().push(id);
            self.open.insert(id, fold);
            return self.update(id, report);
        }
        if self.open.len() >= self.max_open {
            self.refused += 1;
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.opened += 1;
        let mut fold = Fold::new(id, &report);
        self.by_workload.entry(report.workload).or_default().push(id);
        let incident = &mut fold.incident;
        list(&mut incident.nodes, report.node, self.max_listed);
        list(&mut incident.pods, report.pod, self.max_listed);
        list(&mut incident.container_ids, report.container_id, self.max_listed);
        evidence::merge(&mut fold.evidence, report.evidence);
        fold.severity = severity(&fold.evidence, report.strength, report.fact, report.least, report.most);
        tell(&mut self.changes, &mut fold, v1::IncidentChange::Opened, report.unix_ms);
        self.open.insert(id, fold);
    }

    /// Resolves what has been quiet long enough by its own nodes' clocks; where those stand still, by what went by.
    pub fn resolve_quiet(&mut self, cluster: u32, elapsed_ms: i64, clock_ms: impl Fn(u32) -> i64) {
        self.open.values_mut().filter(|fold| fold.restored && fold.cluster == cluster).for_each(|fold| fold.listen_again(&clock_ms));
        let over: Vec<(u64, i64)> = self
            .open
            .iter()
            .filter(|(_, fold)| fold.cluster == cluster && fold.topic != Topic::Silence && fold.quiet(fold.quiet_ms, elapsed_ms, &clock_ms))
            .map(|(&id, fold)| (id, fold.last_abnormal_ms + fold.quiet_ms))
            .collect();
        for (id, unix_ms) in over {
            self.resolve(id, unix_ms);
        }
        let reopen_ms = self.reopen_ms;
        self.recent.retain(|fold| {
            let counts = fold.cluster == cluster && fold.topic != Topic::Silence;
            !counts || !fold.quiet(fold.quiet_ms + reopen_ms + 1, elapsed_ms, &clock_ms)
        });
    }

    /// A node is not expected any more: what only it could say is over resolves.
    pub fn node_over(&mut self, node: u32) {
        let mut over = Vec::new();
        for (&id, fold) in self.open.iter_mut().filter(|(_, fold)| fold.topic != Topic::Silence) {
            let before = fold.heard.len();
            fold.heard.retain(|(heard, _)| *heard != node);
            if before > 0 && fold.heard.is_empty() {
                over.push((id, fold.last_abnormal_ms + fold.quiet_ms));
            }
        }
        over.into_iter().for_each(|(id, unix_ms)| self.resolve(id, unix_ms));
    }

    /// A cluster is over: resolves all of it at its clock, and nothing of it is continued.
    pub fn cluster_over(&mut self, cluster: u32, unix_ms: i64) {
        let folds = self.open.iter().filter(|(_, fold)| fold.cluster == cluster);
        let over: Vec<(u64, i64)> = folds.map(|(&id, fold)| (id, unix_ms.max(fold.last_abnormal_ms))).collect();
        over.into_iter().for_each(|(id, unix_ms)| self.resolve(id, unix_ms));
        self.recent.retain(|fold| fold.cluster != cluster);
    }

    /// Resolves what is open for a workload on a topic: it is known to be over.
    pub fn resolve_topic(&mut self, workload: u32, topic: Topic, unix_ms: i64) {
        for id in self.by_workload.get(&workload).cloned().unwrap_or_default() {
            if self.open.get(&id).is_some_and(|fold| fold.topic == topic) {
                self.resolve(id, unix_ms);
            }
        }
        let reopen_ms = self.reopen_ms;
        self.recent.retain(|fold| fold.topic != topic || unix_ms - fold.incident.resolved_unix_ms <= reopen_ms);
    }

    fn resolve(&mut self, id: u64, unix_ms: i64) {
        let Some(mut fold) = self.open.remove(&id) else { return };
        if let Some(ids) = self.by_workload.get_mut(&fold.workload) {
            ids.retain(|&one| one != id);
            if ids.is_empty() {
                self.by_workload.remove(&fold.workload);
            }
        }
        let resolved_ms = unix_ms.min(fold.last_abnormal_ms + fold.quiet_ms);
        fold.incident.resolved_unix_ms = resolved_ms;
        tell(&mut self.changes, &mut fold, v1::IncidentChange::Resolved, resolved_ms);
        if self.recent.len() >= MAX_RECENT {
            self.recent.remove(0);
        }
        self.recent.push(fold);
    }
}
