//! An agent's side of the wire, made by hand: tests that must know every batch they sent.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use vedette_proto::{
    Block, Column, Observation,
    v1::{
        Batch, ContainerAdded, Goodbye, Hello, Origin, StreamRequest, StreamResponse, ingest_service_client::IngestServiceClient,
        stream_request, stream_response,
    },
};

use crate::aggregator::{Aggregator, with_token};

/// Messages on their way; sending waits beyond that.
const QUEUE: usize = 64;

/// One node as the feeder plays it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Identity of its spool.
    pub spool_id: [u8; 16],
    /// Containers, each in a pod of its own.
    pub containers: u32,
    /// Event time of sequence 1; sequence n is n - 1 seconds later.
    pub start_unix_ms: i64,
}

/// Now, Unix milliseconds.
#[must_use]
pub fn now_unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Node {
    /// A node whose first batch lies `seconds` in the past.
    #[must_use]
    pub fn new(name: &str, containers: u32, seconds: i64) -> Self {
        let mut spool_id = [0x5a; 16];
        for (place, byte) in name.bytes().enumerate() {
            spool_id[place % 16] ^= byte;
        }
        Self { name: name.to_owned(), spool_id, containers, start_unix_ms: now_unix_ms() - seconds * 1_000 }
    }

    /// The containers as they are announced.
    #[must_use]
    pub fn added(&self) -> Vec<ContainerAdded> {
        (1..=self.containers)
            .map(|container_ref| {
                let digest = format!("{:08x}", container_ref).repeat(8);
                let pod = format!("{container_ref:08x}-0000-4000-8000-{:012x}", self.name.len());
                ContainerAdded {
                    container_ref,
                    cgroup: format!("/kubepods/burstable/pod{pod}/{digest}"),
                    pod_uid: pod,
                    container_id: digest,
                    runtime: "containerd".into(),
                    first_seen_unix_ms: self.start_unix_ms,
                    already_running: true,
                    ..ContainerAdded::default()
                }
            })
            .collect()
    }

    /// The batch of a sequence; its figures follow from the sequence, so that history can be checked against them.
    #[must_use]
    pub fn batch(&self, sequence: u64) -> Batch {
        let rows = (1..=self.containers)
            .map(|container| {
                let mut row = Observation::default();
                row.set(Column::IntervalUs, 1_000_000);
                row.set(Column::CpuUsageUs, sequence * 1_000 + u64::from(container));
                row.set(Column::MemoryCurrentBytes, 64 << 20);
                row.set(Column::NetTxBytes, 2_048);
                row.set(Column::NetRxBytes, 1_024);
                row
            })
            .collect();
        let unix_ms = self.start_unix_ms + (i64::try_from(sequence).unwrap_or(i64::MAX) - 1) * 1_000;
        let block = Block { unix_ms, container_refs: (1..=self.containers).collect(), rows };
        Batch { sequence, block: Some(block.encode()), ..Batch::default() }
    }

    /// The opening message.
    #[must_use]
    pub fn hello(&self) -> Hello {
        Hello {
            node: self.name.clone(),
            spool_id: self.spool_id.to_vec(),
            origin: Origin::Live.into(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            column_ids: Column::ALL.iter().map(|column| column.id()).collect(),
            interval_ms: 1_000,
            containers: self.added(),
            ..Hello::default()
        }
    }
}

/// An open stream.
pub struct Feed {
    requests: mpsc::Sender<StreamRequest>,
    answers: Streaming<StreamResponse>,
    /// What Welcome said is durable.
    pub welcomed: u64,
    /// The highest sequence acknowledged.
    pub acknowledged: u64,
}

impl Feed {
    /// Opens a stream for a node.
    ///
    /// # Errors
    /// What the aggregator says.
    pub async fn open(aggregator: &Aggregator, node: &Node) -> anyhow::Result<Self> {
        Self::open_on(aggregator.channel().await?, aggregator, node.hello()).await
    }

    /// Opens a stream with an opening message of one's own.
    ///
    /// # Errors
    /// What the aggregator says.
    pub async fn open_on(channel: Channel, aggregator: &Aggregator, hello: Hello) -> anyhow::Result<Self> {
        Self::open_with(channel, hello, |stream| aggregator.agent_request(stream)).await
    }

    /// Opens a stream with a token of one's own.
    ///
    /// # Errors
    /// What the aggregator says; the [`tonic::Status`] is the cause.
    pub async fn open_as(channel: Channel, token: &str, hello: Hello) -> anyhow::Result<Self> {
        Self::open_with(channel, hello, |stream| with_token(stream, token)).await
    }

    async fn open_with(
        channel: Channel,
        hello: Hello,
        request: impl FnOnce(ReceiverStream<StreamRequest>) -> anyhow::Result<tonic::Request<ReceiverStream<StreamRequest>>>,
    ) -> anyhow::Result<Self> {
        let (requests, stream) = mpsc::channel(QUEUE);
        requests.send(StreamRequest { message: Some(stream_request::Message::Hello(hello)) }).await?;
        let request = request(ReceiverStream::new(stream))?;
        let mut answers = IngestServiceClient::new(channel).stream(request).await?.into_inner();
        let first = answers.message().await?.and_then(|answer| answer.message);
        let Some(stream_response::Message::Welcome(welcome)) = first else { bail!("expected Welcome, got {first:?}") };
        let welcomed = welcome.acknowledged_sequence;
        Ok(Self { requests, answers, welcomed, acknowledged: welcomed })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// Where the stream is closed.
    pub async fn send(&self, message: stream_request::Message) -> anyhow::Result<()> {
        self.requests.send(StreamRequest { message: Some(message) }).await.context("the stream is closed")
    }

    /// Sends batches of a node, and waits until the last one is acknowledged.
    ///
    /// # Errors
    /// What the aggregator says; [`Feed::acknowledged`] is right even then.
    pub async fn deliver(&mut self, node: &Node, sequences: std::ops::RangeInclusive<u64>) -> anyhow::Result<()> {
        let last = *sequences.end();
        let mut next = *sequences.start();
        while self.acknowledged < last {
            // At most a window ahead of what is durable, as the agent does.
            while next <= last && next <= self.acknowledged + 32 {
                self.send(stream_request::Message::Batch(node.batch(next))).await?;
                next += 1;
            }
            self.receive().await?;
        }
        Ok(())
    }

    /// Waits for one answer.
    ///
    /// # Errors
    /// What the aggregator says, or where it closes the stream.
    pub async fn receive(&mut self) -> anyhow::Result<()> {
        match self.answers.message().await?.and_then(|answer| answer.message) {
            Some(stream_response::Message::Acknowledgement(acknowledgement)) => {
                self.acknowledged = self.acknowledged.max(acknowledgement.sequence);
                Ok(())
            }
            other => bail!("expected an acknowledgement, got {other:?}"),
        }
    }

    /// Reads until the aggregator ends the stream, and gives what it says.
    ///
    /// # Errors
    /// Where it says nothing.
    pub async fn ended(&mut self) -> anyhow::Result<tonic::Status> {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => bail!("the stream ended without a reason"),
                Err(status) => return Ok(status),
            }
        }
    }

    /// Leaves on purpose.
    ///
    /// # Errors
    /// Where the stream is closed.
    pub async fn leave(self) -> anyhow::Result<()> {
        self.send(stream_request::Message::Goodbye(Goodbye { reason: "the test is over".into() })).await
    }
}
