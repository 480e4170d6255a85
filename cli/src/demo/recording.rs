//! A recorded run: the history's Parquet, and beside it what the injector and the agent knew of its containers.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use vedette_history::Tick;
use vedette_proto::v1::Container;

use super::replay::ticks;
use super::schedule::Schedule;

/// Name of the file of observations.
pub const OBSERVATIONS: &str = "recording.parquet";
/// Name of the file that goes with it.
pub const SCHEDULE: &str = "schedule.json";

/// The recording that comes with Vedette: one live run of its own, made with `vedette demo --record`.
const BUILT_IN: (&[u8], &str) = (include_bytes!("../../demo/recording.parquet"), include_str!("../../demo/schedule.json"));

/// What goes with the observations.
#[derive(Debug, Deserialize, Serialize)]
pub struct Recorded {
    /// What the injector knew.
    pub schedule: Schedule,
    /// What the agent saw come and go.
    pub containers: Vec<Seen>,
}

/// A container as the agent saw it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Seen {
    /// Its pod.
    pub pod_uid: String,
    /// Its id.
    pub container_id: String,
    /// Its cgroup.
    pub cgroup: String,
    /// Seen first, Unix milliseconds.
    pub first_seen_unix_ms: i64,
    /// Seen gone, Unix milliseconds. 0 means: not.
    pub gone_unix_ms: i64,
    /// Restarts before it.
    pub restarts: u32,
}

/// Writes what goes with the observations.
pub fn save_schedule(path: &Path, schedule: &Schedule, containers: &[Container]) -> anyhow::Result<()> {
    let seen = |container: &Container| Seen {
        pod_uid: container.pod_uid.clone(),
        container_id: container.container_id.clone(),
        cgroup: container.cgroup.clone(),
        first_seen_unix_ms: container.first_seen_unix_ms,
        gone_unix_ms: container.gone_unix_ms,
        restarts: container.restarts,
    };
    let recorded = Recorded { schedule: schedule.clone(), containers: containers.iter().map(seen).collect() };
    std::fs::write(path, serde_json::to_string(&recorded)?).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a recording: the one in `path`, else the built-in one.
pub fn open(path: Option<&Path>) -> anyhow::Result<(Vec<Tick>, Recorded)> {
    if let Some(path) = path {
        let beside = path.with_file_name(SCHEDULE);
        let text = std::fs::read_to_string(&beside).with_context(|| format!("cannot read {}", beside.display()))?;
        return Ok((ticks(path)?, parse(&text, &beside)?));
    }
    let (observations, schedule) = BUILT_IN;
    // The reader of the history wants a file.
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = folder.path().join(OBSERVATIONS);
    std::fs::write(&file, observations).context("cannot unpack the recording")?;
    Ok((ticks(&file)?, parse(schedule, Path::new(SCHEDULE))?))
}

fn parse(text: &str, path: &Path) -> anyhow::Result<Recorded> {
    serde_json::from_str(text).with_context(|| format!("{} does not go with a recording", path.display()))
}
