//! What was told, held against what happened: hits, misses, and what each false alarm was about.
//!
//! The rules are stated where they are applied; `docs/evaluation.md` has them for people.

use std::collections::BTreeSet;

use vedette_proto::v1::Kind;

use super::{
    play::Told,
    truth::{Episode, Place, Role, Truth},
};

/// An attack may be told so long after it ended: what it did is still being looked at.
const AFTER_MS: i64 = 30_000;

/// An attack, and whether it was told.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What happened.
    pub episode: Episode,
    /// When it was told, seconds after its onset.
    pub delay_s: Option<f64>,
    /// When it paged, seconds after its onset.
    pub page_delay_s: Option<f64>,
    /// What it was called.
    pub called: Option<Kind>,
}

/// Ordinary work that looks like an attack, and whether anybody was bothered.
#[derive(Clone, Debug)]
pub struct Bait {
    /// What happened.
    pub episode: Episode,
    /// It opened a ticket or a page.
    pub ticket: bool,
    /// It paged.
    pub page: bool,
}

/// What an alarm without an attack of its own was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A second incident of one attack.
    Again,
    /// Work that looks like an attack.
    LookAlike,
    /// A placebo.
    Placebo,
    /// Ordinary work.
    Ordinary,
}

/// An alarm that should not have been.
#[derive(Clone, Debug)]
pub struct False {
    /// What was told.
    pub told: Told,
    /// What it was about.
    pub about: About,
}

/// All that happened in a recording, and all that was told.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Every attack.
    pub attacks: Vec<Attack>,
    /// Every look-alike and placebo.
    pub baits: Vec<Bait>,
    /// Alarms that should not have been.
    pub false_alarms: Vec<False>,
    /// Alarms about those that an attack touched: neither right nor wrong.
    pub affected: usize,
    /// Alarms where nobody said what was going on: unlabelled is not ordinary.
    pub unlabelled: usize,
}

impl Outcome {
    /// Adds what came of another part of the same recording.
    pub fn append(&mut self, other: Self) {
        self.attacks.extend(other.attacks);
        self.baits.extend(other.baits);
        self.false_alarms.extend(other.false_alarms);
        self.affected += other.affected;
        self.unlabelled += other.unlabelled;
    }
}

/// Holds what was told against what happened.
#[cfg(test)]
pub fn outcome(truth: &Truth, told: &[Told]) -> Outcome {
    outcome_of(truth, told, &|_, _| true)
}

/// The same of a part: of episodes and alarms that are `asked` about, by workload and by onset or opening (event time, Unix milliseconds).
pub fn outcome_of(truth: &Truth, told: &[Told], asked: &dyn Fn(&Place, i64) -> bool) -> Outcome {
    let of_part = |episode: &&Episode| episode.workloads.first().is_some_and(|place| asked(place, episode.onset_unix_ms));
    let told: Vec<&Told> = told.iter().filter(|told| asked(&told.place, told.opened_unix_ms)).collect();
    let mut outcome = Outcome::default();
    let mut used = BTreeSet::new();
    for episode in truth.episodes.iter().filter(|episode| episode.role == Role::Attack).filter(of_part) {
        // A hit opens on the attacked workload after the onset. One that was open before is no hit: who looked at it saw something else.
        let hit = (0..told.len()).find(|&place| !used.contains(&place) && concerns(episode, &episode.workloads, told[place]));
        used.extend(hit);
        let delay_s = |unix_ms: i64| (unix_ms - episode.onset_unix_ms) as f64 / 1e3;
        let hit = hit.map(|place| told[place]);
        outcome.attacks.push(Attack {
            episode: episode.clone(),
            delay_s: hit.map(|told| delay_s(told.opened_unix_ms)),
            page_delay_s: hit.and_then(|told| told.paged_unix_ms).map(delay_s),
            called: hit.map(|told| told.kind),
        });
    }
    let baits = truth.episodes.iter().filter(|episode| episode.role != Role::Attack).filter(of_part);
    outcome.baits = baits.map(|episode| Bait { episode: episode.clone(), ticket: false, page: false }).collect();
    for told in told.iter().enumerate().filter(|(place, _)| !used.contains(place)).map(|(_, told)| *told) {
        let attack = |workloads: fn(&Episode) -> &BTreeSet<Place>| {
            truth.episodes.iter().any(|episode| episode.role == Role::Attack && concerns(episode, workloads(episode), told))
        };
        let about = if attack(|episode| &episode.workloads) {
            About::Again
        } else if attack(|episode| &episode.affected) {
            outcome.affected += 1;
            continue;
        } else if let Some(bait) = outcome.baits.iter_mut().find(|bait| concerns(&bait.episode, &bait.episode.workloads, told)) {
            bait.ticket = true;
            bait.page |= told.paged_unix_ms.is_some();
            if bait.episode.role == Role::Placebo { About::Placebo } else { About::LookAlike }
        } else if truth.is_labelled(&told.place, told.opened_unix_ms) {
            About::Ordinary
        } else {
            outcome.unlabelled += 1;
            continue;
        };
        outcome.false_alarms.push(False { told: told.clone(), about });
    }
    outcome
}

