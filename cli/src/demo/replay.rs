//! The replayed demonstration: a recorded run, played through the same gRPC as an agent's stream, faster than it happened.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vedette_history::{Recording, Tick};
use vedette_proto::Column;
use vedette_proto::v1::stream_request::Message;
use vedette_proto::v1::stream_response;
use vedette_proto::v1::{
    AddLabelsRequest, Batch, ContainerAdded, ContainerRemoved, Goodbye, Hello, IncidentChange, Kind, Label, LabelSource, Origin, Selector,
    StreamRequest, TimeRange, WatchIncidentsRequest,
};

use super::DemoArgs;
use super::finish::{Finished, finish};
use super::process::stopped;
use super::recording::{self, Recorded, Seen};
use super::schedule::{Event, Said, Schedule};
use super::show::Show;
use super::stage::Stage;
use crate::exit::Stop;

/// Seconds of the recording per second of the replay: fast, and slow enough to read what opens.
const SPEED: u32 = 20;
/// Batches on their way; as an agent's, the player waits for acknowledgements beyond that.
const WINDOW: u64 = 64;
/// From the last batch to its acknowledgement.
const DELIVERY: Duration = Duration::from_secs(30);
/// Cluster name of what is replayed.
const SESSION: &str = "demo-replay";
/// As the agent's configuration has it.
const INTERVAL_MS: u32 = 1_000;

/// Runs it.
pub async fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let (ticks, recorded) = recording::open(args.recording.as_deref())?;
    let seconds = u64::try_from((recorded.schedule.ended_unix_ms - recorded.schedule.started_unix_ms) / 1_000).unwrap_or(0);
    println!("{seconds} s of recorded observations at {SPEED} times their speed; origin replay({SESSION}), which never pages.");
    let mut stage = Stage::open(&recorded.schedule.identities()).await?;
    let mut show = Show::begin();
    show.length(seconds / u64::from(SPEED));
    let played = tokio::select! {
        played = play(&mut stage, &mut show, &ticks, &recorded) => played,
        _ = stopped() => Err(Stop::new(crate::exit::Exit::Failure, "stopped").into()),
    };
    show.end();
    let (observations, acknowledged) = played?;
    label(&mut stage, &recorded.schedule).await?;
    let from_unix_ms = recorded.schedule.started_unix_ms;
    let run = Finished { mode: "replay", cluster: SESSION, schedule: &recorded.schedule, observations, acknowledged, from_unix_ms };
    let folder = stage.folder().to_owned();
    finish(&run, &mut stage.client, &show, &folder, args.report.as_ref()).await?;
    if args.keep {
        return stage.keep(None).await;
    }
    stage.close().await;
    Ok(())
}

