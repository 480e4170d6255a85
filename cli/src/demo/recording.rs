//! The recording that comes with Vedette, and the saving of a live run as another.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::accounting::Accounting;
use super::schedule::Schedule;
use crate::recording::{CONTAINERS, Facts, LABELS, MANIFEST, Missing, OBSERVATIONS, Recorded, SCHEDULE, Set, find};
use crate::stage::{Stage, cgroup_version, checkout_commit, kernel};

/// One live run of its own, made with `vedette demo --record`.
const BUILT_IN: [(&str, &[u8]); 5] = [
    (MANIFEST, include_bytes!("../../demo/manifest.json")),
    (OBSERVATIONS, include_bytes!("../../demo/observations.parquet")),
    (CONTAINERS, include_bytes!("../../demo/containers.jsonl")),
    (LABELS, include_bytes!("../../demo/labels.jsonl")),
    (SCHEDULE, include_bytes!("../../demo/schedule.json")),
];

/// Reads a recording: the one in `path`, else the built-in one; and what the injector knew.
pub fn open(path: Option<&Path>) -> anyhow::Result<(Recorded, Schedule)> {
    let recorded = match path {
        Some(path) => {
            let dirs = find(path)?;
            Recorded::open(dirs.first().context("no recording")?)?
        }
        None => {
            // What reads recordings reads files.
            let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
            for (name, content) in BUILT_IN {
                fs::write(folder.path().join(name), content).context("cannot unpack the recording")?;
            }
            Recorded::open(folder.path())?
        }
    };
    let schedule = serde_json::from_str(&recorded.schedule).with_context(|| format!("{SCHEDULE} does not go with a demonstration"))?;
    Ok((recorded, schedule))
}

/// Saves a run; `text` is what the injector wrote.
pub async fn save(
    dir: &Path,
    stage: &mut Stage,
    cluster: &str,
    schedule: &Schedule,
    accounting: Accounting,
    text: &str,
) -> anyhow::Result<()> {
    let facts = Facts {
        name: "demo-replay".to_owned(),
        plan: "demo".to_owned(),
        seed: schedule.seed,
        backend: "local".to_owned(),
        set: Set::Demo,
        cluster: cluster.to_owned(),
        started_unix_ms: schedule.started_unix_ms,
        ended_unix_ms: schedule.ended_unix_ms,
        cgroup_version: cgroup_version(),
        kernel: kernel(),
        commit: checkout_commit().await,
        expected: accounting.expected,
        missing: accounting.missing.into_iter().map(Missing::from).collect(),
        foreign_cpu_share: None,
        load_before: None,
        schedule: text.to_owned(),
        left_out: HashSet::new(),
    };
    let manifest = crate::recording::save(&mut stage.client, facts, dir).await?;
    println!("recorded {} rows in {}", manifest.rows, dir.display());
    Ok(())
}
