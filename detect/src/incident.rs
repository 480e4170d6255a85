//! The fold: from abnormal samples to incidents that open, change and resolve, one per event.

use std::collections::{BTreeMap, HashMap};

use vedette_proto::v1::{self, Kind, Origin, Severity};

use crate::{
    Change, Config,
    evidence::{self, Ranked},
    thresholds as t,
};

/// Something abnormal about a workload at an instant.
pub struct Report<'a> {
    pub cluster: u32,
    pub workload: u32,
    pub name: &'a v1::Workload,
    pub kind: Kind,
    /// Different topics never share an incident, whatever their kinds.
    pub topic: Topic,
    /// The effect in words, where it is not the kind's.
    pub effect: Option<&'a str>,
    /// Persistence, 0 to 1; a fact has 1.
    pub strength: f32,
    /// A fact: a ticket at once, and for a page it needs a second family.
    pub fact: bool,
    /// Severity that this has at least.
    pub least: Severity,
    /// Highest severity that this may reach.
    pub most: Severity,
    pub onset_ms: i64,
    pub unix_ms: i64,
    /// How far event time of the node is; beyond `unix_ms` for late data.
    pub clock_ms: i64,
    /// Event time that went by in the cluster.
    pub elapsed_ms: i64,
    pub origin: Origin,
    pub node: &'a str,
    /// The same, as an index.
    pub node_place: u32,
    pub pod: &'a str,
    pub container_id: &'a str,
    pub evidence: Vec<Ranked>,
    pub reasoning: String,
    /// Quiet time after which it resolves.
    pub quiet_ms: i64,
}

/// What an incident is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What a workload does.
    Behaviour,
    /// That its containers fail.
    Failures,
    /// That its node is not heard, or sees nothing.
    Silence,
}

/// An incident and what its fold needs.
struct Fold {
    incident: v1::Incident,
    cluster: u32,
    workload: u32,
    topic: Topic,
    kind: Kind,
    severity: Severity,
    strength: f32,
    last_abnormal_ms: i64,
    /// Per node, its event time at the last report: late data must not resolve between two of its samples. The latest nodes
    /// only, as many as are listed.
    heard: Vec<(u32, i64)>,
    /// Event time that had gone by in the cluster at the last report.
    elapsed_ms: i64,
    quiet_ms: i64,
    evidence: Vec<Ranked>,
    reasoning: String,
    told_ms: i64,
    changed: bool,
}

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
/// Most changes kept for a caller that does not collect them; the oldest go first.
const MAX_CHANGES: usize = 100_000;
/// Event time of a cluster after which a node that is not heard holds no incident open.
const NODE_GONE_MS: i64 = 600_000;
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
        self.by_workload
            .get(&workload)
            .is_some_and(|ids| ids.iter().any(|id| self.open.get(id).is_some_and(|fold| fold.severity >= Severity::Ticket)))
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
        if report.kind == fold.kind {
            fold.strength = report.strength;
            fold.quiet_ms = fold.quiet_ms.max(report.quiet_ms);
        } else if report.unix_ms - fold.incident.opened_unix_ms <= t::REFINE_MS
            && report.strength >= t::OPEN
            && report.strength > fold.strength + t::REFINE_LEAD
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

impl Fold {
    fn new(id: u64, report: &Report<'_>) -> Self {
        let incident = v1::Incident {
            id,
            workload: Some(report.name.clone()),
            onset_unix_ms: report.onset_ms,
            opened_unix_ms: report.unix_ms,
            peak_score: f64::from(report.strength),
            effect: report.effect.unwrap_or_default().to_owned(),
            origin: report.origin as i32,
            ..v1::Incident::default()
        };
        Self {
            incident,
            cluster: report.cluster,
            workload: report.workload,
            topic: report.topic,
            kind: report.kind,
            severity: Severity::Note,
            strength: report.strength,
            last_abnormal_ms: report.unix_ms,
            heard: vec![(report.node_place, report.unix_ms.max(report.clock_ms))],
            elapsed_ms: report.elapsed_ms,
            quiet_ms: report.quiet_ms,
            evidence: Vec::new(),
            reasoning: report.reasoning.clone(),
            told_ms: i64::MIN,
            changed: true,
        }
    }

