//! What the injector knows for certain, written at the end of a run: pods, every life of every container, attacks, placebos and
//! what they touched. Times are Unix milliseconds.
//!
//! The file is one JSON object, [`Schedule`]; `vedette demo` reads it by the same field names.

use serde::Serialize;

use crate::plan::spans::without;

/// Everything about one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Schedule {
    /// Name of the run: its root cgroup; in a cluster its own.
    pub run: String,
    /// The plan's name.
    pub plan: String,
    /// What everything random in the plan came from.
    pub seed: u64,
    /// What ran the pods: `local`, `containerd` or `kube`.
    pub backend: String,
    /// How many times as fast as the plan says the clock ran.
    pub speed: f64,
    /// The run's own network; empty in a cluster, whose pods have the addresses that they are given.
    pub subnet: String,
    /// First pod created.
    pub started_unix_ms: i64,
    /// Last pod gone.
    pub ended_unix_ms: i64,
    /// Pods, in the order of their creation.
    pub pods: Vec<PodRecord>,
    /// Containers, one entry per container id, sandboxes included.
    pub lives: Vec<Life>,
    /// Parts of the plan.
    pub phases: Vec<PhaseRecord>,
    /// Attacks, look-alikes and placebos.
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

/// A part of the plan.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseRecord {
    /// Its name.
    pub name: String,
    /// From.
    pub start_unix_ms: i64,
    /// To. 0 means: it goes on.
    pub stop_unix_ms: i64,
}

/// An attack, a look-alike or a placebo.
#[derive(Clone, Debug, Serialize)]
pub struct EpisodeRecord {
    /// Name within the run, such as `r1-scan`.
    pub episode: String,
    /// The act; of a placebo that of its attack.
    pub act: String,
    /// Kind of the attack, or of the one that a look-alike or a placebo looks like.
    pub kind: String,
    /// `attack`, `look-alike` or `placebo`.
    pub role: &'static str,
    /// An attack; else ordinary work.
    pub attack: bool,
    /// Of a placebo: the attack that it stands beside. Empty for others.
    pub placebo_of: String,
    /// `new`, `inside`, `rollout`, `peak`, `replicas` or `on_off`: where and how the program was started.
    pub placement: String,
    /// 1 or 2; 0 where the plan has no rounds.
    pub round: u32,
    /// The phase that it began in.
    pub phase: String,
    /// The dose in words.
    pub intensity: String,
    /// The program began.
    pub start_unix_ms: i64,
    /// The program was stopped, or ended by itself.
    pub stop_unix_ms: i64,
    /// From when on it can be known: the start; of a crash loop its third failure. 0 means: it never came to that.
    pub onset_unix_ms: i64,
    /// The workload that the label is about: the victim of a flood, else where the program ran. The first of its pods.
    pub pod_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its owner's kind.
    pub owner_kind: String,
    /// Its owner's name.
    pub owner_name: String,
    /// Its container.
    pub container: String,
    /// Ids of its containers during the episode, of all pods that it is about.
    pub container_ids: Vec<String>,
    /// The same with exact times.
    pub spans: Vec<Span>,
    /// When the program was on, where it was on and off.
    pub bursts: Vec<Burst>,
    /// How a program ended that was not stopped. Empty: it was stopped.
    pub ended_early: String,
}

/// A container during an episode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The pod.
    pub pod_uid: String,
    /// The container.
    pub container_id: String,
    /// From.
    pub start_unix_ms: i64,
    /// To.
    pub stop_unix_ms: i64,
}

/// A stretch in which a program was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Burst {
    /// From.
    pub start_unix_ms: i64,
    /// To.
    pub stop_unix_ms: i64,
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
    /// The look-alike or placebo that was about it. Empty without one.
    pub episode: String,
    /// From.
    pub start_unix_ms: i64,
    /// To.
    pub stop_unix_ms: i64,
}

impl Schedule {
    /// Fills [`Schedule::normal`]: every pod's time less its attacks and what touched it, look-alikes and placebos apart.
    pub fn fill_normal(&mut self) {
        let mut normal = Vec::new();
        for pod in &self.pods {
            let end = if pod.gone_unix_ms > 0 { pod.gone_unix_ms } else { self.ended_unix_ms };
            let about = || self.episodes.iter().filter(|episode| episode.is_about(&pod.pod_uid));
            let attacks = about().filter(|episode| episode.attack);
            let mut bad: Vec<_> = attacks.map(|episode| (episode.start_unix_ms, episode.stop_unix_ms)).collect();
            let touched = self.affected.iter().filter(|affected| affected.pod_uid == pod.pod_uid);
            bad.extend(touched.map(|affected| (affected.start_unix_ms, affected.stop_unix_ms)));
            let mut busy = bad.clone();
            let mut add = |episode: &str, ranges: Vec<(i64, i64)>| {
                let one = |(start_unix_ms, stop_unix_ms)| Normal {
                    pod_uid: pod.pod_uid.clone(),
                    episode: episode.to_owned(),
                    start_unix_ms,
                    stop_unix_ms,
                };
                normal.extend(ranges.into_iter().map(one));
            };
            for ordinary in about().filter(|episode| !episode.attack) {
                let (from, to) = (ordinary.start_unix_ms.max(pod.born_unix_ms), ordinary.stop_unix_ms.min(end));
                add(&ordinary.episode, without(from, to, bad.clone()));
                busy.push((from, to));
            }
            add("", without(pod.born_unix_ms, end, busy));
        }
        self.normal = normal;
    }

