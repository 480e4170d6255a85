//! One incident as it is folded: what was reported of it, by whom it was heard, and what people were told.

use vedette_proto::v1::{self, Kind, Origin, Severity};

use crate::{
    Change, course,
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
    /// It may correct the kind of an open incident whatever its strength, for it knows more with every second.
    pub refines: bool,
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
    /// That Prometheus counts it differently.
    Disagreement,
    /// That its baseline moved away from the reference.
    Drift,
}

/// Most changes kept for a caller that does not collect them; the oldest go first.
const MAX_CHANGES: usize = 100_000;
/// Event time of a cluster after which a node that is not heard holds no incident open.
const NODE_GONE_MS: i64 = 600_000;
/// Evidence of an earlier run stands before any of this one.
const KEPT_RANK: f32 = 100.0;
/// Of an incident that went through a restart: this node was not heard since. A node never heard has the same clock, so it is not quiet.
const NOT_YET: i64 = i64::MIN;

/// Where an incident of an earlier run belongs.
pub struct Restored {
    pub cluster: u32,
    pub workload: u32,
    pub nodes: Vec<u32>,
    pub topic: Topic,
    pub quiet_ms: i64,
}

/// An incident and what its fold needs.
pub struct Fold {
    pub incident: v1::Incident,
    pub cluster: u32,
    pub workload: u32,
    pub topic: Topic,
    pub kind: Kind,
    pub severity: Severity,
    pub strength: f32,
    pub last_abnormal_ms: i64,
    /// Per node, its event time at the last report: late data must not resolve between two of its samples. The latest nodes
    /// only, as many as are listed.
    pub heard: Vec<(u32, i64)>,
    /// Event time that had gone by in the cluster at the last report.
    pub elapsed_ms: i64,
    pub quiet_ms: i64,
    pub evidence: Vec<Ranked>,
    pub reasoning: String,
    pub told_ms: i64,
    pub changed: bool,
    /// It was open when this detector began: what was known of its workload's normal is gone.
    pub restored: bool,
}

impl Fold {
    pub fn new(id: u64, report: &Report<'_>) -> Self {
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
            restored: false,
        }
    }

    /// The fold of an incident that was open when an earlier run ended. It is quiet once its nodes are heard again and nothing more is
    /// reported for as long as usual; it was abnormal until then, or it had been resolved.
    pub fn restored(incident: v1::Incident, reasoning: String, place: &Restored) -> Self {
        let stored = |(place, evidence): (usize, &v1::Evidence)| {
            // What grows replaces itself, and everything else stays: what is seen now is seen without a baseline.
            let rank = if evidence::is_silence(evidence) {
                evidence.observed.unwrap_or(1.0).max(1.0).ln() as f32
            } else {
                KEPT_RANK - place as f32
            };
            Ranked { rank, told: rank, counts: false, evidence: evidence.clone() }
        };
        Self {
            cluster: place.cluster,
            workload: place.workload,
            topic: place.topic,
            kind: incident.kind(),
            severity: incident.severity(),
            strength: t::OPEN,
            last_abnormal_ms: incident.updated_unix_ms.max(incident.opened_unix_ms),
            heard: place.nodes.iter().map(|&node| (node, NOT_YET)).collect(),
            elapsed_ms: 0,
            quiet_ms: place.quiet_ms,
            evidence: incident.evidence.iter().enumerate().map(stored).collect(),
            reasoning,
            told_ms: incident.updated_unix_ms,
            changed: false,
            restored: true,
            incident,
        }
    }

    /// Nodes that are heard for the first time after a restart: from then on the incident may become quiet.
    pub fn listen_again(&mut self, clock_ms: &impl Fn(u32) -> i64) {
        for (node, heard_ms) in self.heard.iter_mut().filter(|(_, heard_ms)| *heard_ms == NOT_YET) {
            *heard_ms = clock_ms(*node);
            self.last_abnormal_ms = self.last_abnormal_ms.max(*heard_ms);
        }
    }

    pub fn hear(&mut self, report: &Report<'_>, limit: usize) {
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
    pub fn quiet(&self, quiet_ms: i64, elapsed_ms: i64, clock_ms: &impl Fn(u32) -> i64) -> bool {
        let gone = elapsed_ms - self.elapsed_ms >= quiet_ms.max(NODE_GONE_MS);
        gone || self.heard.iter().all(|&(node, heard_ms)| clock_ms(node).saturating_sub(heard_ms) >= quiet_ms)
    }

    /// Whether what the workload does may not teach what is normal for it: people hear of it, and not only of how it is counted.
    pub fn holds(&self) -> bool {
        self.severity >= Severity::Ticket && self.topic != Topic::Disagreement
    }

    /// Notes and what people hear of are kept apart, and so are the ways in which the data came.
    pub fn speaks_like(&self, report: &Report<'_>) -> bool {
        self.topic == report.topic
            && (self.incident.origin == report.origin as i32 || self.hears_late(report))
            && (self.severity >= Severity::Ticket) == (report.most >= Severity::Ticket)
    }

    /// What a node of a live incident sent late, because nobody listened for a while, is about the same event.
    fn hears_late(&self, report: &Report<'_>) -> bool {
        self.incident.origin == Origin::Live as i32
            && report.origin == Origin::Late
            && report.unix_ms >= self.incident.onset_unix_ms
            && self.heard.iter().any(|(node, _)| *node == report.node_place)
    }

    pub fn absorbs(&self, report: &Report<'_>) -> bool {
        self.speaks_like(report) && report.unix_ms - self.last_abnormal_ms <= t::MERGE_MS
    }
}

/// One family makes a ticket. A page needs two, and persistence.
pub fn severity(evidence: &[Ranked], strength: f32, fact: bool, least: Severity, most: Severity) -> Severity {
    let families = evidence.iter().filter(|one| one.counts).fold(0u32, |set, one| set | 1 << one.evidence.family);
    let strong = strength >= t::STRONG || fact;
    let reached = if strong && families.count_ones() >= 2 { Severity::Page } else { Severity::Ticket };
    reached.max(least).min(most)
}

pub fn list(names: &mut Vec<String>, name: &str, limit: usize) -> bool {
    if name.is_empty() || names.len() >= limit || names.iter().any(|old| old == name) {
        return false;
    }
    names.push(name.to_owned());
    true
}

pub fn tell(changes: &mut Vec<Change>, fold: &mut Fold, change: v1::IncidentChange, unix_ms: i64) {
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
    let (asks, moved): (Vec<_>, Vec<_>) = incident.evidence.iter().partition(|evidence| evidence.feature == course::ASKS);
    let said = |sign: &str, evidence: Option<&&v1::Evidence>| evidence.map(|one| format!("{sign} {}", one.sentence)).unwrap_or_default();
    let why = said(":", moved.first()) + &said(";", asks.first());
    format!("{} in {workload}{nodes} since {:02}:{:02}:{:02} UTC{why}", incident.effect, seconds / 3_600, seconds / 60 % 60, seconds % 60)
}
