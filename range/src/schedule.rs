//! What the injector knows for certain, written at the end of a run: pods, every life of every container, attacks, placebos and
//! what they touched. Times are Unix milliseconds.
//!
//! The file is one JSON object, [`Schedule`]; `vedette demo` reads it by the same field names.

use serde::Serialize;

/// Everything about one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Schedule {
    /// Name of the run: its root cgroup.
    pub run: String,
    /// The plan's name.
    pub plan: String,
    /// What order and jitter came from.
    pub seed: u64,
    /// The run's own network.
    pub subnet: String,
    /// First pod created.
    pub started_unix_ms: i64,
    /// Last pod gone.
    pub ended_unix_ms: i64,
    /// Pods, in the order of their creation.
    pub pods: Vec<PodRecord>,
    /// Containers, one entry per container id, sandboxes included.
    pub lives: Vec<Life>,
    /// Attacks and placebos.
    pub episodes: Vec<EpisodeRecord>,
    /// Pods touched by an attack without being its target.
    pub affected: Vec<Affected>,
    /// Ranges in which a pod did its ordinary work.
    pub normal: Vec<Normal>,
}

/// A pod.
#[derive(Clone, Debug, Serialize)]
pub struct PodRecord {
    /// Uid, 36 characters.
    pub pod_uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub pod: String,
    /// Owner's kind.
    pub owner_kind: String,
    /// Owner's name.
    pub owner_name: String,
    /// Names of its containers, the sandbox left out.
    pub containers: Vec<String>,
    /// Address on the bridge.
    pub address: String,
    /// Created.
    pub born_unix_ms: i64,
    /// Removed. 0 means: still there.
    pub gone_unix_ms: i64,
}

/// One container id from its cgroup's birth to its removal.
#[derive(Clone, Debug, Serialize)]
pub struct Life {
    /// The pod.
    pub pod_uid: String,
    /// Container name; `POD` for a sandbox.
    pub container: String,
    /// 64 hexadecimal digits.
    pub container_id: String,
    /// A sandbox, which nobody observes as a container.
    pub sandbox: bool,
    /// Cgroup created.
    pub born_unix_ms: i64,
    /// Main process ended. 0 means: it runs.
    pub ended_unix_ms: i64,
    /// Cgroup removed. 0 means: still there.
    pub gone_unix_ms: i64,
    /// It ended by itself and badly.
    pub failed: bool,
}

/// An attack or a placebo.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeRecord {
    /// Name within the run, such as `r1-scan`.
    pub episode: String,
    /// Kind of the attack, or of the one that a placebo looks like.
    pub kind: String,
    /// An attack; else a placebo.
    pub attack: bool,
    /// `new` or `inside`: where the program was started.
    pub placement: String,
    /// 1 or 2.
    pub round: u32,
    /// The dose in words.
    pub intensity: String,
    /// The program began.
    pub start_unix_ms: i64,
    /// The program was stopped.
    pub stop_unix_ms: i64,
    /// From when on it can be known: the start; of a crash loop its third failure. 0 means: it never came to that.
    pub onset_unix_ms: i64,
    /// The workload that the label is about: the victim of a flood, else where the program ran.
    pub pod_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its owner's kind.
    pub owner_kind: String,
    /// Its owner's name.
    pub owner_name: String,
    /// Its container.
    pub container: String,
    /// Its container ids during the episode.
    pub container_ids: Vec<String>,
}

/// A pod touched by an attack.
#[derive(Clone, Debug, Serialize)]
pub struct Affected {
    /// The attack.
    pub episode: String,
    /// Its kind.
    pub kind: String,
    /// The pod.
    pub pod_uid: String,
    /// Owner's name.
    pub owner_name: String,
    /// From.
    pub start_unix_ms: i64,
    /// To.
    pub stop_unix_ms: i64,
}

/// A pod at its ordinary work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Normal {
    /// The pod.
    pub pod_uid: String,
    /// The placebo that ran in it. Empty without one.
    pub placebo: String,
    /// From.
    pub start_unix_ms: i64,
    /// To.
    pub stop_unix_ms: i64,
}

impl Schedule {
    /// Fills [`Schedule::normal`]: every pod's time less its attacks and what touched it.
    pub fn fill_normal(&mut self) {
        let mut normal = Vec::new();
        for pod in &self.pods {
            let end = if pod.gone_unix_ms > 0 { pod.gone_unix_ms } else { self.ended_unix_ms };
            let attacks = self.episodes.iter().filter(|episode| episode.attack && episode.pod_uid == pod.pod_uid);
            let mut busy: Vec<_> = attacks.map(|episode| (episode.start_unix_ms, episode.stop_unix_ms)).collect();
            let touched = self.affected.iter().filter(|affected| affected.pod_uid == pod.pod_uid);
            busy.extend(touched.map(|affected| (affected.start_unix_ms, affected.stop_unix_ms)));
            let placebo = self.episodes.iter().find(|episode| !episode.attack && episode.pod_uid == pod.pod_uid);
            for (start_unix_ms, stop_unix_ms) in without(pod.born_unix_ms, end, busy) {
                let placebo = placebo.map_or_else(String::new, |placebo| placebo.episode.clone());
                normal.push(Normal { pod_uid: pod.pod_uid.clone(), placebo, start_unix_ms, stop_unix_ms });
            }
        }
        self.normal = normal;
    }
}

/// The parts of `start..end` that none of `busy` covers.
fn without(start: i64, end: i64, mut busy: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    busy.sort_unstable();
    let mut free = Vec::new();
    let mut from = start;
    for (begin, stop) in busy {
        if begin > from {
            free.push((from, begin.min(end)));
        }
        from = from.max(stop);
    }
    if end > from {
        free.push((from, end));
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_between_overlapping_attacks_is_normal() {
        assert_eq!(without(0, 100, vec![(40, 50), (10, 20), (15, 30)]), [(0, 10), (30, 40), (50, 100)]);
        assert_eq!(without(10, 20, vec![(0, 30)]), []);
        assert_eq!(without(10, 20, vec![]), [(10, 20)]);
    }
}