    fn hear(&mut self, report: &Report<'_>, limit: usize) {
        let heard_ms = report.unix_ms.max(report.clock_ms);
        self.elapsed_ms = self.elapsed_ms.max(report.elapsed_ms);
        match self.heard.iter_mut().find(|(node, _)| *node == report.node_place) {
            Some((_, of_node)) => *of_node = heard_ms.max(*of_node),
            None => {
                if self.heard.len() >= limit {
                    self.heard.remove(0);
                }
                self.heard.push((report.node_place, heard_ms));
            }
        }
    }

    /// Whether nothing was heard for so long on any of its nodes, or for much longer in the cluster: those nodes are gone.
    fn quiet(&self, quiet_ms: i64, elapsed_ms: i64, clock_ms: &impl Fn(u32) -> i64) -> bool {
        let gone = elapsed_ms - self.elapsed_ms >= quiet_ms.max(NODE_GONE_MS);
        gone || self.heard.iter().all(|&(node, heard_ms)| clock_ms(node).saturating_sub(heard_ms) >= quiet_ms)
    }

    /// Notes and what people hear of are kept apart, and so are the ways in which the data came.
    fn speaks_like(&self, report: &Report<'_>) -> bool {
        self.topic == report.topic
            && self.incident.origin == report.origin as i32
            && (self.severity >= Severity::Ticket) == (report.most >= Severity::Ticket)
    }

    fn absorbs(&self, report: &Report<'_>) -> bool {
        self.speaks_like(report) && report.unix_ms - self.last_abnormal_ms <= t::MERGE_MS
    }
}

/// One family makes a ticket. A page needs two, and persistence.
fn severity(evidence: &[Ranked], strength: f32, fact: bool, least: Severity, most: Severity) -> Severity {
    let families = evidence.iter().filter(|one| one.counts).fold(0u32, |set, one| set | 1 << one.evidence.family);
    let strong = strength >= t::STRONG || fact;
    let reached = if strong && families.count_ones() >= 2 { Severity::Page } else { Severity::Ticket };
    reached.max(least).min(most)
}

fn list(names: &mut Vec<String>, name: &str, limit: usize) -> bool {
    if name.is_empty() || names.len() >= limit || names.iter().any(|old| old == name) {
        return false;
    }
    names.push(name.to_owned());
    true
}

fn tell(changes: &mut Vec<Change>, fold: &mut Fold, change: v1::IncidentChange, unix_ms: i64) {
    fold.told_ms = unix_ms;
    fold.changed = false;
    fold.evidence.iter_mut().for_each(|one| one.told = one.rank);
    let incident = &mut fold.incident;
    incident.updated_unix_ms = unix_ms;
    incident.kind = fold.kind as i32;
    incident.severity = fold.severity as i32;
    if incident.effect.is_empty() || Kind::WORDS.iter().any(|kind| kind.effect() == incident.effect) {
        incident.effect = fold.kind.effect().to_owned();
    }
    incident.attack_techniques = fold.kind.attack_techniques().iter().map(|&id| id.to_owned()).collect();
    incident.evidence = fold.evidence.iter().map(|one| one.evidence.clone()).collect();
    incident.summary = summary(incident);
    if changes.len() >= MAX_CHANGES {
        changes.remove(0);
    }
    changes.push(Change { change, incident: incident.clone(), reasoning: fold.reasoning.clone() });
}

fn summary(incident: &v1::Incident) -> String {
    let seconds = incident.onset_unix_ms.div_euclid(1_000).rem_euclid(86_400);
    let workload = incident.workload.as_ref().map(ToString::to_string).unwrap_or_default();
    let nodes = match incident.nodes.as_slice() {
        [] => String::new(),
        [one] => format!(" on {one}"),
        more => format!(" on {} nodes", more.len()),
    };
    let why = incident.evidence.first().map(|evidence| format!(": {}", evidence.sentence)).unwrap_or_default();
    format!("{} in {workload}{nodes} since {:02}:{:02}:{:02} UTC{why}", incident.effect, seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
