//! The replayed demonstration: a recorded run, played through the same gRPC as an agent's stream, faster than it happened.

use std::iter::Peekable;
use std::vec::IntoIter;

use anyhow::bail;
use tokio::sync::watch;
use vedette_proto::v1::{IncidentChange, WatchIncidentsRequest};

use super::DemoArgs;
use super::finish::{Finished, finish};
use super::recording;
use super::schedule::{Event, Said, Schedule};
use super::show::Show;
use crate::exit::Stop;
use crate::recording::Recorded;
use crate::replay::{Played, Progress, Replay, Speed, say};
use crate::stage::{Setting, Stage, stopped};

/// Seconds of the recording per second of the replay: fast, and slow enough to read what opens.
const SPEED: u32 = 20;
/// Cluster of the aggregator, which has nothing of its own; the replay's is its session.
const CLUSTER: &str = "demo";
/// Cluster name of what is replayed.
const SESSION: &str = "demo-replay";

/// Runs it.
pub async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let (recorded, schedule) = recording::open(args.recording.as_deref())?;
    let seconds = u64::try_from((schedule.ended_unix_ms - schedule.started_unix_ms) / 1_000).unwrap_or(0);
    println!("{seconds} s of recorded observations at {SPEED} times their speed; origin replay({SESSION}), which never pages.");
    let mut stage = Stage::open(Setting { cluster: CLUSTER, identities: "" }).await?;
    let mut show = Show::begin();
    show.length(seconds / u64::from(SPEED));
    let played = tokio::select! {
        played = play(&mut stage, &mut show, &recorded, &schedule) => played,
        _ = stopped() => Err(Stop::new(crate::exit::Exit::Failure, "stopped").into()),
    };
    show.end();
    // Everything that was played is acknowledged, or it would have failed.
    let rows = played?.container_rows;
    say(&mut stage.client, &recorded.labels, SESSION).await?;
    let from_unix_ms = schedule.started_unix_ms;
    let run = Finished { mode: "replay", cluster: SESSION, schedule: &schedule, observations: rows, acknowledged: rows, from_unix_ms };
    let folder = stage.folder().to_owned();
    finish(&run, &mut stage.client, &show, &folder, args.report.as_ref()).await?;
    if args.keep {
        return stage.keep(None, Some(SESSION)).await;
    }
    stage.close().await;
    Ok(())
}

/// Plays everything, and shows what opens meanwhile.
async fn play(stage: &mut Stage, show: &mut Show, recorded: &Recorded, schedule: &Schedule) -> anyhow::Result<Played> {
    let request = WatchIncidentsRequest { changes_only: true, ..WatchIncidentsRequest::default() };
    let mut incidents = stage.client.query.watch_incidents(request).await.map_err(Stop::from)?.into_inner();
    let nodes: Vec<_> = recorded.observations.nodes().into_iter().collect();
    let replay = Replay::open(&stage.client, recorded, SESSION, &nodes).await?;
    let (progress, mut watched) = watch::channel(Progress::default());
    let played = replay.play(Speed::Times(f64::from(SPEED)), &progress);
    tokio::pin!(played);
    let mut program = program(schedule);
    loop {
        tokio::select! {
            played = &mut played => return played,
            Ok(()) = watched.changed() => {
                let now = watched.borrow_and_update().unix_ms;
                while let Some(event) = program.next_if(|event| event.unix_ms <= now) {
                    show.event(&event);
                }
                show.tick(show.elapsed());
                stage.alive()?;
            }
            change = incidents.message() => match change.map_err(Stop::from)? {
                Some(change) => {
                    if let (IncidentChange::Opened, Some(incident)) = (change.change(), &change.incident) {
                        show.incident(incident);
                    }
                }
                None => bail!("the aggregator ended the watch"),
            },
        }
    }
}

/// What the range said while it was recorded, as far as its schedule tells.
fn program(schedule: &Schedule) -> Peekable<IntoIter<Event>> {
    let mut events = Vec::new();
    for episode in &schedule.episodes {
        let start = Said::Start {
            episode: episode.episode.clone(),
            kind: episode.kind.clone(),
            attack: episode.attack,
            owner_name: episode.owner_name.clone(),
        };
        events.push(Event { unix_ms: episode.start_unix_ms, said: start });
        events.push(Event { unix_ms: episode.stop_unix_ms, said: Said::Stop { episode: episode.episode.clone() } });
    }
    events.sort_by_key(|event| event.unix_ms);
    events.into_iter().peekable()
}
