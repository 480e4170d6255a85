//! `vedette simulate --backend kube`: plays a plan as pods of a cluster, in a namespace of its own, and labels what they do with the
//! times that their kubelets and nodes say.

mod able;
mod access;
mod episode;
mod inside;
mod lives;
mod members;
mod objects;
mod probe;
mod site;
mod watching;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use vedette_proto::v1::{AddLabelsRequest, Label};
use vedette_range::labels::{self, MAX_LABELS};
use vedette_range::now_unix_ms;
use vedette_range::plan::table;
use vedette_range::plan::timeline::{Moment, Timeline};
use vedette_range::plan::values::Length;
use vedette_range::pod::random_hex;
use vedette_range::run::PlanArgs;
use vedette_range::schedule::{PhaseRecord, Schedule};

use self::members::Members;
use self::objects::Names;
use self::site::Site;
use self::watching::Watching;
use super::SimulateArgs;
use super::course::Course;
use crate::client::{Client, ConnectArgs, Route};
use crate::cluster::{Cluster, Role};
use crate::demo::schedule::{Coming, Said};
use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::stage::stopped;

/// Words that wait to be shown.
const MAX_WORDS: usize = 1_024;

/// Where a run is unless somebody says otherwise.
const NAMESPACE: &str = "vedette-range";
/// Attempts before labels are given up; the schedule file still holds them.
const ATTEMPTS: u32 = 5;
/// Digits of a run's own name.
const DIGITS: usize = 8;

/// One thing to show.
enum Word {
    Said(Said),
    Note(String),
}

/// A run whose namespace is there.
struct Run {
    site: Arc<Site>,
    watching: Arc<Watching>,
    members: Members,
    timeline: Timeline,
    labels: Option<Client>,
    /// A few words per episode for whoever shows them; at [`MAX_WORDS`] one is not shown.
    words: mpsc::Sender<Word>,
}

/// Runs the plan, and removes everything however that ends.
pub async fn run(args: &SimulateArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let timeline = timeline(args)?;
    let problems = able::problems(&timeline);
    if args.dry_run {
        print!("{}", table::timeline(&timeline));
        problems.iter().for_each(|problem| println!("not in a cluster: {}", escaped(problem)));
        return Ok(Exit::Ok.into());
    }
    if !problems.is_empty() {
        return Err(Stop::usage(format!("this plan cannot be played in a cluster: {}", escaped(&problems.join("; ")))).into());
    }
    let labels = if args.no_labels { None } else { Some(reached(connect).await?) };
    let site = Arc::new(site(args, connect).await?);
    let (words, mut said) = mpsc::channel(MAX_WORDS);
    let begun = OnceLock::new();
    let mut course = Course::begin(args.quiet);
    let played = tokio::select! {
        played = play(args, Arc::clone(&site), timeline, labels, words, &begun) => played,
        never = show(&mut course, &mut said) => match never {},
        stopped = stopped() => stopped.and(Err(Stop::new(Exit::Failure, "stopped; what the run made is removed").into())),
    };
    let finished = match begun.get() {
        Some(run) => run.finish(args, played.is_ok()).await,
        None => Ok(()),
    };
    while let Ok(word) = said.try_recv() {
        shown(&mut course, word);
    }
    course.end();
    let left = crate::progress::waiting("removing the namespace", site.leave()).await;
    match (played.and(finished), left) {
        (Ok(()), Ok(())) => Ok(Exit::Ok.into()),
        (Err(error), Ok(())) => Err(error),
        (played, Err(left)) => {
            let hint = format!("{}; `vedette simulate --clean --backend kube` removes what is left", left.message);
            let also = played.err().map_or_else(String::new, |error| format!("; before that: {error:#}"));
            Err(Stop::new(left.exit, format!("{hint}{also}")).into())
        }
    }
}

/// Removes what a run left that was killed.
pub async fn clean(args: &SimulateArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let site = site(args, connect).await?;
    match crate::progress::waiting("removing the namespace", site.clean()).await? {
        Some(run) => println!("removed namespace {} of {}", site.names.namespace, escaped(&run)),
        None => println!("there is no namespace {}", site.names.namespace),
    }
    Ok(Exit::Ok.into())
}