/// Whether an alarm opened on one of these workloads while the episode went on, or a moment after it.
fn concerns(episode: &Episode, workloads: &BTreeSet<Place>, told: &Told) -> bool {
    workloads.contains(&told.place) && (episode.onset_unix_ms..=episode.stop_unix_ms + AFTER_MS).contains(&told.opened_unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Said, Seen};

    fn seen(owner: &str) -> Seen {
        Seen { pod_uid: owner.into(), container_id: owner.into(), owner_name: owner.into(), ..Seen::default() }
    }

    fn said(owner: &str, from_s: i64, to_s: i64, kind: &str, role: &str, affected: bool) -> Said {
        let mut said: Said = serde_json::from_value(serde_json::json!({
            "start_unix_ms": from_s * 1_000, "end_unix_ms": to_s * 1_000, "kind": kind, "pod_uid": owner, "source": "simulation", "author": "a",
            "affected": affected,
        }))
        .unwrap();
        if !role.is_empty() {
            let attributes = [("episode", format!("{role} {from_s}")), ("role", role.to_owned()), ("act", "mining-sha256".to_owned())];
            said.attributes.extend(attributes.map(|(key, value)| (key.to_owned(), value)));
        }
        said
    }

    fn told(owner: &str, opened_s: i64, paged_s: Option<i64>) -> Told {
        Told {
            place: (String::new(), String::new(), owner.into(), String::new()),
            kind: Kind::Mining,
            opened_unix_ms: opened_s * 1_000,
            paged_unix_ms: paged_s.map(|paged_s| paged_s * 1_000),
            resolved_unix_ms: None,
            summary: String::new(),
        }
    }

    fn truth(labels: &[Said]) -> Truth {
        Truth::of(labels, &["web", "db", "neighbour"].map(seen)).unwrap()
    }

    /// What false alarms there are, and how many are about those touched and about nobody.
    fn counted(outcome: &Outcome) -> (Vec<About>, usize, usize) {
        (outcome.false_alarms.iter().map(|one| one.about).collect(), outcome.affected, outcome.unlabelled)
    }

    #[test]
    fn a_hit_opens_between_the_onset_and_half_a_minute_after_the_end() {
        let truth = truth(&[said("web", 0, 300, "normal", "", false), said("web", 100, 160, "mining", "attack", false)]);
        let delay = |opened_s| outcome(&truth, &[told("web", opened_s, Some(opened_s + 5))]).attacks[0].clone();

        assert_eq!((delay(100).delay_s, delay(190).delay_s), (Some(0.0), Some(90.0)));
        assert_eq!((delay(107).page_delay_s, delay(107).called), (Some(12.0), Some(Kind::Mining)));
        assert_eq!((delay(99).delay_s, delay(191).delay_s, delay(191).called), (None, None, None));
    }

    #[test]
    fn what_opened_before_the_onset_is_a_miss_and_a_false_alarm() {
        let truth = truth(&[said("web", 0, 300, "normal", "", false), said("web", 100, 160, "mining", "attack", false)]);

        let outcome = outcome(&truth, &[told("web", 50, None)]);

        assert_eq!(outcome.attacks[0].delay_s, None);
        assert_eq!(counted(&outcome), (vec![About::Ordinary], 0, 0));
    }

    #[test]
    fn one_attack_is_one_incident_and_a_second_is_too_many() {
        let truth = truth(&[said("web", 100, 160, "mining", "attack", false), said("web", 400, 460, "mining", "attack", false)]);

        let outcome = outcome(&truth, &[told("web", 110, None), told("web", 150, None), told("web", 410, None)]);

        assert_eq!(outcome.attacks.iter().map(|attack| attack.delay_s).collect::<Vec<_>>(), [Some(10.0), Some(10.0)]);
        assert_eq!(counted(&outcome), (vec![About::Again], 0, 0));
    }

    #[test]
    fn neighbours_are_no_false_alarms_where_they_were_touched() {
        let labels = [
            said("web", 100, 160, "flood", "attack", false),
            said("neighbour", 100, 160, "flood", "attack", true),
            said("db", 0, 300, "normal", "", false),
        ];

        let outcome = outcome(&truth(&labels), &[told("neighbour", 120, None), told("db", 120, None), told("neighbour", 250, None)]);

        assert_eq!(counted(&outcome), (vec![About::Ordinary], 1, 1));
    }

    #[test]
    fn look_alikes_and_placebos_are_counted_by_whether_they_bothered_anybody() {
        let labels = [said("web", 100, 160, "normal", "look-alike", false), said("db", 100, 160, "normal", "placebo", false)];
        let truth = truth(&labels);

        let quiet = outcome(&truth, &[]);
        let loud = outcome(&truth, &[told("web", 120, Some(130)), told("db", 130, None)]);

        let bothered = |outcome: &Outcome| outcome.baits.iter().map(|bait| (bait.ticket, bait.page)).collect::<Vec<_>>();
        assert_eq!((bothered(&quiet), bothered(&loud)), (vec![(false, false); 2], vec![(true, true), (true, false)]));
        assert_eq!(counted(&loud).0, [About::LookAlike, About::Placebo]);
    }
}
