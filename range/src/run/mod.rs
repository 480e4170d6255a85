//! A run from the first pod to the last: ordinary work, episodes on the plan's clock, labels, and everything removed.

mod episode;
mod pods;
pub mod record;

use std::{
    fs::OpenOptions,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use rand::RngExt;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use self::pods::Pods;
use crate::{
    cgroups::Cgroups,
    clean,
    events::{Coming, Event, emit},
    guard::{Net, own_namespace},
    home::Home,
    labels::{LabelArgs, Labels},
    network::Network,
    now_unix_ms,
    plan::{
        Plan, expand,
        timeline::{Moment, Phase, Timeline},
        values::Length,
    },
    pod::Site,
    runtime::{Backend, Runtime},
    schedule::{PhaseRecord, Schedule},
};

/// Slowest and fastest clock.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.1..=100.0;

/// Which timeline is meant.
#[derive(clap::Args, Clone, Debug)]
pub struct PlanArgs {
    /// The plan: the name of a shipped one, or a file
    #[arg(long, default_value = "demo", value_name = "FILE|NAME")]
    pub plan: String,
    /// What the plan leaves open comes from it; the plan's own unless given, else different in every run
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Ordinary work before the first phase, instead of the plan's own, such as 1h
    #[arg(long, value_name = "LENGTH")]
    pub warm_up: Option<Length>,
    /// How many times as fast the plan's clock runs; what behaviours do in a second stays the same
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    pub speed: f64,
}

impl PlanArgs {
    /// The timeline.
    ///
    /// # Errors
    /// When there is no such plan, or it makes no sense.
    pub fn timeline(&self) -> anyhow::Result<Timeline> {
        anyhow::ensure!(SPEEDS.contains(&self.speed), "--speed {}: 0.1 to 100 are possible", self.speed);
        let mut plan = Plan::load(&self.plan)?;
        if let Some(warm_up) = self.warm_up {
            plan.file.warm_up = warm_up;
        }
        // Short enough to be typed, and exact where it is written as a JSON number.
        let seed = self.seed.or(plan.file.seed).unwrap_or_else(|| u64::from(rand::random::<u32>()));
        Ok(expand(&plan, seed)?.at_speed(self.speed))
    }
}

/// Flags of `vedette-range run`.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// What happens.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Name of the run's own subtree in every cgroup hierarchy
    #[arg(long)]
    pub root_cgroup: String,
    /// What runs the pods
    #[arg(long, value_enum, default_value_t = Backend::Local)]
    pub backend: Backend,
    /// File that gets one line of identity per pod, before the pod starts
    #[arg(long)]
    pub identity_file: Option<PathBuf>,
    /// File that gets everything that the injector knows, at the end
    #[arg(long)]
    pub schedule_out: Option<PathBuf>,
    /// Stop, and remove everything, when the process that started this one is gone
    #[arg(long)]
    pub stop_with_parent: bool,
    /// Where labels go; nowhere unless said.
    #[command(flatten)]
    pub labels: LabelArgs,
}

/// Runs the plan and removes everything, also when it fails or is stopped.
///
/// # Errors
/// When the range cannot be made or removed, or labels are not taken.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let timeline = args.plan.timeline()?;
    if args.stop_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).context("cannot follow the parent's end")?;
    }
    let labels = Labels::prepare(&args.labels)?;
    let cgroups = Cgroups::find(&args.root_cgroup)?;
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let home = Home::claim(&args.root_cgroup, &executable)?;
    let outcome = make_and_run(&args, timeline, labels, &cgroups, &home).await;
    let removed = clean::remove(&cgroups, &home).await;
    outcome?;
    removed?;
    emit(&Event::Done);
    Ok(())
}

