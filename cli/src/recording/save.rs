//! Takes a session out of an aggregator into a folder, whole or not at all.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use vedette_history::{Recording, ship};
use vedette_proto::v1::{
    Container, ExportFormat, ExportLayout, ExportRequest, Label, ListContainersRequest, ListLabelsRequest, Selector, TimeRange,
};

use super::manifest::{Fingerprint, Missing};
use super::{CONTAINERS, FORMAT, LABELS, MANIFEST, Manifest, OBSERVATIONS, SCHEDULE, Said, Seen, Set, write_lines};
use crate::client::Client;
use crate::exit::Stop;
use crate::export::to_file;

/// Most containers and labels that are asked for; more are an error.
const MAX_LISTED: u32 = 100_000;
/// Agents tick on their own clock: what they saw of the first and the last container lies up to so much outside of the run.
const MARGIN_MS: i64 = 5_000;

/// What the aggregator does not know of a session.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the recording.
    pub name: String,
    /// Name of the plan.
    pub plan: String,
    /// Its seed.
    pub seed: u64,
    /// What ran the containers.
    pub backend: String,
    /// What it may be used for.
    pub set: Set,
    /// Where the aggregator has it.
    pub cluster: String,
    /// First pod created, Unix milliseconds.
    pub started_unix_ms: i64,
    /// Last pod gone, Unix milliseconds.
    pub ended_unix_ms: i64,
    /// 1 or 2.
    pub cgroup_version: u32,
    /// Release of the kernel.
    pub kernel: String,
    /// Commit that the programs were built from.
    pub commit: Option<String>,
    /// Containers alive times ticks.
    pub expected: u64,
    /// Why there are fewer.
    pub missing: Vec<Missing>,
    /// Processor time used by others.
    pub foreign_cpu_share: Option<f64>,
    /// Load average just before.
    pub load_before: Option<f64>,
    /// What the injector wrote.
    pub schedule: String,
    /// Ids of containers that are not recorded.
    pub left_out: HashSet<String>,
}

/// Writes the recording `dir`, which appears once it is complete. What lies there is an error, and untouched.
pub async fn save(client: &mut Client, facts: Facts, dir: &Path) -> anyhow::Result<Manifest> {
    if dir.exists() {
        bail!("{} is there already", dir.display());
    }
    let part = unfinished(dir)?;
    let written = write(client, facts, &part).await;
    if written.is_err() {
        // Whatever is left says nothing; the error does.
        let _ = fs::remove_dir_all(&part);
    }
    let manifest = written?;
    fs::rename(&part, dir).with_context(|| format!("cannot rename {} to {}", part.display(), dir.display()))?;
    Ok(manifest)
}

/// The folder beside `dir` that it is made in; one that a killed run left is emptied.
fn unfinished(dir: &Path) -> anyhow::Result<PathBuf> {
    let name = dir.file_name().with_context(|| format!("{} has no name", dir.display()))?;
    let part = dir.with_file_name(format!(".{}.part", name.to_string_lossy()));
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
    Ok(part)
}

async fn write(client: &mut Client, facts: Facts, dir: &Path) -> anyhow::Result<Manifest> {
    let range = TimeRange { start_unix_ms: facts.started_unix_ms - MARGIN_MS, end_unix_ms: facts.ended_unix_ms + MARGIN_MS };
    let of_cluster = || Selector { cluster: facts.cluster.clone(), ..Selector::default() };
    let request = ExportRequest {
        format: ExportFormat::Parquet.into(),
        layout: ExportLayout::Full.into(),
        range: Some(range),
        selector: Some(of_cluster()),
        ..ExportRequest::default()
    };
    let (exported, observations) = (dir.join("exported.parquet"), dir.join(OBSERVATIONS));
    to_file(client, request, &exported).await?;
    let (rows, _) = ship(&exported, &observations, &facts.left_out)?;
    fs::remove_file(&exported).with_context(|| format!("cannot remove {}", exported.display()))?;

    let request = ListContainersRequest { selector: Some(of_cluster()), include_gone: true, include_told: true, limit: MAX_LISTED };
    let listed = client.query.list_containers(request).await.map_err(Stop::from)?.into_inner();
    let recorded = |container: &&Container| !facts.left_out.contains(&container.container_id);
    let mut containers: Vec<_> = listed.containers.iter().filter(recorded).map(Seen::of).collect();
    containers.sort_by(|a, b| (a.first_seen_unix_ms, &a.container_id).cmp(&(b.first_seen_unix_ms, &b.container_id)));

    let request = ListLabelsRequest { range: Some(range), limit: MAX_LISTED, ..ListLabelsRequest::default() };
    let answer = client.label.list_labels(request).await.map_err(Stop::from)?.into_inner();
    let here = |label: &&Label| label.selector.as_ref().is_some_and(|selector| selector.cluster == facts.cluster);
    let mut labels: Vec<_> = answer.labels.iter().filter(here).map(Said::of).collect();
    labels.sort();
    if listed.truncated || answer.truncated {
        bail!("more than {MAX_LISTED} containers or labels: too much for a recording");
    }

    write_lines(&dir.join(CONTAINERS), &containers)?;
    write_lines(&dir.join(LABELS), &labels)?;
    let schedule: serde_json::Value = serde_json::from_str(&facts.schedule).context("the injector's schedule is no JSON")?;
    fs::write(dir.join(SCHEDULE), serde_json::to_string(&schedule)?).with_context(|| format!("cannot write {SCHEDULE}"))?;

    let mut files = BTreeMap::new();
    for name in [OBSERVATIONS, CONTAINERS, LABELS, SCHEDULE] {
        files.insert(name.to_owned(), Fingerprint::of(&dir.join(name))?);
        File::open(dir.join(name)).and_then(|file| file.sync_all()).with_context(|| format!("cannot sync {name}"))?;
    }
    let recording = Recording::open(&observations)?;
    let manifest = Manifest {
        format: FORMAT,
        name: facts.name,
        plan: facts.plan,
        seed: facts.seed,
        backend: facts.backend,
        set: facts.set,
        started_unix_ms: facts.started_unix_ms,
        ended_unix_ms: facts.ended_unix_ms,
        nodes: recording.nodes().into_iter().map(str::to_owned).collect(),
        cgroup_version: facts.cgroup_version,
        kernel: facts.kernel,
        vedette: env!("CARGO_PKG_VERSION").to_owned(),
        commit: facts.commit,
        rows,
        container_rows: recording.container_observations() as u64,
        containers: containers.len() as u64,
        labels: labels.len() as u64,
        expected: facts.expected,
        missing: facts.missing,
        foreign_cpu_share: facts.foreign_cpu_share,
        load_before: facts.load_before,
        files,
    };
    manifest.write(&dir.join(MANIFEST))?;
    Ok(manifest)
}
