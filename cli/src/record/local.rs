//! A session on this machine: aggregator, agent and range as in production, until the plan is over.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};

use super::load::{seconds_below, seconds_of};
use super::session::{Ran, Session};
use crate::demo::schedule::{Event, Said, Schedule};
use crate::exit::{Exit, Stop};
use crate::progress::Course;
use crate::stage::{Agent, Process, Setting, Stage, beside, cgroup_version, delivered, kernel, stopped};

/// Cluster of what is recorded; a replay gets a name of its own.
const CLUSTER: &str = "range";
/// Node name of this machine.
const NODE: &str = "range-node";
/// Beyond its plan's length a range that has not ended hangs.
const MARGIN: Duration = Duration::from_secs(120);
/// Before it has said how long it will take.
const START: Duration = Duration::from_secs(120);
/// Removing cgroups of processes that are killed takes a second or two, a containerd longer.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// Runs a session; gives its stage, on which everything is delivered, and what is known of it.
pub async fn run(session: &Session) -> anyhow::Result<(Stage, Ran)> {
    if !rustix::process::geteuid().is_root() {
        return Err(Stop::new(Exit::Failure, "recording makes cgroups and network namespaces: it takes root").into());
    }
    let mut stage = Stage::open(Setting { cluster: CLUSTER, identities: "" }).await?;
    let subtree = format!("vedette-record-{}", std::process::id());
    let mut agent = stage.agent(NODE, &subtree).await?;
    let from_unix_ms = jiff::Timestamp::now().as_millisecond();
    let schedule_file = stage.folder().join("schedule.json");
    let (mut range, events) = start(session, &stage, &subtree, &schedule_file)?;
    let mut used = Used::default();
    let followed = tokio::select! {
        followed = follow(session, &mut stage, &mut agent, &range, events, &subtree, &mut used) => followed,
        stopped = stopped() => stopped.and(Err(Stop::new(Exit::Failure, "stopped; what was recorded before stays").into())),
    };
    if let Err(error) = followed {
        // The range removes what it made; agent and aggregator go with their handles.
        range.stop(CLEAN_UP).await;
        return Err(error);
    }
    range.done(CLEAN_UP).await?;
    let schedule = Schedule::read(&schedule_file)?;
    let text = std::fs::read_to_string(&schedule_file).context("cannot read the schedule")?;
    let delivered = delivered(&agent).await?;
    for loss in &delivered.losses {
        eprintln!("vedette: {}: the agent counted {loss}", session.name);
    }
    let processes = [agent.process.id(), stage.aggregator_id()];
    let own_cpu_seconds = processes.into_iter().flatten().filter_map(seconds_of).sum::<f64>() + used.range + used.pods;
    agent.stop().await;
    let ran = Ran {
        schedule,
        text,
        cluster: CLUSTER,
        from_unix_ms,
        observations: Some(delivered.observations),
        acknowledged: Some(delivered.acknowledged),
        cgroup_version: cgroup_version(),
        kernel: kernel(),
        own_cpu_seconds,
    };
    Ok((stage, ran))
}

fn start(session: &Session, stage: &Stage, subtree: &str, schedule: &Path) -> anyhow::Result<(Process, ChildStdout)> {
    let mut command = Command::new(beside("vedette-range")?);
    command.args(session.range_arguments()).args(["--stop-with-parent", "--root-cgroup", subtree]);
    command.arg("--identity-file").arg(stage.identity_file()).arg("--schedule-out").arg(schedule);
    command.arg("--labels-endpoint").arg(&stage.target.endpoint).arg("--ca").arg(&stage.target.ca);
    command.arg("--token-file").arg(&stage.target.token_file);
    Process::start_piped("vedette-range", command, stage.folder())
}

/// Processor time of what is gone by the end of a run, seconds: as it was read last.
#[derive(Default)]
struct Used {
    /// The injector's own.
    range: f64,
    /// All pods', and their runtime's.
    pods: f64,
}

/// Follows the range until it is done.
async fn follow(
    session: &Session,
    stage: &mut Stage,
    agent: &mut Agent,
    range: &Process,
    events: ChildStdout,
    subtree: &str,
    used: &mut Used,
) -> anyhow::Result<()> {
    let mut events = BufReader::new(events).lines();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut course = Course::begin(&session.name);
    let mut limit = START;
    loop {
        tokio::select! {
            line = events.next_line() => match line? {
                Some(line) => match serde_json::from_str::<Event>(&line) {
                    Ok(Event { said: Said::Plan { seconds }, .. }) => {
                        course.length(seconds);
                        limit = Duration::from_secs(seconds) + MARGIN;
                    }
                    Ok(Event { said: Said::Phase { name }, .. }) => course.phase(&name),
                    Ok(_) => {}
                    Err(error) => bail!("vedette-range said something that is no event ({error}): {line}"),
                },
                None => return Ok(()),
            },
            _ = tick.tick() => {
                course.tick();
                stage.alive()?;
                agent.process.alive()?;
                used.range = range.id().and_then(seconds_of).unwrap_or(used.range);
                used.pods = seconds_below(subtree).unwrap_or(used.pods);
                if course.elapsed() > limit {
                    bail!("the range did not end within {} s", limit.as_secs());
                }
            }
        }
    }
}