async fn make_and_run(args: &RunArgs, timeline: Timeline, labels: Labels, cgroups: &Cgroups, home: &Home) -> anyhow::Result<()> {
    // What an earlier run of this name left, if it was killed.
    cgroups.remove("").await?;
    let subnet = Net::slash24(std::net::Ipv4Addr::new(10, 213, rand::rng().random(), 0));
    let identities = args.identity_file.as_ref().map(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.map(Mutex::new).with_context(|| format!("cannot open {}", path.display()))
    });
    let site = Arc::new(Site {
        cgroups: cgroups.clone(),
        network: Network::create(subnet).await?,
        home: home.clone(),
        runtime: Runtime::start(args.backend, cgroups, home).await?,
        identities: identities.transpose()?,
        schedule: Mutex::new(Schedule {
            run: args.root_cgroup.clone(),
            plan: timeline.plan.clone(),
            seed: timeline.seed,
            backend: args.backend.word().to_owned(),
            speed: args.plan.speed,
            subnet: subnet.to_string(),
            started_unix_ms: now_unix_ms(),
            ..Schedule::default()
        }),
        backoff: timeline.backoff,
    });
    info!(plan = timeline.plan, seed = timeline.seed, %subnet, seconds = timeline.total.as_secs(), "the range begins");
    let pods = Pods::new(Arc::clone(&site), timeline.workloads.clone(), own_namespace()?);
    let range = Arc::new(Range { site, labels, pods, timeline });
    let played = tokio::select! {
        played = Arc::clone(&range).play() => played,
        signal = stopped() => Err(anyhow::anyhow!("stopped by {signal}")),
    };
    let finished = range.finish(args, played.is_ok()).await;
    played?;
    finished
}

async fn stopped() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        },
        _ => std::future::pending().await,
    }
}

struct Range {
    site: Arc<Site>,
    labels: Labels,
    pods: Pods,
    timeline: Timeline,
}

impl Range {
    async fn play(self: Arc<Self>) -> anyhow::Result<()> {
        let timeline = &self.timeline;
        emit(&Event::Starting { pods: timeline.workloads.iter().map(|workload| workload.replicas).sum() });
        self.pods.start_all().await?;
        // The clock begins when everybody is there: a runtime that takes long to start pods must not shorten the first phase.
        let begin = Instant::now();
        self.announce();
        let mut episodes = tokio::task::JoinSet::new();
        for (at, moment) in timeline.moments() {
            // An episode that fails ends the run, also while the next one is far.
            loop {
                tokio::select! {
                    () = sleep_until(begin + at) => break,
                    Some(outcome) = episodes.join_next() => outcome??,
                }
            }
            match moment {
                Moment::Phase(phase) => self.phase(phase),
                Moment::Episode(episode) => drop(episodes.spawn(Arc::clone(&self).episode(episode.clone(), begin))),
            }
        }
        while let Some(outcome) = episodes.join_next().await {
            outcome??;
        }
        sleep_until(begin + timeline.total).await;
        self.end_phase(now_unix_ms());
        Ok(())
    }

    fn announce(&self) {
        let seconds = |length: Duration| length.as_secs_f64();
        let coming = self.timeline.episodes.iter().map(|episode| Coming {
            episode: &episode.name,
            kind: episode.kind.word(),
            role: episode.role.word(),
            at_seconds: seconds(episode.at),
            seconds: seconds(episode.lasts),
        });
        emit(&Event::Plan { seconds: self.timeline.total.as_secs(), run: &self.site.schedule().run });
        emit(&Event::Coming { plan: &self.timeline.plan, seed: self.timeline.seed, episodes: coming.collect() });
    }

    fn phase(&self, phase: &Phase) {
        let start_unix_ms = now_unix_ms();
        self.end_phase(start_unix_ms);
        let record = PhaseRecord { name: phase.name.clone(), start_unix_ms, stop_unix_ms: 0 };
        self.site.schedule().phases.push(record);
        emit(&Event::Phase { name: &phase.name, seconds: phase.lasts.as_secs() });
    }

    fn end_phase(&self, unix_ms: i64) {
        if let Some(phase) = self.site.schedule().phases.last_mut() {
            phase.stop_unix_ms = unix_ms;
        }
    }

    /// Removes every pod and writes down what is known; labels of ordinary work only for a run that went to its end.
    async fn finish(&self, args: &RunArgs, whole: bool) -> anyhow::Result<()> {
        self.pods.stop_all().await;
        let schedule = {
            let mut schedule = self.site.schedule();
            schedule.ended_unix_ms = now_unix_ms();
            schedule.fill_normal();
            schedule.clone()
        };
        if let Some(path) = &args.schedule_out {
            let text = serde_json::to_string_pretty(&schedule)?;
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if whole {
            self.labels.normal(&schedule).await?;
        }
        Ok(())
    }
}
