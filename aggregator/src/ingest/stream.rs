//! One stream: Hello, then batches in order; acknowledges what became durable; ends with a reason.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};
use vedette_proto::{
    Block,
    v1::{self, stream_request::Message, stream_response},
};

use super::{Delivery, Door, Peer, Progress, Refused, Work, check, turns::Turn};
use crate::{auth::Grant, clock, counters::Refusal};

/// How long a stream that ends waits for its batches to be durable, so that it can still acknowledge them.
const DRAIN: Duration = Duration::from_secs(10);
/// A peer that opens a stream says Hello at once.
const HELLO: Duration = Duration::from_secs(10);
/// Observations older than this when they arrive were held back.
const LATE_MS: i64 = 60_000;

type Answers = mpsc::Sender<Result<v1::StreamResponse, Status>>;

/// Serves one stream to its end. Whatever happens here hurts no other stream.
pub(super) async fn serve(door: &Door, id: u64, grant: Grant, mut incoming: Streaming<v1::StreamRequest>, answers: Answers) {
    let mut node = String::new();
    if let Err(refused) = talk(door, id, grant, &mut incoming, &answers, &mut node).await {
        door.counters.refuse(refused.reason);
        tracing::warn!(%node, reason = refused.reason.word(), problem = %refused.problem, "stream refused");
        let _ = tokio::time::timeout(DRAIN, answers.send(Err(refused.status(&node)))).await;
    }
}

async fn talk(
    door: &Door,
    id: u64,
    grant: Grant,
    incoming: &mut Streaming<v1::StreamRequest>,
    answers: &Answers,
    node: &mut String,
) -> Result<(), Refused> {
    let Some(hello) = tokio::time::timeout(HELLO, next(incoming))
        .await
        .unwrap_or_else(|_| Err(Refused::new(Refusal::Protocol, "no hello within 10 s")))?
    else {
        return Ok(());
    };
    let Message::Hello(mut hello) = hello else {
        return Err(Refused::new(Refusal::Protocol, "the first message must be hello"));
    };
    let now = clock::unix_ms();
    let clock = check::clock_of(hello.origin(), now);
    let ahead =
        hello.containers.iter_mut().map(|added| check::not_ahead(&mut added.first_seen_unix_ms, clock)).filter(|ahead| *ahead).count();
    let checked = check::hello(&hello, &door.cluster, &door.limits, clock);
    // Only a name that was checked is repeated in logs and answers.
    if !checked.as_ref().is_err_and(|refused| refused.problem.starts_with("hello.node")) {
        node.clone_from(&hello.node);
    }
    let (spool_id, origin) = checked?;
    grant.caller.may_deliver(&hello.node, origin)?;
    if ahead > 0 {
        door.counters.times_ahead.inc_by(ahead as u64);
        tracing::warn!(%node, containers = ahead, "containers first seen in the future: the node's clock is ahead, or was");
    }
    // Held until the pipeline is told that this stream ended: the spool's next one opens after that.
    let mut turn = door.turns.take(&hello.node, spool_id, id).await?;

    let cluster: Arc<str> = match origin {
        v1::Origin::Replay => hello.replay_session.as_str().into(),
        _ => Arc::clone(&door.cluster),
    };
    let full = |full: crate::fleet::FleetFull| Refused::new(Refusal::Limit, full.to_string());
    let node_id = door.fleet.connected(&cluster, &hello, now).map_err(full)?;
    let durable = door.history.acknowledged(&hello.node, &spool_id);
    let progress = watch::Sender::new(Progress { durable, ..Progress::default() });
    let peer = Arc::new(Peer { id, node_id, cluster, node: hello.node.clone(), spool_id, origin, progress });
    tracing::info!(%node, cluster = %peer.cluster, stream = id, version = ?hello.agent_version, acknowledged = durable, "stream opened");

    let containers = std::mem::take(&mut hello.containers);
    let mut stream = Stream::new(door, Arc::clone(&peer), durable);
    let outcome = match stream.open(containers, answers, durable).await {
        Ok(()) => stream.run(incoming, answers, &mut turn, grant).await,
        Err(refused) => Err(refused),
    };
    door.fleet.disconnected(node_id);
    // Fails only when the pipeline is gone, and then there is nothing to tell.
    let _ = door.work.send(Work::Ended(peer)).await;
    drop(turn);
    outcome
}

