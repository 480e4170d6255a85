//! Streams a recording to an aggregator: a stream per node, one clock for all of them, as fast as wanted and as is taken.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use vedette_history::Tick;
use vedette_proto::Column;
use vedette_proto::v1::stream_request::Message;
use vedette_proto::v1::{Goodbye, Hello, Origin, StreamRequest, StreamResponse, stream_response};

use super::player::Player;
use crate::client::Client;
use crate::exit::Stop;
use crate::recording::{Recorded, sha256};

/// Batches of a node on their way; as an agent's, they wait for acknowledgements beyond that.
const WINDOW: u64 = 64;
/// An aggregator that acknowledges nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// As the agent's configuration has it.
const INTERVAL_MS: u32 = 1_000;

/// How fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many seconds of the recording in a second.
    Times(f64),
    /// As fast as the aggregator takes it.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times: f64 = text.trim_end_matches('x').parse().map_err(|_| "write a number, such as 20, or max".to_owned())?;
        let usable = times.is_finite() && (0.01..=100_000.0).contains(&times);
        if usable { Ok(Self::Times(times)) } else { Err("must be 0.01 to 100000, or max".to_owned()) }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Event time of the last tick sent, Unix milliseconds. 0 means: none yet.
    pub unix_ms: i64,
    /// Rows sent.
    pub rows: u64,
}

/// What was sent and acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Rows of containers and nodes.
    pub rows: u64,
    /// Rows of containers.
    pub container_rows: u64,
    /// Batches that had been there before: of an earlier replay of the same recording in the same session.
    pub batches_before: u64,
}

/// A recording whose streams are open.
pub struct Replay<'a> {
    recorded: &'a Recorded,
    streams: BTreeMap<&'a str, NodeStream>,
}

impl<'a> Replay<'a> {
    /// Opens a stream for each of `nodes`, into the cluster `session`.
    pub async fn open(client: &Client, recorded: &'a Recorded, session: &str, nodes: &[&'a str]) -> anyhow::Result<Self> {
        let mut streams = BTreeMap::new();
        for &node in nodes {
            let hello = hello(node, session, recorded.manifest.digest());
            streams.insert(node, NodeStream::open(client, hello, Player::new(node, &recorded.containers)).await?);
        }
        Ok(Self { recorded, streams })
    }

    /// Batches of a node that are there already, of an earlier replay of the same recording in the same session.
    pub fn there_before(&self, node: &str) -> u64 {
        self.streams.get(node).map_or(0, |stream| stream.welcomed)
    }

    /// Plays it to its end. The same again adds nothing; one that was interrupted goes on.
    pub async fn play(mut self, speed: Speed, progress: &watch::Sender<Progress>) -> anyhow::Result<Played> {
        let batches_before = self.streams.values().map(|stream| stream.welcomed).sum();
        let mut played = Played { batches_before, ..Played::default() };
        let mut clock = None;
        for tick in self.recorded.observations.ticks() {
            let Some(stream) = self.streams.get_mut(tick.node.as_str()) else { continue };
            if let Speed::Times(times) = speed {
                let &mut (began, first_ms) = clock.get_or_insert((Instant::now(), tick.unix_ms));
                let after_ms = u64::try_from(tick.unix_ms - first_ms).unwrap_or(0);
                tokio::time::sleep_until(began + Duration::from_millis(after_ms).div_f64(times)).await;
            }
            let containers = tick.subjects.iter().filter(|subject| !subject.container_id.is_empty()).count() as u64;
            stream.send(&tick).await?;
            played.rows += tick.block.rows.len() as u64;
            played.container_rows += containers;
            progress.send_replace(Progress { unix_ms: tick.unix_ms, rows: played.rows });
        }
        for stream in self.streams.values_mut() {
            stream.delivered(stream.player.sequence()).await?;
        }
        // Everything sent is acknowledged by now; the end of a replay's last stream ends its incidents.
        for stream in self.streams.into_values() {
            stream.leave().await?;
        }
        Ok(played)
    }
}

/// The same recording in the same session is the same spool: what is acknowledged once is never stored again.
fn hello(node: &str, session: &str, digest: &str) -> Hello {
    Hello {
        node: node.to_owned(),
        spool_id: sha256(format!("{session}\n{node}\n{digest}").as_bytes())[..16].to_vec(),
        origin: Origin::Replay.into(),
        replay_session: session.to_owned(),
        agent_version: concat!("vedette ", env!("CARGO_PKG_VERSION")).to_owned(),
        column_ids: Column::ALL.iter().map(|column| column.id()).collect(),
        interval_ms: INTERVAL_MS,
        ..Hello::default()
    }
}

