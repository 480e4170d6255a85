//! A run from the first pod to the last: ordinary work, attacks and placebos on the plan's clock, labels, and everything removed.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use rand::RngExt;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use vedette_proto::v1::Kind;

use crate::{
    cgroups::{Cgroups, Limits},
    clean,
    events::{Event, emit},
    guard::{Net, own_namespace},
    home::Home,
    labels::{LabelArgs, Labels},
    network::Network,
    now_unix_ms,
    plan::{Dose, Episode, Placement, Plan},
    pod::{NAMESPACE, Pod, PodSpec, Program, Site},
    runtime::{Backend, Runtime},
    schedule::{Affected, EpisodeRecord, Schedule},
};

/// Longest a touched pod is still touched after the attack: connections time out, queues empty.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Host numbers that a sweep leaves out, those of the run's pods: its targets are absent or refuse, and no bystander is touched.
const POD_HOSTS: std::ops::RangeInclusive<u8> = 10..=60;
const MIB: u64 = 1 << 20;

/// Flags of `vedette-range run`.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// The plan: `demo` (6.5 minutes) or `smoke` (half a minute, for tests)
    #[arg(long, default_value = "demo")]
    pub plan: String,
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
    /// Order of the attacks, their dose and jitter
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where labels go; nowhere unless said.
    #[command(flatten)]
    pub labels: LabelArgs,
}

/// Runs the plan and removes everything, also when it fails or is stopped.
///
/// # Errors
/// When the range cannot be made or removed, or labels are not taken.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let plan = Plan::named(&args.plan, seed).with_context(|| format!("no plan named {:?}: there are demo and smoke", args.plan))?;
    let labels = Labels::prepare(&args.labels)?;
    let cgroups = Cgroups::find(&args.root_cgroup)?;
    let executable = std::env::current_exe().context("cannot find this executable")?;
    let home = Home::claim(&args.root_cgroup, &executable)?;
    let outcome = make_and_run(&args, &plan, labels, &cgroups, &home).await;
    let removed = clean::remove(&cgroups, &home).await;
    outcome?;
    removed?;
    emit(&Event::Done);
    Ok(())
}

