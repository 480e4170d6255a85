//! The live demonstration: range, agent and aggregator at once on this machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::bail;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use vedette_proto::v1::{IncidentChange, WatchIncidentsRequest};

use super::DemoArgs;
use super::finish::{Finished, finish};
use super::recording;
use super::schedule::{Event, Schedule};
use super::show::Show;
use crate::exit::Stop;
use crate::stage::{Agent, Process, Setting, Stage, beside, delivered, stopped};

/// Cluster of a live run.
const CLUSTER: &str = "demo";

/// The plan takes 6.5 minutes; beyond this something hangs.
const LONGEST: Duration = Duration::from_secs(7 * 60 + 15);
/// Removing cgroups of processes that are killed takes a second or two.
const CLEAN_UP: Duration = Duration::from_secs(20);

/// Why a live run is impossible here; `None` means that it is possible.
pub async fn obstacle() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("this is not Linux".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Some("you are not root".to_owned());
    }
    let range = match beside("vedette-range") {
        Ok(range) => range,
        Err(error) => return Some(format!("{error:#}")),
    };
    match Command::new(range).arg("probe").stdin(Stdio::null()).output().await {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("the range cannot be made: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("vedette-range cannot be started: {error}")),
    }
}

/// Runs it.
pub async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let mut stage = Stage::open(Setting { cluster: CLUSTER, identities: "" }).await?;
    let subtree = format!("vedette-demo-{}", std::process::id());
    let mut agent = stage.agent("demo-node", &subtree).await?;
    let user = if agent.unprivileged { "as uid 65532 without capabilities" } else { "as root, since setpriv is not here" };
    println!("aggregator at {}, agent {user}, cgroups below /{subtree}", stage.target.endpoint);
    let from_unix_ms = jiff::Timestamp::now().as_millisecond();
    let mut show = Show::begin();
    let schedule_file = stage.folder().join("schedule.json");
    let (mut range, events) = start_range(args, &stage, &subtree, &schedule_file)?;
    let watched = tokio::select! {
        watched = watch(&mut stage, &mut agent, &mut show, BufReader::new(events)) => watched,
        () = tokio::time::sleep(LONGEST) => Err(anyhow::anyhow!("the range did not end within {} s", LONGEST.as_secs())),
        _ = stopped() => Err(Stop::new(crate::exit::Exit::Failure, "stopped; cleaning up").into()),
    };
    show.end();
    if let Err(error) = watched {
        // The range removes what it made; agent and aggregator go with their handles.
        range.stop(CLEAN_UP).await;
        return Err(error);
    }
    range.done(CLEAN_UP).await?;
    let schedule = Schedule::read(&schedule_file)?;
    let delivered = delivered(&agent).await?;
    let (observations, acknowledged) = (delivered.observations, delivered.acknowledged);
    let run = Finished { mode: "live", cluster: CLUSTER, schedule: &schedule, observations, acknowledged, from_unix_ms };
    let folder = stage.folder().to_owned();
    let accounting = finish(&run, &mut stage.client, &show, &folder, args.report.as_ref()).await?;
    if !delivered.losses.is_empty() {
        println!("  the agent counted {}", delivered.losses.join(", "));
    }
    if let Some(dir) = &args.record {
        recording::save(dir, &mut stage, CLUSTER, &schedule, accounting, &std::fs::read_to_string(&schedule_file)?).await?;
    }
    if args.keep {
        return stage.keep(Some(agent), None).await;
    }
    agent.stop().await;
    stage.close().await;
    Ok(())
}

fn start_range(args: &DemoArgs, stage: &Stage, subtree: &str, schedule: &Path) -> anyhow::Result<(Process, tokio::process::ChildStdout)> {
    let mut command = Command::new(beside("vedette-range")?);
    command.args(["run", "--plan", "demo", "--root-cgroup", subtree]);
    command.arg("--identity-file").arg(stage.identity_file()).arg("--schedule-out").arg(schedule);
    command.arg("--labels-endpoint").arg(&stage.target.endpoint).arg("--ca").arg(&stage.target.ca);
    command.arg("--token-file").arg(&stage.target.token_file);
    if let Some(seed) = args.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    Process::start_piped("vedette-range", command, stage.folder())
}

/// Follows range and incidents until the range is done.
async fn watch(
    stage: &mut Stage,
    agent: &mut Agent,
    show: &mut Show,
    events: BufReader<tokio::process::ChildStdout>,
) -> anyhow::Result<()> {
    let request = WatchIncidentsRequest { changes_only: true, ..WatchIncidentsRequest::default() };
    let mut incidents = stage.client.query.watch_incidents(request).await.map_err(Stop::from)?.into_inner();
    let mut events = events.lines();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            line = events.next_line() => match line? {
                Some(line) => match serde_json::from_str::<Event>(&line) {
                    Ok(event) => show.event(&event),
                    Err(error) => bail!("vedette-range said something that is no event ({error}): {line}"),
                },
                None => return Ok(()),
            },
            change = incidents.message() => match change.map_err(Stop::from)? {
                Some(change) => {
                    if let (IncidentChange::Opened, Some(incident)) = (change.change(), &change.incident) {
                        show.incident(incident);
                    }
                }
                None => bail!("the aggregator ended the watch"),
            },
            _ = tick.tick() => {
                show.tick(show.elapsed());
                stage.alive()?;
                agent.process.alive()?;
            }
        }
    }
}