/// Plays every tick; returns the container rows sent and acknowledged.
async fn play(stage: &mut Stage, show: &mut Show, ticks: &[Tick], recorded: &Recorded) -> anyhow::Result<(u64, u64)> {
    let request = WatchIncidentsRequest { changes_only: true, ..WatchIncidentsRequest::default() };
    let mut incidents = stage.client.query.watch_incidents(request).await.map_err(Stop::from)?.into_inner();
    let node = ticks.first().map(|tick| tick.node.clone()).context("the recording holds no observations")?;
    let mut player = Player::new(recorded);
    // The window bounds what is under way; the channel only needs to take a batch at a time.
    let (send, receive) = mpsc::channel(4);
    send.send(message(Message::Hello(hello(node)))).await?;
    let mut answers = stage.client.ingest.stream(ReceiverStream::new(receive)).await.map_err(Stop::from)?.into_inner();
    let mut program = program(&recorded.schedule).into_iter().peekable();
    let mut clock = tokio::time::interval(Duration::from_millis(u64::from(INTERVAL_MS)) / SPEED);
    let mut ticks = ticks.iter();
    let mut next = ticks.next();
    let mut last_answer = tokio::time::Instant::now();
    loop {
        let done = next.is_none() && player.acknowledged_sequence == player.sequence;
        if done {
            break;
        }
        tokio::select! {
            _ = clock.tick(), if next.is_some() && player.sequence < player.acknowledged_sequence + WINDOW => {
                if let Some(tick) = next.take() {
                    while let Some(event) = program.next_if(|event| event.unix_ms <= tick.unix_ms) {
                        show.event(&event);
                    }
                    send.send(message(Message::Batch(player.batch(tick)))).await.context("the aggregator ended the stream")?;
                    next = ticks.next();
                    last_answer = tokio::time::Instant::now();
                }
                show.tick(show.elapsed());
            }
            answer = answers.message() => {
                last_answer = tokio::time::Instant::now();
                match answer.map_err(Stop::from)?.and_then(|answer| answer.message) {
                    Some(stream_response::Message::Acknowledgement(acknowledgement)) => player.acknowledge(acknowledgement.sequence),
                    Some(stream_response::Message::Welcome(_)) => {}
                    None => bail!("the aggregator ended the stream"),
                }
            }
            change = incidents.message() => match change.map_err(Stop::from)? {
                Some(change) => {
                    if let (IncidentChange::Opened, Some(incident)) = (change.change(), &change.incident) {
                        show.incident(incident);
                    }
                }
                None => bail!("the aggregator ended the watch"),
            },
            () = tokio::time::sleep_until(last_answer + DELIVERY) => bail!("no acknowledgement for {} s", DELIVERY.as_secs()),
        }
        stage.alive()?;
    }
    // Meant, so that the silence that follows is none.
    let _ = send.send(message(Message::Goodbye(Goodbye { reason: "end of the recording".to_owned() }))).await;
    Ok((player.sent, player.acknowledged))
}

/// Turns ticks into batches as the agent sent them.
struct Player<'a> {
    seen: Vec<&'a Seen>,
    /// Reference of each container, by its id.
    references: HashMap<&'a str, u32>,
    added: usize,
    alive: Vec<&'a Seen>,
    sequence: u64,
    acknowledged_sequence: u64,
    /// Container rows of batches that are not acknowledged.
    under_way: BTreeMap<u64, u64>,
    sent: u64,
    acknowledged: u64,
}

impl<'a> Player<'a> {
    fn new(recorded: &'a Recorded) -> Self {
        let mut seen: Vec<_> = recorded.containers.iter().collect();
        seen.sort_by_key(|seen| seen.first_seen_unix_ms);
        let references = (1..).zip(&seen).map(|(reference, seen)| (seen.container_id.as_str(), reference)).collect();
        Self {
            seen,
            references,
            added: 0,
            alive: Vec::new(),
            sequence: 0,
            acknowledged_sequence: 0,
            under_way: BTreeMap::new(),
            sent: 0,
            acknowledged: 0,
        }
    }

    fn batch(&mut self, tick: &Tick) -> Batch {
        self.sequence += 1;
        let from = self.added;
        while self.seen.get(self.added).is_some_and(|seen| seen.first_seen_unix_ms <= tick.unix_ms) {
            self.alive.push(self.seen[self.added]);
            self.added += 1;
        }
        let added = self.seen[from..self.added].iter().map(|seen| self.container(seen)).collect();
        let gone = |seen: &&Seen| seen.gone_unix_ms > 0 && seen.gone_unix_ms <= tick.unix_ms;
        let (gone, alive): (Vec<_>, Vec<_>) = self.alive.iter().copied().partition(gone);
        self.alive = alive;
        let removed = gone.iter().map(|seen| self.removed(seen)).collect();
        let mut block = tick.block.clone();
        let (mut references, mut rows) = (Vec::new(), Vec::new());
        for (subject, row) in tick.subjects.iter().zip(block.rows) {
            let known = self.references.get(subject.container_id.as_str()).copied();
            // A row of a container that the recording does not describe cannot be attributed; none is known to exist.
            let Some(reference) = known.or(subject.container_id.is_empty().then_some(0)) else { continue };
            references.push(reference);
            rows.push(row);
        }
        let containers = references.iter().filter(|&&reference| reference != 0).count() as u64;
        self.sent += containers;
        self.under_way.insert(self.sequence, containers);
        (block.container_refs, block.rows) = (references, rows);
        Batch { sequence: self.sequence, added, removed, block: Some(block.encode()), ..Batch::default() }
    }

