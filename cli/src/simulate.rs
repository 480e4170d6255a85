//! `vedette simulate`: runs a plan of the range on this machine or in a cluster, shows how far it is, and labels what it does.

mod course;
mod kube;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};

use self::course::Course;
use crate::client::{ConnectArgs, Target};
use crate::demo::schedule::Event;
use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::stage::{Process, beside, stopped};

/// Removing cgroups of processes that are killed takes a second or two, a containerd longer.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// Flags of `vedette simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// The plan: the name of a shipped one, or a file
    #[arg(value_name = "PLAN", required_unless_present = "clean", conflicts_with = "clean")]
    plan: Option<String>,
    /// What runs the pods
    #[arg(long, value_name = "BACKEND", value_enum, default_value = "local")]
    backend: Backend,
    /// How many times as fast the plan's clock runs; what programs do in a second stays the same
    #[arg(long, value_name = "X")]
    speed: Option<f64>,
    /// What the plan leaves open comes from it [default: the plan's own, else different in every run]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Ordinary work before the first phase, instead of the plan's own, such as 1h
    #[arg(long, value_name = "LENGTH")]
    warm_up: Option<String>,
    /// Print what would happen and when, and do nothing
    #[arg(long, conflicts_with = "clean")]
    dry_run: bool,
    /// Write everything that the injector knows to this file at the end
    #[arg(long, value_name = "FILE")]
    schedule_out: Option<PathBuf>,
    /// Append who the pods are to this file, which the aggregator reads ([identity] file)
    #[arg(long, value_name = "FILE")]
    identity_file: Option<PathBuf>,
    /// Name of the run's own subtree in every cgroup hierarchy [default: vedette-simulate-PID]
    #[arg(long, value_name = "NAME")]
    root_cgroup: Option<String>,
    /// Label nothing; no aggregator is needed
    #[arg(long)]
    no_labels: bool,
    /// Remove what runs that were killed left behind: processes, cgroups, mounts, directories; with --backend kube the namespace
    #[arg(long)]
    clean: bool,
    /// With --backend kube: the namespace that the run makes, and removes [default: vedette-range]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// With --backend kube: the range's image, as the cluster's nodes know it [default: vedette-range:VERSION]
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Standard output is somebody else's: lines about the course go to standard error
    #[arg(skip)]
    quiet: bool,
}

/// What runs the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Processes in cgroups and network namespaces that the range makes itself
    Local,
    /// Pod sandboxes and containers of a containerd that the range starts itself
    Containerd,
    /// Pods of the cluster that the kubeconfig leads to; no root
    Kube,
}

/// Plays the canary's plan with its labels, and removes its pods; what the injector knew is in `schedule_out` then.
pub async fn canary(
    backend: Backend,
    namespace: Option<String>,
    image: Option<String>,
    schedule_out: PathBuf,
    connect: &ConnectArgs,
) -> anyhow::Result<()> {
    let args = SimulateArgs {
        plan: Some("canary".to_owned()),
        backend,
        speed: None,
        seed: None,
        warm_up: None,
        dry_run: false,
        schedule_out: Some(schedule_out),
        identity_file: None,
        root_cgroup: Some(format!("vedette-canary-{}", std::process::id())),
        no_labels: false,
        clean: false,
        namespace,
        image,
        quiet: true,
    };
    // In a cluster there are no cgroups of ours.
    let args = if backend == Backend::Kube { SimulateArgs { root_cgroup: None, ..args } } else { args };
    run(args, connect).await.map(drop)
}

/// Runs the plan, or cleans up.
pub async fn run(args: SimulateArgs, connect: &ConnectArgs) -> anyhow::Result<ExitCode> {
    if args.backend == Backend::Kube {
        return if args.clean { kube::clean(&args, connect).await } else { kube::run(&args, connect).await };
    }
    if let Some(flag) = [("--namespace", &args.namespace), ("--image", &args.image)].into_iter().find(|(_, given)| given.is_some()) {
        return Err(Stop::usage(format!("{} is for --backend kube", flag.0)).into());
    }
    if args.clean {
        return clean(args.root_cgroup.as_deref()).await;
    }
    let table = checked(&args).await?;
    if args.dry_run {
        print!("{table}");
        return Ok(Exit::Ok.into());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Stop::new(Exit::Failure, "simulating makes cgroups and network namespaces: it takes root").into());
    }
    let target = if args.no_labels { None } else { Some(reached(connect).await?) };
    let folder = tempfile::Builder::new().prefix("vedette-simulate-").tempdir().context("cannot make a temporary folder")?;
    let (mut range, events) = start(&args, target.as_ref(), folder.path())?;
    let mut course = Course::begin(args.quiet);
    let followed = tokio::select! {
        followed = follow(&mut course, events) => followed,
        stopped = stopped() => stopped.and(Err(Stop::new(Exit::Failure, "stopped; what the run made is removed").into())),
    };
    course.end();
    if let Err(error) = followed {
        range.stop(CLEAN_UP).await;
        return Err(error);
    }
    match range.done(CLEAN_UP).await {
        Ok(()) => Ok(Exit::Ok.into()),
        Err(error) => Err(said(folder.path()).map_or(error, |said| Stop::new(Exit::Failure, said).into())),
    }
}