fn timeline(args: &SimulateArgs) -> Result<Timeline, Stop> {
    let unfit = [("--identity-file", args.identity_file.is_some()), ("--root-cgroup", args.root_cgroup.is_some())];
    if let Some((flag, _)) = unfit.into_iter().find(|(_, given)| *given) {
        return Err(Stop::usage(format!("{flag} is for runs on this machine: in a cluster the API server knows the pods")));
    }
    let warm_up = args.warm_up.as_deref().map(str::parse::<Length>).transpose();
    let plan = PlanArgs {
        plan: args.plan.clone().unwrap_or_default(),
        seed: args.seed,
        warm_up: warm_up.map_err(|problem| Stop::usage(format!("--warm-up: {}", escaped(&problem))))?,
        speed: args.speed.unwrap_or(1.0),
    };
    plan.timeline().map_err(|error| Stop::usage(escaped(&format!("{error:#}"))))
}

/// The aggregator that labels go to, once it answered: that of the cluster, unless another one is named. The kubeconfig says where pods
/// run in any case.
async fn reached(connect: &ConnectArgs) -> Result<Client, Stop> {
    let names_one = connect.endpoint.is_some() || connect.ca.is_some() || connect.token_file.is_some() || connect.data_dir.is_some();
    let route = if names_one { connect.target().map(Route::Direct) } else { connect.route(Role::Operator) };
    let route = route.map_err(|stop| Stop::new(stop.exit, format!("{}; or --no-labels", stop.message)))?;
    crate::progress::waiting("connecting", route.connect()).await
}

/// The place for a run, which a person may use; nothing is made yet.
async fn site(args: &SimulateArgs, connect: &ConnectArgs) -> Result<Site, Stop> {
    let cluster = Cluster {
        kubeconfig: connect.kubeconfig.clone(),
        context: connect.context.clone(),
        namespace: connect.vedette_namespace.clone().unwrap_or_else(|| "vedette".to_owned()),
        role: Role::Operator,
    };
    let client = cluster.api().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned());
    if !args.clean {
        let missing = access::missing(&client, &namespace).await;
        if !missing.is_empty() {
            let problem = format!("you may not play a plan in namespace {namespace}: it takes {}", missing.join(", "));
            return Err(Stop::new(Exit::Refused, format!("{problem}; docs/lab.md has the ClusterRole")));
        }
    }
    let image = args.image.clone().unwrap_or_else(|| format!("vedette-range:{}", env!("CARGO_PKG_VERSION")));
    let run = format!("simulate-{}", random_hex(DIGITS));
    Ok(Site::new(Names { namespace, run, image }, cluster, client))
}

async fn play(
    args: &SimulateArgs,
    site: Arc<Site>,
    timeline: Timeline,
    labels: Option<Client>,
    words: mpsc::Sender<Word>,
    begun: &OnceLock<Arc<Run>>,
) -> anyhow::Result<()> {
    site.claim().await?;
    site.create("resourcequotas", site.names.quota(&timeline)).await?;
    for policy in site.names.policies() {
        site.create("networkpolicies", policy).await?;
    }
    let schedule = Schedule {
        run: site.names.run.clone(),
        plan: timeline.plan.clone(),
        seed: timeline.seed,
        backend: "kube".to_owned(),
        speed: args.speed.unwrap_or(1.0),
        started_unix_ms: now_unix_ms(),
        ..Schedule::default()
    };
    let watching = Arc::new(Watching::begin(site.pods(), schedule));
    let members = Members::new(Arc::clone(&site), Arc::clone(&watching), &timeline);
    let run = Arc::new(Run { site, watching, members, timeline, labels, words });
    let run = begun.get_or_init(|| run);
    if able::sends(&run.timeline) {
        run.note("trying whether network policies are enforced".to_owned());
        probe::probe(&run.site, &run.watching).await?;
    } else {
        run.note("this plan sends nothing: network policies are not tried".to_owned());
    }
    Arc::clone(run).play().await
}