async fn next(incoming: &mut Streaming<v1::StreamRequest>) -> Result<Option<Message>, Refused> {
    match incoming.message().await {
        Ok(Some(v1::StreamRequest { message: Some(message) })) => Ok(Some(message)),
        Ok(Some(v1::StreamRequest { message: None })) => Err(Refused::new(Refusal::Protocol, "a message without content")),
        Ok(None) => Ok(None),
        // The connection broke: no fault of the messages.
        Err(status) if matches!(status.code(), tonic::Code::Unknown | tonic::Code::Cancelled | tonic::Code::Unavailable) => Ok(None),
        Err(status) => Err(Refused::new(Refusal::Malformed, format!("message cannot be decoded: {}", status.message()))),
    }
}

struct Stream<'a> {
    door: &'a Door,
    peer: Arc<Peer>,
    /// Container references and the ids and cgroups they stand for; at most `ingest.max_containers`.
    known: HashMap<u32, (String, String)>,
    last_sequence: u64,
    /// Durable when the stream opened: what is not above it is a duplicate.
    durable_before: u64,
    handed_over: u64,
    /// The node's clock is off, and that was logged.
    clock_told: bool,
}

impl<'a> Stream<'a> {
    fn new(door: &'a Door, peer: Arc<Peer>, durable: u64) -> Self {
        let known = HashMap::new();
        Self { door, peer, known, last_sequence: 0, durable_before: durable, handed_over: 0, clock_told: false }
    }

    async fn open(&mut self, containers: Vec<v1::ContainerAdded>, answers: &Answers, durable: u64) -> Result<(), Refused> {
        for added in &containers {
            self.learn(added)?;
        }
        self.hand_over(Work::Opened(Arc::clone(&self.peer), containers)).await?;
        let welcome = v1::Welcome {
            acknowledged_sequence: durable,
            aggregator_version: env!("CARGO_PKG_VERSION").into(),
            heartbeat_interval_ms: self.door.limits.heartbeat_interval_ms,
        };
        // A peer that is gone already is noticed by the next read.
        let _ = answers.send(Ok(answer(stream_response::Message::Welcome(welcome)))).await;
        Ok(())
    }

    /// Reads, hands over and acknowledges until the stream ends; then waits for what is under way.
    async fn run(
        &mut self,
        incoming: &mut Streaming<v1::StreamRequest>,
        answers: &Answers,
        turn: &mut Turn<'_>,
        grant: Grant,
    ) -> Result<(), Refused> {
        // Outside of the loop: a message that comes meanwhile does not begin the question anew.
        let over = grant.over();
        tokio::pin!(over);
        let mut progress = self.peer.progress.subscribe();
        let mut stop = self.door.stop.clone();
        let mut acknowledge = false;
        let outcome = loop {
            tokio::select! {
                refused = turn.over() => break Err(refused),
                refused = &mut over => break Err(refused),
                // A block, so that the guard it gives is not held across the other arms.
                () = async { let _ = stop.wait_for(|stop| *stop).await; } => break Err(Refused::new(Refusal::Unavailable, "the aggregator is stopping")),
                Ok(()) = progress.changed() => {
                    if let Some(cause) = progress.borrow_and_update().failed.clone() {
                        break Err(Refused::new(Refusal::Unavailable, format!("observations cannot be stored: {cause}")));
                    }
                    acknowledge = true;
                }
                Ok(place) = answers.reserve(), if acknowledge => {
                    place.send(Ok(acknowledgement(progress.borrow_and_update().durable)));
                    acknowledge = false;
                }
                message = next(incoming) => match message {
                    Ok(Some(Message::Goodbye(goodbye))) => {
                        // Goodbye ends the stream: what is durable by then is still acknowledged.
                        self.door.fleet.left(self.peer.node_id);
                        break check::goodbye(&goodbye);
                    }
                    Ok(Some(message)) => match self.take(message).await {
                        Ok(duplicate) => acknowledge |= duplicate,
                        Err(refused) => break Err(refused),
                    },
                    Ok(None) => break Ok(()),
                    Err(refused) => break Err(refused),
                },
            }
        };
        self.drain(&mut progress, answers).await;
        outcome
    }

    /// Waits for batches under way. The next stream of the spool opens only then, so it is told all that is durable.
    async fn drain(&self, progress: &mut watch::Receiver<Progress>, answers: &Answers) {
        let handed_over = self.handed_over;
        let finished = async {
            let _ = progress.wait_for(|progress| progress.finished >= handed_over).await;
        };
        let _ = tokio::time::timeout(DRAIN, finished).await;
        let durable = self.peer.progress.borrow().durable;
        if durable > 0 {
            let _ = answers.try_send(Ok(acknowledgement(durable)));
        }
    }

