//! The figures of an evaluation: a name, a value, and what it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use vedette_proto::v1::Kind;

use super::{
    events::{About, Attack, Bait, Outcome},
    play::{Played, Row},
    stats::{Areas, Share, areas, poisson_upper, quantile},
    trivial::Z,
    truth::{Role, Truth, Was},
};

use crate::recording::{Recorded, Set};

/// A recording, evaluated.
pub struct Session {
    /// Its name.
    pub name: String,
    /// Which set it is of.
    pub set: Set,
    /// What was recorded.
    pub recorded: Arc<Recorded>,
    /// Where its second half begins, event time, Unix milliseconds.
    pub middle_unix_ms: i64,
    /// What came before only taught baselines, likewise.
    pub from_unix_ms: i64,
    /// What happened.
    pub truth: Truth,
    /// What was said.
    pub played: Played,
    /// Its events.
    pub outcome: Outcome,
    /// Container days that were observed.
    pub container_days: f64,
}

impl Session {
    /// Whether models are made with it: the one that comes for demonstrations is for everybody to try them on.
    pub fn teaches(&self) -> bool {
        self.set != Set::Demo
    }
}

/// One way to detect, and what came of it in each session.
pub struct Way {
    /// Which detector.
    pub model: &'static str,
    /// What was kept apart from what.
    pub split: &'static str,
    /// By session.
    pub outcomes: Vec<Outcome>,
}

/// What a way comes to, in one line.
pub struct Sum {
    /// Attacks told.
    pub told: Share,
    /// Of those, called by their kind.
    pub named: Share,
    /// Attacks that paged.
    pub paged: Share,
    /// The kinds' mean F1.
    pub macro_f1: Option<f64>,
    /// Look-alikes that opened a ticket, and a page.
    pub look_alikes: (Share, Share),
    /// Placebos likewise.
    pub placebos: (Share, Share),
    /// Tickets on ordinary work, and pages.
    pub ordinary: (usize, usize),
}

impl Way {
    /// Sums it up.
    pub fn sum(&self) -> Sum {
        let attacks = || self.outcomes.iter().flat_map(|outcome| &outcome.attacks);
        let baits = |role: Role| self.outcomes.iter().flat_map(|outcome| &outcome.baits).filter(move |bait| bait.episode.role == role);
        Sum {
            told: Share::count(attacks(), |attack| attack.delay_s.is_some()),
            named: Share::count(attacks().filter(|attack| attack.delay_s.is_some()), |attack| attack.called == Some(attack.episode.kind)),
            paged: Share::count(attacks(), |attack| attack.page_delay_s.is_some()),
            macro_f1: macro_f1(&self.outcomes.iter().collect::<Vec<_>>()),
            look_alikes: bothered(baits(Role::LookAlike)),
            placebos: bothered(baits(Role::Placebo)),
            ordinary: alarms_of(self.outcomes.iter(), &[About::Ordinary]),
        }
    }
}

/// One figure, as `target/evaluation.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Which data.
    pub dataset: String,
    /// What was kept apart from what.
    pub split: String,
    /// Which detector.
    pub model: String,
    /// What was measured.
    pub metric: String,
    /// The value; `None`: of none.
    pub value: Option<f64>,
    /// What it should be, in words; empty: it is only printed.
    pub target: String,
}

/// Attacks of one sort.
#[derive(Debug)]
pub struct Recall {
    /// The sort.
    pub name: String,
    /// Told, of all.
    pub told: Share,
    /// Of those, called by their kind.
    pub named: Share,
    /// Paged, of all.
    pub paged: Share,
    /// Seconds from onset to incident: the middle, and what 95 of 100 do not exceed.
    pub delay_s: (Option<f64>, Option<f64>),
}

/// Attacks grouped by what `name` says of them, in the order of the names.
pub fn recalls<'a>(attacks: impl Iterator<Item = &'a Attack>, name: impl Fn(&Attack) -> String) -> Vec<Recall> {
    let mut groups: BTreeMap<String, Vec<&Attack>> = BTreeMap::new();
    attacks.for_each(|attack| groups.entry(name(attack)).or_default().push(attack));
    groups
        .into_iter()
        .map(|(name, attacks)| {
            let mut delays: Vec<f64> = attacks.iter().filter_map(|attack| attack.delay_s).collect();
            let told: Vec<_> = attacks.iter().filter(|attack| attack.delay_s.is_some()).collect();
            Recall {
                name,
                told: Share { hits: told.len(), of: attacks.len() },
                named: Share::count(told, |attack| attack.called == Some(attack.episode.kind)),
                paged: Share::count(attacks, |attack| attack.page_delay_s.is_some()),
                delay_s: (quantile(&mut delays, 0.5), quantile(&mut delays, 0.95)),
            }
        })
        .collect()
}

