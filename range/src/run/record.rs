//! What is written down of an episode, from what became of its programs: the same whatever ran the pods.

use std::time::Duration;

use vedette_proto::v1::Kind;

use crate::{
    plan::{
        act::{About, Role},
        timeline::{Bursts, Episode},
    },
    schedule::{Affected, Burst, EpisodeRecord, Schedule},
};

/// Longest a touched pod is still touched after the attack: connections time out, queues empty.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What became of an episode's program in one pod.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// It began.
    pub start_unix_ms: i64,
    /// It was stopped, or ended.
    pub stop_unix_ms: i64,
    /// When it was on, where it was on and off.
    pub bursts: Vec<Burst>,
    /// How it ended before it was stopped.
    pub ended_early: Option<String>,
}

/// A pod that an episode is about, or that it touched.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its uid.
    pub pod_uid: String,
    /// Its owner's kind.
    pub owner_kind: String,
    /// Its owner's name; also its container's.
    pub owner_name: String,
}

/// An episode as it was: `outcomes` in the order of the pods that its programs ran in.
#[must_use]
pub fn of_episode(schedule: &Schedule, namespace: &str, episode: &Episode, about: &[Subject], outcomes: &[Outcome]) -> EpisodeRecord {
    let start_unix_ms = outcomes.iter().map(|outcome| outcome.start_unix_ms).min().unwrap_or(0);
    let stop_unix_ms = outcomes.iter().map(|outcome| outcome.stop_unix_ms).max().unwrap_or(0);
    let own_times = episode.about == About::Own && outcomes.len() == about.len();
    let mut spans = Vec::new();
    for (place, subject) in about.iter().enumerate() {
        let outcome = outcomes.get(place).filter(|_| own_times);
        let (start, stop) = outcome.map_or((start_unix_ms, stop_unix_ms), |outcome| (outcome.start_unix_ms, outcome.stop_unix_ms));
        spans.extend(schedule.spans(&subject.pod_uid, start, stop));
    }
    let failures: Vec<i64> = about.first().map(|first| schedule.failures_since(&first.pod_uid, start_unix_ms)).unwrap_or_default();
    let onset_unix_ms = if episode.kind == Kind::CrashLoop { failures.get(2).copied().unwrap_or(0) } else { start_unix_ms };
    let (pod_uid, owner_kind, owner_name) =
        about.first().map_or_else(Default::default, |first| (first.pod_uid.clone(), first.owner_kind.clone(), first.owner_name.clone()));
    EpisodeRecord {
        episode: episode.name.clone(),
        act: episode.act.clone(),
        kind: episode.kind.word().to_owned(),
        role: episode.role.word(),
        attack: episode.role == Role::Attack,
        placebo_of: episode.placebo_of.clone().unwrap_or_default(),
        placement: episode.placement.word().to_owned(),
        round: episode.round,
        phase: episode.phase.clone(),
        intensity: episode.intensity.clone(),
        start_unix_ms,
        stop_unix_ms,
        onset_unix_ms,
        pod_uid,
        namespace: namespace.to_owned(),
        owner_kind,
        container: owner_name.clone(),
        owner_name,
        container_ids: spans.iter().map(|span| span.container_id.clone()).collect(),
        spans,
        bursts: outcomes.first().map(|outcome| outcome.bursts.clone()).unwrap_or_default(),
        ended_early: outcomes.iter().find_map(|outcome| outcome.ended_early.clone()).unwrap_or_default(),
    }
}

/// Those of `touched` that the episode is not about.
#[must_use]
pub fn affected(record: &EpisodeRecord, touched: &[Subject]) -> Vec<Affected> {
    let others = touched.iter().filter(|subject| !record.is_about(&subject.pod_uid));
    let one = |subject: &Subject| Affected {
        episode: record.episode.clone(),
        kind: record.kind.clone(),
        pod_uid: subject.pod_uid.clone(),
        owner_name: subject.owner_name.clone(),
        start_unix_ms: record.start_unix_ms,
        stop_unix_ms: record.stop_unix_ms + i64::try_from(AFTERMATH.as_millis()).unwrap_or(0),
    };
    others.map(one).collect()
}

/// When a program was on that went on and off by itself.
#[must_use]
pub fn rhythm(bursts: Bursts, start_unix_ms: i64, stop_unix_ms: i64) -> Vec<Burst> {
    let ms = |length: Duration| i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    let turn = usize::try_from(ms(bursts.on + bursts.off)).unwrap_or(1).max(1);
    let begins = (start_unix_ms..stop_unix_ms).step_by(turn);
    begins.map(|begin| Burst { start_unix_ms: begin, stop_unix_ms: (begin + ms(bursts.on)).min(stop_unix_ms) }).collect()
}