    fn container(&self, seen: &Seen) -> ContainerAdded {
        ContainerAdded {
            container_ref: self.references[seen.container_id.as_str()],
            pod_uid: seen.pod_uid.clone(),
            container_id: seen.container_id.clone(),
            cgroup: seen.cgroup.clone(),
            first_seen_unix_ms: seen.first_seen_unix_ms,
            restarts: seen.restarts,
            ..ContainerAdded::default()
        }
    }

    fn removed(&self, gone: &Seen) -> ContainerRemoved {
        // The pod lived on if another container of it was there later.
        let later = |seen: &&&Seen| {
            seen.pod_uid == gone.pod_uid && seen.container_id != gone.container_id && seen.first_seen_unix_ms >= gone.first_seen_unix_ms
        };
        ContainerRemoved {
            container_ref: self.references[gone.container_id.as_str()],
            unix_ms: gone.gone_unix_ms,
            pod_remains: self.seen.iter().any(|seen| later(&seen)),
        }
    }

    fn acknowledge(&mut self, sequence: u64) {
        self.acknowledged_sequence = self.acknowledged_sequence.max(sequence);
        let rest = self.under_way.split_off(&(self.acknowledged_sequence + 1));
        self.acknowledged += self.under_way.values().sum::<u64>();
        self.under_way = rest;
    }
}

fn hello(node: String) -> Hello {
    // Random by nature: each replay is a spool of its own.
    let spool: [u8; 16] = std::array::from_fn(|_| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) as u8);
    Hello {
        node,
        spool_id: spool.to_vec(),
        origin: Origin::Replay.into(),
        replay_session: SESSION.to_owned(),
        agent_version: concat!("vedette demo ", env!("CARGO_PKG_VERSION")).to_owned(),
        column_ids: Column::ALL.iter().map(|column| column.id()).collect(),
        interval_ms: INTERVAL_MS,
        ..Hello::default()
    }
}

fn message(message: Message) -> StreamRequest {
    StreamRequest { message: Some(message) }
}

/// What the range said while it was recorded, as far as its schedule tells.
fn program(schedule: &Schedule) -> Vec<Event> {
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
    events
}

/// Says what the injector knew, about the replay's cluster.
async fn label(stage: &mut Stage, schedule: &Schedule) -> anyhow::Result<()> {
    let label = |pod_uid: &str, container_id: &str, kind: &str, affected: bool, start_unix_ms: i64, end_unix_ms: i64| Label {
        selector: Some(Selector {
            cluster: SESSION.to_owned(),
            pod_uid: pod_uid.to_owned(),
            container_id: container_id.to_owned(),
            ..Selector::default()
        }),
        range: Some(TimeRange { start_unix_ms, end_unix_ms }),
        kind: Kind::from_word(kind).unwrap_or(Kind::Unknown).into(),
        affected,
        source: LabelSource::Import.into(),
        author: "vedette demo".to_owned(),
        ..Label::default()
    };
    let mut labels = Vec::new();
    for episode in schedule.attacks() {
        // The containers of a crash loop come and go: the label is about its pod.
        let whole_pod = [String::new()];
        let ids = if episode.kind == Kind::CrashLoop.word() { &whole_pod[..] } else { &episode.container_ids };
        labels.extend(ids.iter().map(|id| label(&episode.pod_uid, id, &episode.kind, false, episode.start_unix_ms, episode.stop_unix_ms)));
    }
    labels.extend(schedule.affected.iter().map(|one| label(&one.pod_uid, "", &one.kind, true, one.start_unix_ms, one.stop_unix_ms)));
    let normal = Kind::Normal.word();
    labels.extend(schedule.normal.iter().map(|one| label(&one.pod_uid, "", normal, false, one.start_unix_ms, one.stop_unix_ms)));
    stage.client.label.add_labels(AddLabelsRequest { labels }).await.map_err(Stop::from)?;
    Ok(())
}

/// Every tick of a recording.
pub(super) fn ticks(path: &Path) -> anyhow::Result<Vec<Tick>> {
    let recording = Recording::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    if recording.nodes().len() > 1 {
        bail!("{} holds several nodes; a demonstration has one", path.display());
    }
    Ok(recording.ticks().collect())
}