/// Look-alikes or placebos: how many opened a ticket, and a page.
pub fn bothered<'a>(baits: impl Iterator<Item = &'a Bait>) -> (Share, Share) {
    let baits: Vec<_> = baits.collect();
    (Share::count(&baits, |bait| bait.ticket), Share::count(&baits, |bait| bait.page))
}

/// The mean of every kind's F1: an attack is called by its kind, or otherwise, or missed; an alarm about no attack is one too many of what it
/// was called.
pub fn macro_f1(outcomes: &[&Outcome]) -> Option<f64> {
    let attacks = || outcomes.iter().flat_map(|outcome| &outcome.attacks);
    let kinds: BTreeSet<Kind> = attacks().map(|attack| attack.episode.kind).collect();
    let of = |kind: Kind| {
        let (mut right, mut missed, mut wrong) = (0usize, 0usize, 0usize);
        for attack in attacks() {
            match (attack.episode.kind == kind, attack.called == Some(kind)) {
                (true, true) => right += 1,
                (true, false) => missed += 1,
                (false, true) => wrong += 1,
                (false, false) => {}
            }
        }
        wrong += outcomes.iter().flat_map(|outcome| &outcome.false_alarms).filter(|alarm| alarm.told.kind == kind).count();
        2.0 * right as f64 / (2 * right + missed + wrong).max(1) as f64
    };
    (!kinds.is_empty()).then(|| kinds.iter().map(|kind| of(*kind)).sum::<f64>() / kinds.len() as f64)
}

/// How a way to call rows abnormal did.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfRows {
    /// Right calls, of all.
    pub accuracy: f64,
    /// Of the rows called abnormal, those of attacks.
    pub precision: f64,
    /// Of the rows of attacks, those called abnormal.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// By the score behind the call.
    pub areas: Areas,
}

/// A row as one way to call rows sees it: score, whether it is called abnormal, whether it is of an attack.
pub type Call = (f32, bool, bool);

/// How a way did.
pub fn of_calls(calls: &[Call]) -> OfRows {
    let count = |abnormal: bool, attack: bool| calls.iter().filter(|call| call.1 == abnormal && call.2 == attack).count() as f64;
    let (hits, alarms, missed, quiet) = (count(true, true), count(true, false), count(false, true), count(false, false));
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    OfRows {
        accuracy: share(hits + quiet, calls.len() as f64),
        precision: share(hits, hits + alarms),
        recall: share(hits, hits + missed),
        f1: share(2.0 * hits, 2.0 * hits + alarms + missed),
        areas: areas(calls.iter().map(|call| (call.0, call.2)).collect()).unwrap_or_default(),
    }
}

/// Whether a row is of an attack; `None` of those touched, and where nobody said anything: these do not count.
pub const fn is_attack(was: Was) -> Option<bool> {
    match was {
        Was::Attack(_) => Some(true),
        Was::Normal => Some(false),
        Was::Affected | Was::Nothing => None,
    }
}

/// For each tenth of the scores that any row has: their mean, the share of its rows that are of attacks, and how many these are.
pub fn tenths<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<(f64, f64, usize)> {
    let mut tenths = [(0.0, 0.0, 0usize); 10];
    for (row, attack) in rows.filter_map(|row| Some((row, is_attack(row.was)?))) {
        let tenth = &mut tenths[((row.score * 10.0) as usize).min(9)];
        *tenth = (tenth.0 + f64::from(row.score), tenth.1 + f64::from(u8::from(attack)), tenth.2 + 1);
    }
    let mean = |(score, attacks, rows): (f64, f64, usize)| (score / rows as f64, attacks / rows as f64, rows);
    tenths.into_iter().filter(|tenth| tenth.2 > 0).map(mean).collect()
}

/// Every way's figures: ours, always, never, z-score.
pub fn of_rows(sessions: &[&Session]) -> Vec<(&'static str, OfRows)> {
    let way = |call: &dyn Fn(&Row) -> (f32, bool)| {
        let rows = sessions.iter().flat_map(|session| &session.played.rows);
        let calls: Vec<Call> = rows
            .filter_map(|row| {
                let (score, abnormal) = call(row);
                Some((score, abnormal, is_attack(row.was)?))
            })
            .collect();
        of_calls(&calls)
    };
    vec![
        ("vedette", way(&|row| (row.score, row.abnormal))),
        ("always", way(&|_| (1.0, true))),
        ("never", way(&|_| (0.0, false))),
        ("z >= 4", way(&|row| (row.z, row.z >= Z))),
    ]
}

