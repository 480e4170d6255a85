//! Incidents against what the injector knows: which attacks were found, when, under which name; and which incidents were about nothing.
//!
//! An incident belongs to an attack if it is about its workload or one of its containers and opened from the attack's begin to 30 s
//! after its end. It is excused if it is about a pod that an attack touched. Everything else is false.

use serde::Serialize;
use vedette_proto::v1::{Incident, Kind};

use super::schedule::{Affected, Episode, Schedule};

/// How long after its end an attack may still be found, milliseconds.
pub const LATE_MS: i64 = 30_000;

/// What became of one attack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attack {
    /// Its kind.
    pub kind: String,
    /// `new` or `inside`.
    pub placement: String,
    /// 1 or 2.
    pub round: u32,
    /// From when on it could be known, Unix milliseconds.
    pub onset: i64,
    /// When its incident opened, Unix milliseconds.
    pub opened: Option<i64>,
    /// From onset to opening, event time; 0 where a crash loop was found before its third failure.
    pub delay_seconds: Option<f64>,
    /// It has an incident.
    pub detected: bool,
    /// One of its incidents names its kind.
    pub named: bool,
}

/// All incidents, told apart.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Every attack, in the order of its begin.
    pub attacks: Vec<Attack>,
    /// Incidents that are about nothing.
    pub false_incidents: Vec<Incident>,
    /// Incidents of pods that an attack touched.
    pub excused: usize,
    /// Incidents of attacks beyond the first of each.
    pub extra: usize,
}

/// Tells incidents apart.
pub fn judge(schedule: &Schedule, incidents: &[Incident]) -> Judgement {
    let mut episodes: Vec<&Episode> = schedule.attacks().collect();
    episodes.sort_by_key(|episode| episode.start_unix_ms);
    let mut judgement = Judgement::default();
    for episode in &episodes {
        let mut found: Vec<&Incident> = incidents.iter().filter(|incident| is_of(incident, episode)).collect();
        found.sort_by_key(|incident| incident.opened_unix_ms);
        judgement.extra += found.len().saturating_sub(1);
        let onset = if episode.onset_unix_ms > 0 { episode.onset_unix_ms } else { episode.start_unix_ms };
        let opened = found.first().map(|incident| incident.opened_unix_ms);
        judgement.attacks.push(Attack {
            kind: episode.kind.clone(),
            placement: episode.placement.clone(),
            round: episode.round,
            onset,
            opened,
            delay_seconds: opened.map(|opened| (opened - onset).max(0) as f64 / 1000.0),
            detected: opened.is_some(),
            named: found.iter().any(|incident| Kind::from_word(&episode.kind) == Some(incident.kind())),
        });
    }
    for incident in incidents {
        if episodes.iter().any(|episode| is_of(incident, episode)) {
            continue;
        }
        if schedule.affected.iter().any(|affected| is_touched(incident, affected, schedule)) {
            judgement.excused += 1;
        } else {
            judgement.false_incidents.push(incident.clone());
        }
    }
    judgement
}

/// Whether an incident belongs to an attack.
pub fn is_of(incident: &Incident, episode: &Episode) -> bool {
    let window = episode.start_unix_ms..=episode.stop_unix_ms + LATE_MS;
    let workload = incident.workload.as_ref().is_some_and(|workload| {
        workload.namespace == episode.namespace && workload.owner_name == episode.owner_name && workload.container_name == episode.container
    });
    let container = incident.container_ids.iter().any(|id| episode.container_ids.contains(id));
    (workload || container) && window.contains(&incident.opened_unix_ms)
}

fn is_touched(incident: &Incident, affected: &Affected, schedule: &Schedule) -> bool {
    let window = affected.start_unix_ms..=affected.stop_unix_ms + LATE_MS;
    let owner = incident.workload.as_ref().is_some_and(|workload| workload.owner_name == affected.owner_name);
    let lives = schedule.lives.iter().filter(|life| life.pod_uid == affected.pod_uid);
    let container = lives.into_iter().any(|life| incident.container_ids.contains(&life.container_id));
    (owner || container) && window.contains(&incident.opened_unix_ms)
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::Workload;

    use super::*;

    fn schedule() -> Schedule {
        let episode = |kind: &str, owner: &str, id: &str, start: i64, onset: i64| Episode {
            episode: format!("r1-{kind}"),
            kind: kind.to_owned(),
            attack: true,
            placement: "new".to_owned(),
            round: 1,
            intensity: String::new(),
            start_unix_ms: start,
            stop_unix_ms: start + 25_000,
            onset_unix_ms: onset,
            pod_uid: format!("pod-{owner}"),
            namespace: "shop".to_owned(),
            owner_name: owner.to_owned(),
            container: owner.to_owned(),
            container_ids: vec![id.to_owned()],
        };
        let placebo = Episode { attack: false, ..episode("mining", "digest", "d1", 1_000, 1_000) };
        Schedule {
            episodes: vec![episode("flood", "web", "w1", 100_000, 100_000), episode("crash_loop", "ledger", "l1", 10_000, 24_000), placebo],
            affected: vec![Affected {
                episode: "r1-flood".to_owned(),
                kind: "flood".to_owned(),
                pod_uid: "pod-frontend".to_owned(),
                owner_name: "frontend".to_owned(),
                start_unix_ms: 100_000,
                stop_unix_ms: 130_000,
            }],
            ..Schedule::default()
        }
    }

    fn incident(owner: &str, kind: Kind, opened_unix_ms: i64) -> Incident {
        let workload = Workload {
            namespace: "shop".to_owned(),
            owner_name: owner.to_owned(),
            container_name: owner.to_owned(),
            ..Workload::default()
        };
        Incident { workload: Some(workload), kind: kind.into(), opened_unix_ms, ..Incident::default() }
    }

    #[test]
    fn an_incident_in_its_window_on_its_workload_detects_the_attack() {
        let judgement = judge(&schedule(), &[incident("web", Kind::Flood, 104_500)]);

        let flood = judgement.attacks.iter().find(|attack| attack.kind == "flood").unwrap();
        assert_eq!((flood.detected, flood.named, flood.delay_seconds), (true, true, Some(4.5)));
        assert!(judgement.false_incidents.is_empty());
    }

    #[test]
    fn another_name_is_detected_and_not_named() {
        let judgement = judge(&schedule(), &[incident("web", Kind::Unknown, 104_500)]);

        let flood = judgement.attacks.iter().find(|attack| attack.kind == "flood").unwrap();
        assert_eq!((flood.detected, flood.named), (true, false));
    }

    #[test]
    fn open_before_the_onset_or_long_after_the_end_is_a_miss_and_false() {
        for opened in [99_000, 155_001] {
            let judgement = judge(&schedule(), &[incident("web", Kind::Flood, opened)]);

            assert!(judgement.attacks.iter().all(|attack| !attack.detected), "{opened}");
            assert_eq!(judgement.false_incidents.len(), 1, "{opened}");
        }
    }

    #[test]
    fn the_delay_of_a_crash_loop_counts_from_its_third_failure() {
        let judgement = judge(&schedule(), &[incident("ledger", Kind::CrashLoop, 26_000)]);

        assert_eq!(judgement.attacks[0].delay_seconds, Some(2.0));
    }

    #[test]
    fn an_incident_on_a_placebo_is_false_and_one_on_a_touched_pod_is_excused() {
        let incidents = [incident("digest", Kind::Mining, 3_000), incident("frontend", Kind::Unknown, 110_000)];

        let judgement = judge(&schedule(), &incidents);

        assert_eq!(judgement.false_incidents.len(), 1);
        assert_eq!(judgement.excused, 1);
    }
}
