//! What happens, as it happens: one JSON object a line on standard output, for whoever started the run.

use std::io::Write;

use serde::Serialize;

use crate::now_unix_ms;

/// Something that happened in the run.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The workloads' pods are being made.
    Starting {
        /// How many.
        pods: u32,
    },
    /// Everybody is there and the plan's clock begins: how long it will take.
    Plan {
        /// Seconds in all.
        seconds: u64,
        /// Name of the run.
        run: &'a str,
    },
    /// What will come.
    Coming {
        /// Name of the plan.
        plan: &'a str,
        /// What everything random in it came from.
        seed: u64,
        /// Attacks, look-alikes and placebos, in the order of their begin.
        episodes: Vec<Coming<'a>>,
    },
    /// A part of the plan begins.
    Phase {
        /// Its name.
        name: &'a str,
        /// How long it takes, seconds.
        seconds: u64,
    },
    /// An attack, look-alike or placebo begins.
    Start {
        /// Its name.
        episode: &'a str,
        /// Its kind.
        kind: &'a str,
        /// `attack`, `look-alike` or `placebo`.
        role: &'a str,
        /// An attack; else ordinary work.
        attack: bool,
        /// Where the program was started.
        placement: &'a str,
        /// Owner of the pod it is about.
        owner_name: &'a str,
        /// Pod it is about.
        pod_uid: &'a str,
        /// How long it will take.
        seconds: f64,
    },
    /// An attack, look-alike or placebo is over.
    Stop {
        /// Its name.
        episode: &'a str,
    },
    /// A container ended by itself.
    Ended {
        /// Owner of its pod.
        owner_name: &'a str,
        /// The container.
        container_id: &'a str,
        /// How many ended badly in a row.
        failures: u32,
    },
    /// Everything is over and cleaned up.
    Done,
}

/// An episode that will come.
#[derive(Debug, Serialize)]
pub struct Coming<'a> {
    /// Its name.
    pub episode: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// `attack`, `look-alike` or `placebo`.
    pub role: &'a str,
    /// When, from the plan's begin.
    pub at_seconds: f64,
    /// How long.
    pub seconds: f64,
}

/// Writes one event. A reader that is gone does not end the run: the labels matter more.
pub fn emit(event: &Event<'_>) {
    #[derive(Serialize)]
    struct Line<'a> {
        unix_ms: i64,
        #[serde(flatten)]
        event: &'a Event<'a>,
    }
    if let Ok(line) = serde_json::to_string(&Line { unix_ms: now_unix_ms(), event }) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
