//! One session: what is to be run, and how it becomes a recording.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;
use serde::Deserialize;

use super::load::{self, Load};
use super::{local, vm};
use crate::client::Client;
use crate::demo::accounting::{NOT_OBSERVED, account};
use crate::demo::finish::rows_by_container;
use crate::demo::schedule::Schedule;
use crate::exit::{Exit, Stop};
use crate::recording::{Facts, Manifest, Missing, Set, save};
use crate::stage::checkout_commit;

/// A session in which more than this share of what was expected was not observed, though it was there, is no recording.
const MOST_UNOBSERVED: f64 = 0.05;

/// What runs the containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Process trees in cgroups and network namespaces of their own
    #[default]
    Local,
    /// Pod sandboxes and containers of a containerd of its own
    Containerd,
    /// As local, in a virtual machine with cgroup v2 (make vm-image)
    Vm,
}

impl Backend {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Containerd => "containerd",
            Self::Vm => "vm",
        }
    }
}

/// A session to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Name of the recording.
    pub name: String,
    /// The plan: a name that the range knows, or a file.
    pub plan: String,
    /// The plan's seed. `None`: the plan's own, else a random one.
    pub seed: Option<u64>,
    /// What runs the containers.
    pub backend: Backend,
    /// Ordinary work before the plan's first phase. `None`: as the plan has it.
    pub warm_up: Option<String>,
    /// What it may be used for.
    pub set: Set,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, plan {}", self.name, self.plan)?;
        if let Some(seed) = self.seed {
            write!(f, ", seed {seed}")?;
        }
        if let Some(warm_up) = &self.warm_up {
            write!(f, ", {warm_up} of ordinary work before")?;
        }
        write!(f, ", {}", self.backend.word())
    }
}

/// A run that is over, its aggregator still there.
pub struct Ran {
    /// What the injector knows.
    pub schedule: Schedule,
    /// The same as it wrote it.
    pub text: String,
    /// Cluster of the aggregator.
    pub cluster: &'static str,
    /// From when on observations are expected, Unix milliseconds.
    pub from_unix_ms: i64,
    /// Observations of containers that the agent made. `None` where it cannot be asked.
    pub observations: Option<u64>,
    /// Observations of containers acknowledged.
    pub acknowledged: Option<u64>,
    /// 1 or 2.
    pub cgroup_version: u32,
    /// Release of the observed kernel.
    pub kernel: String,
    /// Processor time that the session used besides that of this process, seconds.
    pub own_cpu_seconds: f64,
}

impl Session {
    /// Runs it and writes its recording into `out`, whole or not at all.
    pub async fn record(&self, out: &Path, despite_load: bool) -> anyhow::Result<Manifest> {
        let load_before = load::quiet(despite_load).await?;
        let load = Load::begin();
        let (mut stage, ran) = match self.backend {
            Backend::Local | Backend::Containerd => local::run(self).await?,
            Backend::Vm => vm::run(self).await?,
        };
        let saved = self.save(&mut stage.client, ran, out, &load, load_before).await;
        stage.close().await;
        saved
    }

    /// The flags that tell the range what to run.
    pub fn range_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), "--plan".to_owned(), self.plan.clone()];
        if let Some(seed) = self.seed {
            arguments.extend(["--seed".to_owned(), seed.to_string()]);
        }
        if let Some(warm_up) = &self.warm_up {
            arguments.extend(["--warm-up".to_owned(), warm_up.clone()]);
        }
        if self.backend == Backend::Containerd {
            arguments.extend(["--backend".to_owned(), self.backend.word().to_owned()]);
        }
        arguments
    }

    async fn save(&self, client: &mut Client, ran: Ran, out: &Path, load: &Load, load_before: Option<f64>) -> anyhow::Result<Manifest> {
        let foreign_cpu_share = load.foreign_share(ran.own_cpu_seconds);
        let mut stored = rows_by_container(client, ran.cluster).await?;
        let total: u64 = stored.values().sum();
        if [ran.observations, ran.acknowledged].into_iter().flatten().any(|count| count != total) {
            let (made, acknowledged) = (ran.observations, ran.acknowledged);
            bail!("{}: {made:?} observations made, {acknowledged:?} acknowledged, {total} stored; not recorded", self.name);
        }
        // An agent observes a sandbox that works, and in an emulator the start of one is work. It says nothing about a workload.
        let sandboxes: HashSet<String> =
            ran.schedule.lives.iter().filter(|life| life.sandbox).map(|life| life.container_id.clone()).collect();
        stored.retain(|id, _| !sandboxes.contains(id));
        let accounting = account(&ran.schedule, &stored, ran.from_unix_ms);
        if accounting.stored < total {
            eprintln!("vedette: {}: {} observations of sandboxes are left out", self.name, total - accounting.stored);
        }
        if accounting.strangers > 0 {
            let known = |id: &String| ran.schedule.lives.iter().any(|life| life.container_id == *id);
            let (rows, stranger) = (accounting.strangers, stored.keys().find(|id| !known(id)).map_or("", String::as_str));
            bail!("{}: {rows} observations are of containers that are not of this run, such as {stranger}; not recorded", self.name);
        }
        let unobserved: u64 = accounting.missing.iter().filter(|missing| missing.0 == NOT_OBSERVED).map(|missing| missing.1).sum();
        if unobserved as f64 > accounting.expected as f64 * MOST_UNOBSERVED {
            let (stored, expected) = (accounting.stored, accounting.expected);
            bail!("{}: {stored} observations of {expected} expected, {unobserved} {NOT_OBSERVED}; not recorded", self.name);
        }
        if let Some(share) = foreign_cpu_share.filter(|&share| share > load::LOUD) {
            eprintln!("vedette: WARNING: others used {:.0} % of the processors during {}", share * 100.0, self.name);
        }
        let facts = Facts {
            name: self.name.clone(),
            plan: ran.schedule.plan.clone(),
            seed: ran.schedule.seed,
            backend: self.backend.word().to_owned(),
            set: self.set,
            cluster: ran.cluster.to_owned(),
            started_unix_ms: ran.schedule.started_unix_ms,
            ended_unix_ms: ran.schedule.ended_unix_ms,
            cgroup_version: ran.cgroup_version,
            kernel: ran.kernel,
            commit: checkout_commit().await,
            expected: accounting.expected,
            missing: accounting.missing.into_iter().map(Missing::from).collect(),
            foreign_cpu_share,
            load_before,
            schedule: ran.text,
            left_out: sandboxes,
        };
        std::fs::create_dir_all(out).map_err(|error| Stop::new(Exit::Failure, format!("cannot create {}: {error}", out.display())))?;
        save(client, facts, &out.join(&self.name)).await
    }
}