    /// When containers of a pod failed, since then.
    #[must_use]
    pub fn failures_since(&self, pod_uid: &str, unix_ms: i64) -> Vec<i64> {
        let lives = self.lives.iter().filter(|life| life.pod_uid == pod_uid && life.failed);
        lives.map(|life| life.ended_unix_ms).filter(|&ended| ended >= unix_ms).collect()
    }

    /// The containers of a pod in a range, each for as long as it was there.
    #[must_use]
    pub fn spans(&self, pod_uid: &str, start_unix_ms: i64, stop_unix_ms: i64) -> Vec<Span> {
        let lives = self.lives.iter().filter(|life| life.pod_uid == pod_uid && !life.sandbox);
        let spans = lives.map(|life| Span {
            pod_uid: pod_uid.to_owned(),
            container_id: life.container_id.clone(),
            start_unix_ms: life.born_unix_ms.max(start_unix_ms),
            stop_unix_ms: if life.gone_unix_ms > 0 { life.gone_unix_ms.min(stop_unix_ms) } else { stop_unix_ms },
        });
        spans.filter(|span| span.start_unix_ms < span.stop_unix_ms).collect()
    }
}

impl EpisodeRecord {
    /// Whether its label is about this pod.
    #[must_use]
    pub fn is_about(&self, pod_uid: &str) -> bool {
        self.pod_uid == pod_uid || self.spans.iter().any(|span| span.pod_uid == pod_uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(id: &str, born_unix_ms: i64, gone_unix_ms: i64) -> Life {
        Life {
            pod_uid: "p".to_owned(),
            container: "c".to_owned(),
            container_id: id.to_owned(),
            sandbox: false,
            born_unix_ms,
            ended_unix_ms: gone_unix_ms,
            gone_unix_ms,
            failed: false,
        }
    }

    fn episode(name: &str, attack: bool, start_unix_ms: i64, stop_unix_ms: i64) -> EpisodeRecord {
        EpisodeRecord {
            episode: name.to_owned(),
            act: "a".to_owned(),
            kind: "mining".to_owned(),
            role: if attack { "attack" } else { "placebo" },
            attack,
            placebo_of: String::new(),
            placement: "inside".to_owned(),
            round: 0,
            phase: String::new(),
            intensity: String::new(),
            start_unix_ms,
            stop_unix_ms,
            onset_unix_ms: start_unix_ms,
            pod_uid: "p".to_owned(),
            namespace: "shop".to_owned(),
            owner_kind: "Deployment".to_owned(),
            owner_name: "c".to_owned(),
            container: "c".to_owned(),
            container_ids: Vec::new(),
            spans: Vec::new(),
            bursts: Vec::new(),
            ended_early: String::new(),
        }
    }

    #[test]
    fn normal_is_what_no_attack_is_about_with_placebos_apart() {
        let pod = PodRecord {
            pod_uid: "p".to_owned(),
            namespace: "shop".to_owned(),
            pod: "c-1".to_owned(),
            owner_kind: "Deployment".to_owned(),
            owner_name: "c".to_owned(),
            containers: vec!["c".to_owned()],
            address: String::new(),
            born_unix_ms: 0,
            gone_unix_ms: 100,
        };
        let episodes = vec![episode("mining", true, 20, 40), episode("mining-placebo", false, 60, 80)];
        let mut schedule = Schedule { pods: vec![pod], episodes, ..Schedule::default() };

        schedule.fill_normal();

        let ranges: Vec<_> =
            schedule.normal.iter().map(|normal| (normal.episode.as_str(), normal.start_unix_ms, normal.stop_unix_ms)).collect();
        assert_eq!(ranges, [("mining-placebo", 60, 80), ("", 0, 20), ("", 40, 60), ("", 80, 100)]);
    }

    #[test]
    fn a_span_is_no_longer_than_its_container() {
        let schedule = Schedule { lives: vec![life("a", 0, 50), life("b", 60, 0), life("c", 200, 0)], ..Schedule::default() };

        let spans: Vec<_> =
            schedule.spans("p", 40, 100).into_iter().map(|span| (span.container_id, span.start_unix_ms, span.stop_unix_ms)).collect();

        assert_eq!(spans, [("a".to_owned(), 40, 50), ("b".to_owned(), 60, 100)]);
    }
}