    /// Takes one message; whether it was a duplicate that is to be acknowledged again.
    async fn take(&mut self, message: Message) -> Result<bool, Refused> {
        let now = clock::unix_ms();
        match message {
            Message::Hello(_) => Err(Refused::new(Refusal::Protocol, "a second hello")),
            Message::Heartbeat(heartbeat) => {
                check::heartbeat(&heartbeat)?;
                self.door.fleet.heartbeat(self.peer.node_id, &heartbeat, now);
                Ok(false)
            }
            Message::Goodbye(_) => Ok(false),
            Message::Batch(batch) => {
                self.door.fleet.heard(self.peer.node_id, now);
                self.batch(batch, now).await
            }
        }
    }

    async fn batch(&mut self, mut batch: v1::Batch, now: i64) -> Result<bool, Refused> {
        let sequence = batch.sequence;
        let of_batch = |refused: Refused| Refused { problem: format!("batch {sequence}: {}", refused.problem), ..refused };
        self.sequence(&batch).map_err(of_batch)?;
        let clock = check::clock_of(self.peer.origin, now);
        self.door.counters.times_ahead.inc_by(check::none_ahead(&mut batch, clock));
        check::batch(&batch, self.peer.origin, &self.door.limits, clock).map_err(of_batch)?;
        for added in &batch.added {
            self.learn(added).map_err(of_batch)?;
        }
        let duplicate = sequence <= self.durable_before;
        let wire = batch.block.take();
        // Without a block, or with one that is stored already, a batch is as old as the newest that it tells of.
        let told_ms = wire.as_ref().map(|block| block.unix_ms).or_else(|| newest(&batch)).unwrap_or(now);
        let (block, off) = match wire {
            Some(block) if !duplicate => self.block(&block, clock).map_err(of_batch)?,
            _ => (Block { unix_ms: now, ..Block::default() }, None),
        };
        self.references(&batch, &block).map_err(of_batch)?;
        let block = match off {
            Some(refused) => self.without_rows(&mut batch, &block, refused, now),
            None => block,
        };
        for removed in &batch.removed {
            self.known.remove(&removed.container_ref);
        }
        let late = told_ms < now - LATE_MS && self.peer.origin == v1::Origin::Live;
        let origin = if late { v1::Origin::Late } else { self.peer.origin };
        self.last_sequence = sequence;
        if duplicate {
            self.door.counters.duplicate_batches.inc();
        } else {
            self.handed_over += 1;
            if let Some(dropped) = &batch.dropped {
                self.door.counters.dropped_observations.inc_by(dropped.observations);
                self.door.fleet.dropped(self.peer.node_id, dropped.observations);
            }
        }
        let delivery = Delivery { peer: Arc::clone(&self.peer), batch, block, origin, duplicate };
        self.hand_over(Work::Batch(Box::new(delivery))).await?;
        Ok(duplicate)
    }

    fn sequence(&self, batch: &v1::Batch) -> Result<(), Refused> {
        let no = |problem: String| Err(Refused::new(Refusal::Sequence, problem));
        let (sequence, last) = (batch.sequence, self.last_sequence);
        // SQL's integers are signed.
        if sequence == 0 || sequence > i64::MAX as u64 {
            return no("sequences count from 1".into());
        }
        if last > 0 && sequence <= last {
            return no(format!("out of order, after {last}"));
        }
        if sequence <= self.durable_before {
            return Ok(());
        }
        let before = last.max(self.durable_before);
        // A spool of which nothing is known may begin anywhere: its first batches went to an aggregator before this one.
        let dropped = batch.dropped.as_ref().map_or(0, |dropped| dropped.batches);
        if before > 0 && sequence - before - 1 > dropped {
            return no(format!("follows {before}, and only {dropped} batches are said to be dropped between"));
        }
        Ok(())
    }

    /// Decodes a block. A time that is off is given beside it: that refuses its rows, not the stream, because the next rows may be right.
    fn block(&self, block: &v1::ColumnBlock, now: i64) -> Result<(Block, Option<Refused>), Refused> {
        let off = match check::block_time(block.unix_ms, self.peer.origin, &self.door.limits, now) {
            Ok(()) => None,
            Err(refused) if matches!(refused.reason, Refusal::Future | Refusal::TooOld) => Some(refused),
            Err(refused) => return Err(refused),
        };
        // One row more than containers: the node's own.
        let limit = (self.door.limits.max_containers + 1).min(vedette_history::StoredBatch::MAX_ROWS);
        let block = Block::decode(block, limit).map_err(|error| Refused::new(Refusal::Block, error.to_string()))?;
        Ok((block, off))
    }