impl Run {
    async fn play(self: Arc<Self>) -> anyhow::Result<()> {
        let timeline = &self.timeline;
        self.say(Said::Starting { pods: timeline.workloads.iter().map(|workload| workload.replicas).sum() });
        self.members.start_all().await?;
        // The clock begins when everybody is there: a cluster that takes long to start pods must not shorten the first phase.
        let begin = Instant::now();
        let coming = timeline.episodes.iter().map(|episode| Coming {
            episode: episode.name.clone(),
            role: episode.role.word().to_owned(),
            at_seconds: episode.at.as_secs_f64(),
        });
        self.say(Said::Plan { seconds: timeline.total.as_secs() });
        self.say(Said::Coming { episodes: coming.collect() });
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
                Moment::Phase(phase) => self.phase(&phase.name),
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

    fn phase(&self, name: &str) {
        let start_unix_ms = now_unix_ms();
        self.end_phase(start_unix_ms);
        self.watching.with(|schedule| schedule.phases.push(PhaseRecord { name: name.to_owned(), start_unix_ms, stop_unix_ms: 0 }));
        self.say(Said::Phase { name: name.to_owned() });
    }

    fn end_phase(&self, unix_ms: i64) {
        self.watching.with(|schedule| {
            if let Some(phase) = schedule.phases.last_mut() {
                phase.stop_unix_ms = unix_ms;
            }
        });
    }

    /// Removes every pod and writes down what is known; labels of ordinary work only for a run that went to its end.
    async fn finish(&self, args: &SimulateArgs, whole: bool) -> anyhow::Result<()> {
        let stopped = self.members.stop_all().await;
        let missed = self.watching.missed();
        if missed > 0 {
            self.note(format!("{missed} lives of containers were too short for anybody to be told of: they have no times"));
        }
        let schedule = self.watching.with(|schedule| {
            schedule.ended_unix_ms = now_unix_ms();
            schedule.fill_normal();
            schedule.clone()
        });
        if let Some(path) = &args.schedule_out {
            let text = serde_json::to_string_pretty(&schedule)?;
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if whole {
            self.label(labels::of_ordinary_work(&schedule)).await?;
        }
        stopped.map_err(Into::into)
    }

    /// Gives labels to the aggregator, if anybody wants them.
    async fn label(&self, labels: Vec<Label>) -> Result<(), Stop> {
        let Some(client) = &self.labels else { return Ok(()) };
        for labels in labels.chunks(MAX_LABELS) {
            let mut attempt = 1;
            loop {
                let sent = client.label.clone().add_labels(AddLabelsRequest { labels: labels.to_vec() }).await;
                match sent {
                    Ok(_) => break,
                    // A time-out may hide a success; then a label stands twice, which changes nothing.
                    Err(status)
                        if attempt < ATTEMPTS && matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded) =>
                    {
                        attempt += 1;
                        sleep(Duration::from_secs(1)).await;
                    }
                    Err(status) => {
                        let stop = Stop::from(status);
                        let problem = format!("the aggregator did not take {} labels: {}", labels.len(), stop.message);
                        return Err(Stop::new(stop.exit, problem));
                    }
                }
            }
        }
        Ok(())
    }

    fn say(&self, said: Said) {
        // At the end nobody shows it any more.
        let _ = self.words.try_send(Word::Said(said));
    }

    fn note(&self, text: String) {
        let _ = self.words.try_send(Word::Note(text));
    }
}

/// Shows what happens, for as long as it is asked to.
async fn show(course: &mut Course, words: &mut mpsc::Receiver<Word>) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            word = words.recv() => match word {
                Some(word) => shown(course, word),
                None => std::future::pending().await,
            },
            _ = tick.tick() => course.tick(),
        }
    }
}

fn shown(course: &mut Course, word: Word) {
    match word {
        Word::Said(said) => course.said(&said),
        Word::Note(text) => course.note(&text),
    }
}