async fn make_and_run(args: &RunArgs, plan: &Plan, labels: Labels, cgroups: &Cgroups, home: &Home) -> anyhow::Result<()> {
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
            plan: plan.name.to_owned(),
            seed: plan.seed,
            subnet: subnet.to_string(),
            started_unix_ms: now_unix_ms(),
            ..Schedule::default()
        }),
        backoff: plan.timing.backoff,
    });
    info!(seed = plan.seed, %subnet, seconds = plan.total.as_secs(), "the range begins");
    let range = Arc::new(Range { site, labels, host_namespace: own_namespace()?, pods: Mutex::default() });
    let played = tokio::select! {
        played = Arc::clone(&range).play(plan) => played,
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

/// What the plan wants at some moment.
enum Moment<'a> {
    Phase(&'a str, Duration),
    Episode(&'a Episode),
}

struct Range {
    site: Arc<Site>,
    labels: Labels,
    host_namespace: u64,
    /// Every pod that is not removed yet, by its owner.
    pods: Mutex<HashMap<String, Arc<Pod>>>,
}

impl Range {
    async fn play(self: Arc<Self>, plan: &Plan) -> anyhow::Result<()> {
        let begin = Instant::now();
        emit(&Event::Plan { seconds: plan.total.as_secs(), run: &self.site.schedule().run });
        self.ordinary_work().await?;
        let mut episodes = tokio::task::JoinSet::new();
        let phases = plan.phases.iter().map(|phase| (phase.1, Moment::Phase(phase.0, phase.2)));
        let starts = plan.episodes.iter().map(|episode| (episode.at, Moment::Episode(episode)));
        let mut moments: Vec<_> = phases.chain(starts).collect();
        moments.sort_by_key(|moment| moment.0);
        for (at, moment) in moments {
            sleep_until(begin + at).await;
            match moment {
                Moment::Phase(name, lasts) => emit(&Event::Phase { name, seconds: lasts.as_secs() }),
                Moment::Episode(episode) => drop(episodes.spawn(Arc::clone(&self).episode(episode.clone()))),
            }
        }
        while let Some(outcome) = episodes.join_next().await {
            outcome??;
        }
        sleep_until(begin + plan.total).await;
        Ok(())
    }

    /// Starts the workloads that are there from the first second to the last.
    async fn ordinary_work(&self) -> anyhow::Result<()> {
        let services = [
            ("web", "Deployment", "web", limits(500, 64)),
            ("catalog", "Deployment", "web", limits(500, 64)),
            ("cache", "StatefulSet", "cache", limits(2_000, 96)),
            ("archive", "Deployment", "sink", limits(0, 64)),
        ];
        for (name, owner_kind, behaviour, limits) in services {
            let pod = self.pod(name, owner_kind, limits).await?;
            pod.start(vec![program(name, &[behaviour, "--address", &pod.network.address.to_string()])]).await?;
        }
        let clients = [
            ("frontend", limits(0, 0)),
            ("session", limits(2_000, 64)),
            ("mailer", limits(0, 64)),
            ("search", limits(0, 64)),
            ("stock", limits(0, 64)),
            ("nightly-index", limits(1_000, 64)),
        ];
        for (name, limits) in clients {
            let pod = self.pod(name, "Deployment", limits).await?;
            pod.start(vec![self.ordinary(name)?]).await?;
        }
        Ok(())
    }

    /// The ordinary program of a workload that is a client of others.
    fn ordinary(&self, owner: &str) -> anyhow::Result<Program> {
        Ok(match owner {
            // Until it is killed: a steady client has no end.
            "frontend" => {
                let web = self.target("web", 8080)?;
                program(owner, &self.bounded(&["load", "--target", &web, "--rate", "20", "--connections", "4", "--seconds", "86400"]))
            }
            "session" => program(owner, &self.bounded(&["cache-client", "--target", &self.target("cache", 6379)?])),
            "nightly-index" => program(owner, &["batch", "--dir", &self.site.home.work().to_string_lossy()]),
            // Of another service than the one that is flooded: bystanders stay bystanders.
            _ => program(owner, &self.bounded(&["worker", "--target", &self.target("catalog", 8080)?])),
        })
    }

    async fn episode(self: Arc<Self>, episode: Episode) -> anyhow::Result<()> {
        let attack = episode.attack;
        let start_unix_ms = now_unix_ms();
        let host = match episode.placement {
            Placement::Inside => self.known(episode.owner)?,
            Placement::New => self.pod(episode.owner, "Deployment", limits(0, 128)).await?,
        };
        // The victim of a flood is what the label is about; where its program runs is touched.
        let about = if episode.kind == Kind::Flood && attack { self.known("web")? } else { Arc::clone(&host) };
        emit(&Event::Start {
            episode: &episode.name,
            kind: episode.kind.word(),
            attack,
            placement: episode.placement.word(),
            owner_name: &about.spec.owner_name,
            pod_uid: &about.uid,
        });
        self.dose(&episode, &host).await?;
        let stop_unix_ms = now_unix_ms();
        emit(&Event::Stop { episode: &episode.name });
        let failures = about.failures_since(start_unix_ms);
        let onset_unix_ms = if episode.kind == Kind::CrashLoop { failures.get(2).copied().unwrap_or(0) } else { start_unix_ms };
        let record = EpisodeRecord {
            episode: episode.name.clone(),
            kind: episode.kind.word().to_owned(),
            attack,
            placement: episode.placement.word().to_owned(),
            round: episode.round,
            intensity: episode.dose.to_string(),
            start_unix_ms,
            stop_unix_ms,
            onset_unix_ms,
            pod_uid: about.uid.clone(),
            namespace: NAMESPACE.to_owned(),
            owner_kind: about.spec.owner_kind.to_owned(),
            owner_name: about.spec.owner_name.clone(),
            container: about.spec.owner_name.clone(),
            container_ids: about.container_ids(start_unix_ms, stop_unix_ms),
        };
        let affected = self.affected(&record, &host);
        {
            let mut schedule = self.site.schedule();
            schedule.episodes.push(record.clone());
            schedule.affected.extend(affected.iter().cloned());
        }
        self.labels.episode(&record, &affected).await?;
        Ok(())
    }

    /// Starts the episode's program, waits, and stops it.
    async fn dose(&self, episode: &Episode, host: &Arc<Pod>) -> anyhow::Result<()> {
        // The program's own bound lies a little behind ours, in case we are slow.
        let seconds = (episode.lasts.as_secs() + 2).to_string();
        let comm = if episode.placement == Placement::New { episode.owner } else { "helper" };
        let until = Instant::now() + episode.lasts;
        let dose = match episode.dose {
            Dose::Fail { after_ms, once } => {
                let healthy = self.ordinary(episode.owner)?;
                let catalog = self.target("catalog", 8080)?;
                let failing =
                    program(&healthy.comm, &self.bounded(&["worker", "--target", &catalog, "--fail-after-ms", &after_ms.to_string()]));
                match (episode.placement, once) {
                    (Placement::New, false) => host.start(vec![failing]).await?,
                    (Placement::New, true) => host.start(vec![failing, healthy]).await?,
                    (Placement::Inside, false) => host.become_one(vec![failing]).await?,
                    (Placement::Inside, true) => host.become_one(vec![healthy]).await?,
                }
                sleep_until(until).await;
                if episode.placement == Placement::Inside && !once {
                    host.become_one(vec![self.ordinary(episode.owner)?]).await?;
                }
                return self.end_new(episode, host).await;
            }
            Dose::Hash { threads, duty_pct } => {
                program(comm, &["hash", "--threads", &threads.to_string(), "--duty-pct", &duty_pct.to_string(), "--seconds", &seconds])
            }
            Dose::Connect { rate, sweep } => {
                let rate = rate.to_string();
                let mut args = self.bounded(&["connect", "--rate", &rate, "--seconds", &seconds]);
                if sweep {
                    args.push("--sweep".to_owned());
                    args.extend(POD_HOSTS.flat_map(|host| ["--except".to_owned(), host.to_string()]));
                } else {
                    for target in [self.target("catalog", 8080)?, self.target("cache", 6379)?] {
                        args.extend(["--target".to_owned(), target]);
                    }
                }
                program(comm, &args)
            }
            Dose::Load { rate, connections, reuse } => {
                let (web, rate, connections, reuse) =
                    (self.target("web", 8080)?, rate.to_string(), connections.to_string(), reuse.to_string());
                let args =
                    ["load", "--target", &web, "--rate", &rate, "--connections", &connections, "--reuse", &reuse, "--seconds", &seconds];
                program(comm, &self.bounded(&args))
            }
            Dose::Upload { rate, burst, every } => {
                let (sink, rate, burst, every) = (self.target("archive", 9000)?, rate.to_string(), burst.to_string(), every.to_string());
                let args = ["upload", "--target", &sink, "--rate", &rate, "--burst", &burst, "--every", &every, "--seconds", &seconds];
                program(comm, &self.bounded(&args))
            }
        };
        match episode.placement {
            Placement::New => host.start(vec![dose]).await?,
            Placement::Inside => {
                let mut child = host.exec(&dose)?;
                sleep_until(until).await;
                child.kill().await.context("cannot stop a program inside a container")?;
                return Ok(());
            }
        }
        sleep_until(until).await;
        self.end_new(episode, host).await
    }

    async fn end_new(&self, episode: &Episode, host: &Pod) -> anyhow::Result<()> {
        if episode.placement == Placement::New {
            host.stop().await?;
            self.pods().remove(episode.owner);
        }
        Ok(())
    }

    /// Pods that an attack touches without being its target.
    fn affected(&self, episode: &EpisodeRecord, host: &Pod) -> Vec<Affected> {
        let mut owners = match Kind::from_word(&episode.kind) {
            Some(Kind::Flood) => vec!["frontend"],
            Some(Kind::Exfiltration) => vec!["archive"],
            _ => Vec::new(),
        };
        if !episode.attack {
            owners.clear();
        }
        let mut pods: Vec<(String, String)> =
            owners.iter().filter_map(|owner| self.known(owner).ok()).map(|pod| (pod.uid.clone(), pod.spec.owner_name.clone())).collect();
        if episode.attack && host.uid != episode.pod_uid {
            pods.push((host.uid.clone(), host.spec.owner_name.clone()));
        }
        pods.into_iter()
            .map(|(pod_uid, owner_name)| Affected {
                episode: episode.episode.clone(),
                kind: episode.kind.clone(),
                pod_uid,
                owner_name,
                start_unix_ms: episode.start_unix_ms,
                stop_unix_ms: episode.stop_unix_ms + i64::try_from(AFTERMATH.as_millis()).unwrap_or(0),
            })
            .collect()
    }

    /// Removes every pod and writes down what is known; labels of ordinary work only for a run that went to its end.
    async fn finish(&self, args: &RunArgs, whole: bool) -> anyhow::Result<()> {
        let pods: Vec<_> = self.pods().drain().map(|(_, pod)| pod).collect();
        for pod in pods {
            if let Err(error) = pod.stop().await {
                warn!(%error, "cannot stop a pod");
            }
        }
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

    async fn pod(&self, owner: &str, owner_kind: &'static str, limits: Limits) -> anyhow::Result<Arc<Pod>> {
        let pod = Pod::create(&self.site, PodSpec { owner_kind, owner_name: owner.to_owned(), limits, work: Some(self.site.home.work()) })
            .await?;
        self.pods().insert(owner.to_owned(), Arc::clone(&pod));
        Ok(pod)
    }

    fn pods(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn known(&self, owner: &str) -> anyhow::Result<Arc<Pod>> {
        self.pods().get(owner).cloned().with_context(|| format!("no pod of {owner} is running"))
    }

    fn target(&self, owner: &str, port: u16) -> anyhow::Result<String> {
        Ok(format!("{}:{port}", self.known(owner)?.network.address))
    }

    /// Arguments with the bounds that every sending program must have.
    fn bounded(&self, args: &[&str]) -> Vec<String> {
        let bounds =
            ["--allow".to_owned(), self.site.network.subnet.to_string(), "--host-namespace".to_owned(), self.host_namespace.to_string()];
        args.iter().map(|&arg| arg.to_owned()).chain(bounds).collect()
    }
}

fn program(comm: &str, args: &[impl AsRef<str>]) -> Program {
    Program { comm: comm.to_owned(), args: args.iter().map(|arg| arg.as_ref().to_owned()).collect() }
}

/// Limits as a kubelet would set them; 0 means none.
fn limits(cpu_millicores: u64, memory_mib: u64) -> Limits {
    let some = |value: u64| (value > 0).then_some(value);
    Limits { cpu_millicores: some(cpu_millicores), memory_bytes: some(memory_mib * MIB), pids: Some(512) }
}
