//! What the range's injector knows for certain, as it writes it at the end of a run, and what it says while it runs.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The injector's knowledge of one run; further fields of the file are for others.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Schedule {
    /// Begin of the run, Unix milliseconds.
    pub started_unix_ms: i64,
    /// End of the run, Unix milliseconds.
    pub ended_unix_ms: i64,
    /// Name of the plan; empty in what older ranges wrote.
    #[serde(default)]
    pub plan: String,
    /// What order and dose came from.
    pub seed: u64,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Containers, one per id, sandboxes included.
    pub lives: Vec<Life>,
    /// Attacks and placebos.
    pub episodes: Vec<Episode>,
    /// Pods touched by an attack without being its target.
    pub affected: Vec<Affected>,
    /// Ranges in which a pod did its ordinary work.
    pub normal: Vec<Normal>,
}

/// A pod.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Pod {
    /// Its uid.
    pub pod_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Kind of its owner.
    pub owner_kind: String,
    /// Name of its owner.
    pub owner_name: String,
    /// Its containers.
    pub containers: Vec<String>,
}

/// One container id.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Life {
    /// The pod.
    pub pod_uid: String,
    /// The id.
    pub container_id: String,
    /// Not observed as a container.
    pub sandbox: bool,
    /// Cgroup created, Unix milliseconds.
    pub born_unix_ms: i64,
    /// Cgroup removed, Unix milliseconds.
    pub gone_unix_ms: i64,
}

/// An attack or a placebo.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Episode {
    /// Its name in the run.
    pub episode: String,
    /// Kind of the attack, or of the one that a placebo looks like.
    pub kind: String,
    /// An attack; else a placebo.
    pub attack: bool,
    /// `new` or `inside`.
    pub placement: String,
    /// 1 or 2.
    pub round: u32,
    /// The dose in words.
    pub intensity: String,
    /// Begin, Unix milliseconds.
    pub start_unix_ms: i64,
    /// End, Unix milliseconds.
    pub stop_unix_ms: i64,
    /// From when on it can be known: of a crash loop the third failure. 0 means: never.
    pub onset_unix_ms: i64,
    /// The pod that it is about.
    pub pod_uid: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Owner of the pod.
    pub owner_name: String,
    /// The container.
    pub container: String,
    /// Its ids during the episode.
    pub container_ids: Vec<String>,
}

/// A pod touched by an attack.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Affected {
    /// Name of the attack.
    pub episode: String,
    /// Its kind.
    pub kind: String,
    /// The pod.
    pub pod_uid: String,
    /// Owner of the pod.
    pub owner_name: String,
    /// From, Unix milliseconds.
    pub start_unix_ms: i64,
    /// To, Unix milliseconds.
    pub stop_unix_ms: i64,
}

/// A pod at its ordinary work.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Normal {
    /// The pod.
    pub pod_uid: String,
    /// From, Unix milliseconds.
    pub start_unix_ms: i64,
    /// To, Unix milliseconds.
    pub stop_unix_ms: i64,
}

impl Schedule {
    /// Reads the injector's file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a schedule", path.display()))
    }

    /// Attacks in the order of their begin.
    pub fn attacks(&self) -> impl Iterator<Item = &Episode> {
        self.episodes.iter().filter(|episode| episode.attack)
    }

    /// How many placebos there were.
    pub fn placebos(&self) -> usize {
        self.episodes.iter().filter(|episode| !episode.attack).count()
    }
}

/// What the range says while it runs, one JSON object a line; kinds that are not shown are [`Said::Other`].
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// When.
    pub unix_ms: i64,
    /// What.
    #[serde(flatten)]
    pub said: Said,
}

/// What happened in the range.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Said {
    /// Pods are being made.
    Starting {
        /// How many.
        pods: u32,
    },
    /// What will come.
    Coming {
        /// Episodes, in the order of their begin.
        episodes: Vec<Coming>,
    },
    /// How long the run will take.
    Plan {
        /// Seconds.
        seconds: u64,
    },
    /// A part of the plan begins.
    Phase {
        /// Its name.
        name: String,
    },
    /// An attack, a look-alike or a placebo begins.
    Start {
        /// Its name.
        episode: String,
        /// Its kind.
        kind: String,
        /// An attack; else ordinary work.
        attack: bool,
        /// Owner of the pod that it is about.
        owner_name: String,
    },
    /// An attack, a look-alike or a placebo is over.
    Stop {
        /// Its name.
        episode: String,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// An episode that will come.
#[derive(Clone, Debug, Deserialize)]
pub struct Coming {
    /// Its name.
    pub episode: String,
    /// `attack`, `look-alike` or `placebo`.
    pub role: String,
    /// When, from the plan's begin.
    pub at_seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_newer_range_are_no_error() {
        let read = |line: &str| serde_json::from_str::<Event>(line).unwrap().said;

        assert!(matches!(read(r#"{"unix_ms":1,"event":"plan","seconds":36,"run":"x"}"#), Said::Plan { seconds: 36 }));
        let coming = r#"{"unix_ms":1,"event":"coming","plan":"x","seed":1,"episodes":[{"episode":"a","role":"attack","kind":"scan","at_seconds":2.5,"seconds":3}]}"#;
        assert!(matches!(read(coming), Said::Coming { episodes } if episodes.len() == 1 && episodes[0].at_seconds == 2.5));
        assert!(matches!(read(r#"{"unix_ms":1,"event":"done"}"#), Said::Other));
        assert!(matches!(read(r#"{"unix_ms":1,"event":"ended","owner_name":"a","container_id":"b","failures":1}"#), Said::Other));
    }
}