/// All figures, for programs. Targets are those of what is asked about honestly.
pub fn all(sessions: &[&Session], ways: &[Way], dataset: &str) -> Vec<Figure> {
    let days: f64 = sessions.iter().map(|session| session.container_days).sum();
    let mut figures: Vec<Figure> = ways.iter().flat_map(|way| of_way(way, days, dataset)).collect();
    let split = ways.first().map_or("", |way| way.split);
    for (model, of) in of_rows(sessions) {
        let split = if model == "vedette" { split } else { NOTHING_TRAINED };
        figures.extend(named(&of).map(|(metric, value)| Figure {
            dataset: dataset.to_owned(),
            split: split.to_owned(),
            model: model.to_owned(),
            metric: format!("{metric} by row"),
            value: Some(value),
            target: String::new(),
        }));
    }
    figures
}

/// The split of a model that was made with other data.
pub const MADE_ELSEWHERE: &str = "all: made with other data";
/// The split of what learns nothing.
pub const NOTHING_TRAINED: &str = "none: nothing is trained";

fn of_way(way: &Way, days: f64, dataset: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    let is_asked = way.model == "vedette" && way.split != "random";
    let mut add = |metric: String, value: Option<f64>, target: &str| {
        let (dataset, split, model) = (dataset.to_owned(), way.split.to_owned(), way.model.to_owned());
        figures.push(Figure { dataset, split, model, metric, value, target: if is_asked { target.to_owned() } else { String::new() } });
    };
    let attacks = || way.outcomes.iter().flat_map(|outcome| &outcome.attacks);
    let mut recall = |by: &str, group: &Recall, target: &str| {
        let (low, high) = group.told.bounds();
        let name = &group.name;
        add(format!("recall by {by}: {name}"), group.told.value(), "");
        add(format!("recall by {by}: {name}, lower bound"), Some(low), target);
        add(format!("recall by {by}: {name}, upper bound"), Some(high), "");
        add(format!("named by {by}: {name}"), group.named.value(), "");
        add(format!("delay p50 by {by}: {name}, seconds"), group.delay_s.0, if target.is_empty() { "" } else { "<= 10" });
        add(format!("delay p95 by {by}: {name}, seconds"), group.delay_s.1, if target.is_empty() { "" } else { "<= 30" });
    };
    for group in recalls(attacks(), |attack| attack.episode.kind.word().to_owned()) {
        recall("kind", &group, "");
    }
    for group in recalls(attacks(), |attack| format!("{} {}", attack.episode.loudness(), attack.episode.kind.word())) {
        recall("loudness", &group, if group.name.starts_with("loud ") { ">= 0.85" } else { "" });
    }
    for group in recalls(attacks(), |attack| attack.episode.placement.clone()) {
        recall("placement", &group, "");
    }
    let sum = way.sum();
    add("attacks told".to_owned(), sum.told.value(), "");
    for ((ticket, page), name) in [(sum.look_alikes, "look-alikes"), (sum.placebos, "placebos")] {
        add(format!("{name} that opened a ticket"), ticket.value(), "<= 0.10");
        add(format!("{name} that paged"), page.value(), "<= 0.02");
    }
    add("kind macro-F1 by event".to_owned(), sum.macro_f1, ">= 0.80");
    for (name, count) in [("tickets", sum.ordinary.0), ("pages", sum.ordinary.1)] {
        let per_day = |count: f64| (days > 0.0).then(|| count / days);
        add(format!("{name} on ordinary work per container-day"), per_day(count as f64), "");
        add(format!("{name} on ordinary work per container-day, upper bound"), per_day(poisson_upper(count)), "");
    }
    figures
}

fn named(of: &OfRows) -> [(&'static str, f64); 6] {
    let OfRows { accuracy, precision, recall, f1, areas } = *of;
    [("accuracy", accuracy), ("precision", precision), ("recall", recall), ("F1", f1), ("ROC-AUC", areas.roc), ("PR-AUC", areas.pr)]
}

/// Tickets, pages among them, of false alarms about these.
pub fn alarms(sessions: &[&Session], about: &[About]) -> (usize, usize) {
    alarms_of(sessions.iter().map(|session| &session.outcome), about)
}

fn alarms_of<'a>(outcomes: impl Iterator<Item = &'a Outcome> + Clone, about: &[About]) -> (usize, usize) {
    let alarms = || outcomes.clone().flat_map(|outcome| &outcome.false_alarms).filter(|alarm| about.contains(&alarm.about));
    (alarms().count(), alarms().filter(|alarm| alarm.told.paged_unix_ms.is_some()).count())
}