/// One node's stream.
struct NodeStream {
    player: Player,
    send: mpsc::Sender<StreamRequest>,
    /// Acknowledged sequence; closed when the stream is.
    acknowledged: watch::Receiver<u64>,
    reader: JoinHandle<anyhow::Result<()>>,
    /// Acknowledged before this replay.
    welcomed: u64,
}

impl NodeStream {
    async fn open(client: &Client, hello: Hello, player: Player) -> anyhow::Result<Self> {
        // The window bounds what is under way; the channel only needs to take a batch at a time.
        let (send, receive) = mpsc::channel(4);
        send.send(StreamRequest { message: Some(Message::Hello(hello)) }).await?;
        let mut answers = client.ingest.clone().stream(ReceiverStream::new(receive)).await.map_err(Stop::from)?.into_inner();
        let welcome = answers.message().await.map_err(Stop::from)?.and_then(|answer| answer.message);
        let Some(stream_response::Message::Welcome(welcome)) = welcome else { bail!("the aggregator did not welcome the stream") };
        let welcomed = welcome.acknowledged_sequence;
        let (told, acknowledged) = watch::channel(welcomed);
        Ok(Self { player, send, acknowledged, reader: tokio::spawn(read(answers, told)), welcomed })
    }

    async fn send(&mut self, tick: &Tick) -> anyhow::Result<()> {
        let batch = self.player.batch(tick);
        self.delivered(batch.sequence.saturating_sub(WINDOW)).await?;
        if self.send.send(StreamRequest { message: Some(Message::Batch(batch)) }).await.is_err() {
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// Waits until everything up to a sequence is acknowledged.
    async fn delivered(&mut self, sequence: u64) -> anyhow::Result<()> {
        while *self.acknowledged.borrow_and_update() < sequence {
            match tokio::time::timeout(PATIENCE, self.acknowledged.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.failure().await),
                Err(_) => bail!("no acknowledgement for {} s", PATIENCE.as_secs()),
            }
        }
        Ok(())
    }

    /// Why the stream ended although it should not have.
    async fn failure(&mut self) -> anyhow::Error {
        match (&mut self.reader).await {
            Ok(Err(error)) => error,
            _ => anyhow::anyhow!("the aggregator ended the stream"),
        }
    }

    /// Says goodbye, so that the silence that follows is none.
    async fn leave(self) -> anyhow::Result<()> {
        let goodbye = Goodbye { reason: "end of the recording".to_owned() };
        let _ = self.send.send(StreamRequest { message: Some(Message::Goodbye(goodbye)) }).await;
        drop(self.send);
        tokio::time::timeout(PATIENCE, self.reader).await.context("the aggregator does not end the stream")??
    }
}

/// Reads acknowledgements until the stream ends.
async fn read(mut answers: Streaming<StreamResponse>, told: watch::Sender<u64>) -> anyhow::Result<()> {
    while let Some(answer) = answers.message().await.map_err(Stop::from)? {
        if let Some(stream_response::Message::Acknowledgement(acknowledgement)) = answer.message {
            told.send_if_modified(|sequence| {
                let newer = acknowledgement.sequence > *sequence;
                *sequence = acknowledgement.sequence.max(*sequence);
                newer
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_numbers_or_max() {
        assert_eq!("max".parse(), Ok(Speed::Max));
        assert_eq!(["20", "20x", "0.5"].map(str::parse), [Ok(Speed::Times(20.0)), Ok(Speed::Times(20.0)), Ok(Speed::Times(0.5))]);
        for wrong in ["", "fast", "0", "-1", "inf", "nan"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_same_recording_in_another_session_is_another_spool() {
        let spool = |session, node, digest| hello(node, session, digest).spool_id;

        assert_eq!(spool("a", "n", "d"), spool("a", "n", "d"));
        assert_eq!(spool("a", "n", "d").len(), 16);
        for other in [spool("b", "n", "d"), spool("a", "m", "d"), spool("a", "n", "e")] {
            assert_ne!(other, spool("a", "n", "d"));
        }
    }
}