/// The plan as a table; what is wrong with it is said before anything starts.
async fn checked(args: &SimulateArgs) -> anyhow::Result<String> {
    let mut command = Command::new(beside("vedette-range")?);
    command.arg("plan");
    planned(args, &mut command);
    let output = command.stdin(Stdio::null()).output().await.context("cannot start vedette-range")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Stop::usage(escaped(&one_line(&problem))).into())
}

/// The aggregator that labels go to, once it answered: better now than at the first label.
async fn reached(connect: &ConnectArgs) -> anyhow::Result<Target> {
    let target = connect.target().map_err(|stop| Stop::new(stop.exit, format!("{}; or --no-labels", stop.message)))?;
    crate::progress::waiting("connecting", target.connect()).await?;
    Ok(target)
}

fn planned(args: &SimulateArgs, command: &mut Command) {
    command.arg("--plan").arg(args.plan.as_deref().unwrap_or_default());
    if let Some(speed) = args.speed {
        command.arg(format!("--speed={speed}"));
    }
    if let Some(seed) = args.seed {
        command.arg(format!("--seed={seed}"));
    }
    if let Some(warm_up) = &args.warm_up {
        command.arg(format!("--warm-up={warm_up}"));
    }
}

fn start(args: &SimulateArgs, target: Option<&Target>, folder: &Path) -> anyhow::Result<(Process, ChildStdout)> {
    let mut command = Command::new(beside("vedette-range")?);
    command.arg("run").arg("--stop-with-parent");
    planned(args, &mut command);
    command.arg("--backend").arg(if args.backend == Backend::Local { "local" } else { "containerd" });
    let root = args.root_cgroup.clone().unwrap_or_else(|| format!("vedette-simulate-{}", std::process::id()));
    command.arg("--root-cgroup").arg(root);
    if let Some(file) = &args.schedule_out {
        command.arg("--schedule-out").arg(file);
    }
    if let Some(file) = &args.identity_file {
        command.arg("--identity-file").arg(file);
    }
    if let Some(target) = target {
        command.arg("--labels-endpoint").arg(&target.endpoint).arg("--ca").arg(&target.ca).arg("--token-file").arg(&target.token_file);
        if let Some(name) = &target.server_name {
            command.arg("--server-name").arg(name);
        }
    }
    Process::start_piped("vedette-range", command, folder)
}

/// Shows what the range says until it says no more.
async fn follow(course: &mut Course, events: ChildStdout) -> anyhow::Result<()> {
    let mut events = BufReader::new(events).lines();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            line = events.next_line() => match line? {
                Some(line) => match serde_json::from_str::<Event>(&line) {
                    Ok(event) => course.event(&event),
                    Err(error) => bail!("vedette-range said something that is no event ({error}): {line}"),
                },
                None => return Ok(()),
            },
            _ = tick.tick() => course.tick(),
        }
    }
}

async fn clean(root_cgroup: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut command = Command::new(beside("vedette-range")?);
    command.arg("clean").args(root_cgroup.map(|name| format!("--root-cgroup={name}")));
    let output = command.stdin(Stdio::null()).output().await.context("cannot start vedette-range")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        return Ok(Exit::Ok.into());
    }
    Err(Stop::new(Exit::Failure, one_line(&String::from_utf8_lossy(&output.stderr))).into())
}

/// What a range that failed said last.
fn said(folder: &Path) -> Option<String> {
    let log = std::fs::read(folder.join("vedette-range.log")).ok()?;
    let log = String::from_utf8_lossy(&log);
    let from = log.rfind("Error: ")?;
    Some(one_line(&log[from..]))
}

/// An error with its causes in one line, as `main` of a program prints them in several.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "Caused by:");
    let numbered = |line: &str| {
        line.split_once(": ").filter(|(number, _)| number.parse::<u32>().is_ok()).map_or(line.to_owned(), |(_, rest)| rest.to_owned())
    };
    let parts: Vec<_> = lines.map(|line| numbered(line.trim_start_matches("Error: "))).collect();
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_causes_becomes_one_line() {
        assert_eq!(one_line("Error: plan x: phases: at least one\n"), "plan x: phases: at least one");
        assert_eq!(one_line("Error: a\n\nCaused by:\n    b\n"), "a: b");
        assert_eq!(one_line("Error: a\n\nCaused by:\n    0: b\n    1: c: d\n"), "a: b: c: d");
    }
}