    /// Leaves a stated gap where the rows were; the batch itself is stored and acknowledged.
    fn without_rows(&mut self, batch: &mut v1::Batch, block: &Block, refused: Refused, now: i64) -> Block {
        self.door.counters.refuse(refused.reason);
        if !std::mem::replace(&mut self.clock_told, true) {
            let (node, sequence) = (&self.peer.node, batch.sequence);
            tracing::warn!(%node, sequence, problem = %refused.problem, "observations refused; told once a stream");
        }
        let (unix_ms, observations) = (block.unix_ms.min(now), block.rows.len() as u64);
        match &mut batch.dropped {
            Some(dropped) => {
                // Within what SQL can count.
                dropped.observations = dropped.observations.saturating_add(observations).min(i64::MAX as u64);
                dropped.first_unix_ms = dropped.first_unix_ms.min(unix_ms);
                dropped.last_unix_ms = dropped.last_unix_ms.max(unix_ms);
                dropped.reason = format!("{}; {}", dropped.reason, refused.problem);
            }
            // No batch is missing, only its rows.
            none => {
                let (batches, reason) = (0, refused.problem);
                *none = Some(v1::Dropped { batches, observations, first_unix_ms: unix_ms, last_unix_ms: unix_ms, reason });
            }
        }
        Block { unix_ms: now, ..Block::default() }
    }

    fn learn(&mut self, added: &v1::ContainerAdded) -> Result<(), Refused> {
        let reference = added.container_ref;
        match self.known.get(&reference) {
            Some((id, cgroup)) if *id == added.container_id && *cgroup == added.cgroup => return Ok(()),
            Some(_) => {
                let problem = format!("container reference {reference} already stands for another container");
                return Err(Refused::new(Refusal::Reference, problem));
            }
            None => {}
        }
        if self.known.len() >= self.door.limits.max_containers {
            return Err(Refused::new(Refusal::Limit, "more containers than ingest.max_containers"));
        }
        self.known.insert(reference, (added.container_id.clone(), added.cgroup.clone()));
        Ok(())
    }

    fn references(&self, batch: &v1::Batch, block: &Block) -> Result<(), Refused> {
        let said = batch
            .removed
            .iter()
            .map(|removed| removed.container_ref)
            .chain(batch.processes.iter().map(|process| process.container_ref))
            .chain(batch.peers.iter().map(|peers| peers.container_ref));
        let rows = block.container_refs.iter().copied().filter(|reference| *reference != 0);
        match said.chain(rows).find(|reference| !self.known.contains_key(reference)) {
            Some(reference) => Err(Refused::new(Refusal::Reference, format!("container reference {reference} was never added"))),
            None => Ok(()),
        }
    }

    async fn hand_over(&self, work: Work) -> Result<(), Refused> {
        self.door.counters.pipeline_queue.inc();
        let sent = self.door.work.send(work).await;
        sent.map_err(|_| Refused::new(Refusal::Unavailable, "the aggregator is stopping"))
    }
}

/// The newest that a batch tells of besides its block, Unix milliseconds.
fn newest(batch: &v1::Batch) -> Option<i64> {
    let added = batch.added.iter().map(|added| added.first_seen_unix_ms);
    let removed = batch.removed.iter().map(|removed| removed.unix_ms);
    let processes = batch.processes.iter().map(|process| process.unix_ms);
    added.chain(removed).chain(processes).max()
}

fn answer(message: stream_response::Message) -> v1::StreamResponse {
    v1::StreamResponse { message: Some(message) }
}

fn acknowledgement(sequence: u64) -> v1::StreamResponse {
    answer(stream_response::Message::Acknowledgement(v1::Acknowledgement { sequence }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_without_a_block_is_as_old_as_the_newest_it_tells_of() {
        let removed = |unix_ms| v1::ContainerRemoved { unix_ms, ..v1::ContainerRemoved::default() };
        let told = v1::Batch { removed: vec![removed(5), removed(3)], ..v1::Batch::default() };

        assert_eq!(newest(&told), Some(5));
        assert_eq!(newest(&v1::Batch::default()), None);
    }
}
