//! The figures of an evaluation: a name, a value, and what it should be.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use vedette_proto::v1::Kind;

use super::{
    events::{self, About, Attack, Bait, Outcome},
    learn::{self, Said, Split},
    play::{Played, Row},
    stats::{Areas, Share, areas, poisson_upper, quantile},
    trivial::Z,
    truth::{Role, Truth, Was},
};

use crate::recording::Set;

/// A recording, evaluated.
pub struct Session {
    /// Its name.
    pub name: String,
    /// Which set it is of.
    pub set: Set,
    /// What happened.
    pub truth: Truth,
    /// What was said.
    pub played: Played,
    /// Its events.
    pub outcome: Outcome,
    /// Container days that were observed.
    pub container_days: f64,
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

/// What the kind classifier is worth under a split.
#[derive(Clone, Copy, Debug)]
pub struct OfForest {
    /// The split.
    pub split: Split,
    /// Kind macro-F1 by event, where it names what was told.
    pub macro_f1: Option<f64>,
    /// By row: everything that is more probably an attack than ordinary is called abnormal.
    pub rows: OfRows,
}

/// The classifier's figures; `chosen` are places of sessions.
pub fn of_forest(sessions: &[Session], chosen: &[usize], said: &[Said], split: Split) -> OfForest {
    let mut calls: Vec<Call> = Vec::new();
    let mut outcomes = Vec::new();
    for &place in chosen {
        let (session, said) = (&sessions[place], &said[place]);
        outcomes.push(events::outcome(&session.truth, &learn::called(&session.played, said)));
        let rows = session.played.rows.iter().zip(said).filter(|(_, said)| !said[0].is_nan());
        calls.extend(rows.filter_map(|(row, said)| Some((1.0 - said[0], said[0] < 0.5, is_attack(row.was)?))));
    }
    OfForest { split, macro_f1: macro_f1(&outcomes.iter().collect::<Vec<_>>()), rows: of_calls(&calls) }
}

/// All figures, for programs.
pub fn all(sessions: &[&Session], forests: &[OfForest], dataset: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut of_split = |split: &str, model: &str, metric: String, value: Option<f64>, target: &str| {
        let (dataset, split, model) = (dataset.to_owned(), split.to_owned(), model.to_owned());
        figures.push(Figure { dataset, split, model, metric, value, target: target.to_owned() });
    };
    for forest in forests {
        let split = forest.split.word();
        let target = if forest.split == Split::Random { "" } else { ">= 0.80" };
        of_split(split, "forest", "kind macro-F1 by event".to_owned(), forest.macro_f1, target);
        for (metric, value) in named(&forest.rows) {
            of_split(split, "forest", format!("{metric} by row"), Some(value), "");
        }
    }
    let mut add = |model: &str, metric: String, value: Option<f64>, target: &str| {
        of_split("none: nothing is trained", model, metric, value, target);
    };
    let attacks = || sessions.iter().flat_map(|session| &session.outcome.attacks);
    let baits = |role: Role| sessions.iter().flat_map(|session| &session.outcome.baits).filter(move |bait| bait.episode.role == role);
    let mut recall = |by: &str, group: &Recall, target: &str| {
        let (low, high) = group.told.bounds();
        let name = &group.name;
        add("vedette", format!("recall by {by}: {name}"), group.told.value(), "");
        add("vedette", format!("recall by {by}: {name}, lower bound"), Some(low), target);
        add("vedette", format!("recall by {by}: {name}, upper bound"), Some(high), "");
        add("vedette", format!("named by {by}: {name}"), group.named.value(), "");
        add("vedette", format!("delay p50 by {by}: {name}, seconds"), group.delay_s.0, if target.is_empty() { "" } else { "<= 10" });
        add("vedette", format!("delay p95 by {by}: {name}, seconds"), group.delay_s.1, if target.is_empty() { "" } else { "<= 30" });
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
    for (role, name) in [(Role::LookAlike, "look-alikes"), (Role::Placebo, "placebos")] {
        let (ticket, page) = bothered(baits(role));
        add("vedette", format!("{name} that opened a ticket"), ticket.value(), "<= 0.10");
        add("vedette", format!("{name} that paged"), page.value(), "<= 0.02");
    }
    let outcomes: Vec<_> = sessions.iter().map(|session| &session.outcome).collect();
    add("vedette", "kind macro-F1 by event".to_owned(), macro_f1(&outcomes), ">= 0.80");
    let days: f64 = sessions.iter().map(|session| session.container_days).sum();
    let ordinary = alarms(sessions, &[About::Ordinary]);
    for (name, count) in [("tickets", ordinary.0), ("pages", ordinary.1)] {
        add("vedette", format!("{name} on ordinary work per container-day"), (days > 0.0).then(|| count as f64 / days), "");
        add(
            "vedette",
            format!("{name} on ordinary work per container-day, upper bound"),
            (days > 0.0).then(|| poisson_upper(count) / days),
            "",
        );
    }
    for (model, of) in of_rows(sessions) {
        for (metric, value) in named(&of) {
            add(model, format!("{metric} by row"), Some(value), "");
        }
    }
    figures
}

fn named(of: &OfRows) -> [(&'static str, f64); 6] {
    let OfRows { accuracy, precision, recall, f1, areas } = *of;
    [("accuracy", accuracy), ("precision", precision), ("recall", recall), ("F1", f1), ("ROC-AUC", areas.roc), ("PR-AUC", areas.pr)]
}

/// Tickets, pages among them, of false alarms about these.
pub fn alarms(sessions: &[&Session], about: &[About]) -> (usize, usize) {
    let alarms = || sessions.iter().flat_map(|session| &session.outcome.false_alarms).filter(|alarm| about.contains(&alarm.about));
    (alarms().count(), alarms().filter(|alarm| alarm.told.paged_unix_ms.is_some()).count())
}
