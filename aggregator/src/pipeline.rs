//! The one task that owns the detector: names rows, scores them, hands them on to be kept, and tells of incidents.

mod names;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use vedette_detect::{Accepted, Change, Classifier, Detector, Memory, NodeHeard, SubjectKey};
use vedette_history::{StoredBatch, StoredVerdict};
use vedette_proto::v1;

use crate::{
    clock,
    counters::Counters,
    fleet::Fleet,
    identity::Identity,
    ingest::{Delivery, Peer, Work},
    kubernetes::Claim,
    model::{Choice, Tally},
    problems::{Problems, Source},
    roster::{Met, Roster},
};

/// How often silence is judged and the identity file looked at.
const TICK: Duration = Duration::from_secs(1);
/// Every how many ticks the baselines' states are shown in the fleet.
const BASELINE_TICKS: u64 = 5;

/// Every how many ticks containers that no API object claims are looked for.
const CLAIM_TICKS: u64 = 5;

/// A node unheard for this long has probably been replaced: its containers make room for others.
const FORGOTTEN_MS: i64 = 3_600_000;
/// Ticks further apart than this: the aggregator itself stood still, and heard nobody because of that.
const STALL_MS: i64 = 5_000;

/// Most workloads whose memory is handed on to be saved at once: some milliseconds of work.
const MEMORIES_AT_ONCE: usize = 1_000;

/// A batch on its way to be durable.
#[derive(Debug)]
pub struct Scored {
    /// Whose progress it is.
    pub peer: Arc<Peer>,
    /// What is stored.
    pub batch: StoredBatch,
}

/// Everything the pipeline works with.
pub struct Pipeline {
    /// All classifier and incident state.
    pub detector: Detector,
    /// Names.
    pub identity: Identity,
    /// What services see.
    pub fleet: Arc<Fleet>,
    /// Counts.
    pub counters: Arc<Counters>,
    /// Complaints.
    pub problems: Arc<Problems>,
    /// The aggregator's own cluster.
    pub cluster: Arc<str>,
    /// Since when the aggregator runs and hears without a stall, Unix milliseconds: what silence is judged from.
    hearing_unix_ms: i64,
    last_tick_unix_ms: Option<i64>,
    /// To the keeper; full means that the disk is slower than the agents.
    pub keep: mpsc::Sender<Scored>,
    /// To the one who saves incidents.
    pub incidents: mpsc::Sender<Change>,
    /// To the one who saves what comparing with Prometheus came to.
    pub cross_checks: mpsc::Sender<Vec<v1::ComparedCounter>>,
    /// To the one who saves what was learnt.
    pub memories: mpsc::Sender<Vec<Memory>>,
    /// To the one who records what a timer accepted.
    pub accepted: mpsc::Sender<Accepted>,
    /// Which kind classifiers decide and watch; `None`: that of the detector, for good.
    pub models: Option<watch::Receiver<Choice>>,
    /// The one that watches, and where it is counted.
    shadow: Option<(Arc<Classifier>, Arc<Tally>)>,
    /// What it came to since the last turn, where it changed.
    cross_checked: Vec<v1::ComparedCounter>,
    roster: Roster,
    /// The API server's word was there when last looked.
    api_known: bool,
    /// Newest event time by cluster; as many as the fleet has clusters.
    event_time: HashMap<Arc<str>, i64>,
}

/// The parts that the pipeline is given.
pub struct Parts {
    /// See [`Pipeline`].
    pub detector: Detector,
    /// See [`Pipeline`].
    pub identity: Identity,
    /// See [`Pipeline`].
    pub fleet: Arc<Fleet>,
    /// See [`Pipeline`].
    pub counters: Arc<Counters>,
    /// See [`Pipeline`].
    pub problems: Arc<Problems>,
    /// See [`Pipeline`].
    pub cluster: Arc<str>,
    /// Since when the aggregator runs, Unix milliseconds.
    pub started_unix_ms: i64,
    /// See [`Pipeline`].
    pub keep: mpsc::Sender<Scored>,
    /// See [`Pipeline`].
    pub incidents: mpsc::Sender<Change>,
    /// See [`Pipeline`].
    pub cross_checks: mpsc::Sender<Vec<v1::ComparedCounter>>,
    /// See [`Pipeline`].
    pub memories: mpsc::Sender<Vec<Memory>>,
    /// See [`Pipeline`].
    pub accepted: mpsc::Sender<Accepted>,
}

impl Pipeline {
    /// A pipeline that knows nobody yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            detector,
            identity,
            fleet,
            counters,
            problems,
            cluster,
            started_unix_ms,
            keep,
            incidents,
            cross_checks,
            memories,
            accepted,
        } = parts;
        let (roster, event_time) = (Roster::default(), HashMap::new());
        let (hearing_unix_ms, last_tick_unix_ms) = (started_unix_ms, None);
        Self {
            detector,
            identity,
            fleet,
            counters,
            problems,
            cluster,
            hearing_unix_ms,
            last_tick_unix_ms,
            keep,
            incidents,
            cross_checks,
            memories,
            accepted,
            models: None,
            shadow: None,
            cross_checked: Vec::new(),
            roster,
            api_known: false,
            event_time,
        }
    }

    /// Works until told to stop.
    pub async fn run(mut self, mut work: mpsc::Receiver<Work>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    ticks += 1;
                    self.tick(clock::unix_ms(), ticks);
                }
                received = work.recv() => match received {
                    Some(Work::Stop) | None => return self.save_memory().await,
                    Some(one) => {
                        self.counters.pipeline_queue.dec();
                        if let Some(scored) = self.take(one) {
                            self.counters.durable_queue.inc();
                            if self.keep.send(scored).await.is_err() {
                                return;
                            }
                        }
                    }
                },
            }
            if !self.cross_checked.is_empty() && self.cross_checks.send(std::mem::take(&mut self.cross_checked)).await.is_err() {
                return;
            }
            for accepted in self.detector.accepted() {
                if self.accepted.send(accepted).await.is_err() {
                    return;
                }
            }
            for change in self.detector.changes() {
                if self.incidents.send(change).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Hands on what was learnt and is due to be saved. While the database is slower than that, it stays due.
    fn hand_on_memory(&mut self) {
        let Ok(room) = self.memories.try_reserve() else { return };
        let learnt = self.detector.memory(&self.cluster, false, MEMORIES_AT_ONCE);
        if !learnt.is_empty() {
            room.send(learnt);
        }
    }

    /// Hands on all that was learnt and is not saved.
    async fn save_memory(mut self) {
        loop {
            let learnt = self.detector.memory(&self.cluster, true, MEMORIES_AT_ONCE);
            if learnt.is_empty() || self.memories.send(learnt).await.is_err() {
                return;
            }
        }
    }

    /// Takes one piece of work; gives what is to be made durable.
    pub fn take(&mut self, work: Work) -> Option<Scored> {
        match work {
            Work::Opened(peer, containers) => {
                self.roster.stream_opened(&peer);
                for added in containers {
                    self.add(&peer, added, peer.origin);
                }
                for key in self.roster.unmentioned(&peer) {
                    self.gone(key, &v1::ContainerRemoved { unix_ms: clock::unix_ms(), ..v1::ContainerRemoved::default() }, peer.origin);
                }
                None
            }
            Work::Batch(delivery) => self.batch(*delivery),
            Work::Ended(peer) => {
                self.roster.stream_ended(peer.id);
                if peer.origin == v1::Origin::Replay && !self.roster.has_stream(peer.node_id) {
                    let at = self.event_time.get(&peer.cluster).copied().unwrap_or_default();
                    let removed = v1::ContainerRemoved { unix_ms: at, ..v1::ContainerRemoved::default() };
                    for key in self.roster.node_over(peer.node_id) {
                        self.detector.container_removed(SubjectKey(key), &removed, peer.origin);
                        self.fleet.container_removed(key, &removed);
                    }
                    if !self.roster.has_stream_of(&peer.cluster) {
                        self.detector.cluster_over(&peer.cluster);
                        self.event_time.remove(&peer.cluster);
                    }
                }
                None
            }
            Work::Accept { incident_id, reply } => {
                // Who asked may have gone meanwhile; accepted is accepted.
                let _ = reply.send(self.detector.accept(incident_id).map(drop));
                None
            }
            Work::Answered(incident_id, answer) => {
                self.detector.answered(incident_id, answer);
                None
            }
            Work::Namespaces(namespaces) => {
                match self.detector.set_namespaces(namespaces) {
                    Ok(workloads) => tracing::info!(workloads, "detect.namespaces changed and is in use"),
                    // Whoever sends this checked it.
                    Err(error) => tracing::error!(%error, "detect.namespaces is not used"),
                }
                None
            }
            Work::Stop => None,
        }
    }

    /// `origin` is that of what says so: a late batch of a live stream is late.
    fn add(&mut self, peer: &Peer, added: v1::ContainerAdded, origin: v1::Origin) {
        if !self.identity.knows(&added) {
            // The file may say by now who a new pod is; a moment later its first rows would be under another name.
            self.refresh_names();
        }
        let named = self.identity.name(&peer.cluster, &peer.node, &added);
        let elsewhere = matches!(named.claim, Claim::Elsewhere(_));
        let Met::New(key) = self.roster.add(peer, added, named) else { return };
        let Some(place) = self.roster.place(key) else { return };
        self.counters.names_refused.inc_by(u64::from(elsewhere));
        self.fleet.container_added(key, &place.in_fleet());
        self.detector.container_added(place.at(key), &place.added, origin == v1::Origin::Live);
    }

    fn gone(&mut self, key: u64, removed: &v1::ContainerRemoved, origin: v1::Origin) {
        self.roster.forget(key);
        self.detector.container_removed(SubjectKey(key), removed, origin);
        self.fleet.container_removed(key, removed);
    }

    fn batch(&mut self, delivery: Delivery) -> Option<Scored> {
        let Delivery { peer, batch, block, origin, duplicate } = delivery;
        for added in batch.added {
            self.add(&peer, added, origin);
        }
        if !duplicate {
            for seen in &batch.processes {
                if let Some(key) = self.roster.key(peer.id, seen.container_ref) {
                    self.detector.process_seen(SubjectKey(key), seen, origin);
                    self.fleet.process_seen(key, seen);
                }
            }
            for seen in &batch.peers {
                if let Some(key) = self.roster.key(peer.id, seen.container_ref) {
                    self.fleet.peers_seen(key, seen);
                }
            }
        }
        if let Some(round) = batch.cross_check.filter(|_| !duplicate) {
            self.cross_check(&peer, round, origin);
        }
        let began = Instant::now();
        let scored = (!duplicate).then(|| self.score(&peer, batch.sequence, batch.dropped, block, origin));
        self.counters.detection.inc_by(began.elapsed().as_secs_f64());
        for removed in &batch.removed {
            if let Some(key) = self.roster.remove(peer.id, removed.container_ref) {
                self.detector.container_removed(SubjectKey(key), removed, origin);
                self.fleet.container_removed(key, removed);
            }
        }
        scored
    }

    /// Comparisons of containers that are gone meanwhile are left out.
    fn cross_check(&mut self, peer: &Peer, round: v1::CrossCheckRound, origin: v1::Origin) {
        let node = self.node(peer);
        let key = |check: v1::CrossCheck| match check.container_ref {
            0 => Some((node, check)),
            reference => Some((self.roster.key(peer.id, reference)?, check)),
        };
        let checks: Vec<(u64, v1::CrossCheck)> = round.checks.into_iter().filter_map(key).collect();
        let of_fleet: Vec<_> = checks.iter().map(|&(key, check)| ((key != node).then_some(key), check)).collect();
        self.cross_checked.extend(self.fleet.cross_checked(peer.node_id, round.unix_ms, &round.error, &of_fleet));
        let of_detector: Vec<_> = checks.into_iter().map(|(key, check)| (SubjectKey(key), check)).collect();
        self.detector.cross_checked(SubjectKey(node), &of_detector, origin, round.unix_ms);
    }

    fn score(
        &mut self,
        peer: &Arc<Peer>,
        sequence: u64,
        gap: Option<v1::Dropped>,
        mut block: vedette_proto::Block,
        origin: v1::Origin,
    ) -> Scored {
        let unix_ms = block.unix_ms;
        let mut subjects = Vec::with_capacity(block.rows.len());
        let mut verdicts = Vec::with_capacity(block.rows.len());
        let mut keys = Vec::with_capacity(block.rows.len());
        let mut known = Vec::with_capacity(block.rows.len());
        let node = block.container_refs.contains(&0).then(|| self.node(peer));
        let stream = self.roster.stream(peer.id);
        for (place, &reference) in block.container_refs.iter().enumerate() {
            let key = if reference == 0 { node } else { stream.and_then(|stream| stream.key(reference)) };
            // Another stream of the node may have said that the container is gone: then this row is the last of it.
            let Some((key, subject)) = key.and_then(|key| Some((key, Arc::clone(&self.roster.place(key)?.subject)))) else { continue };
            let verdict = self.detector.observe(SubjectKey(key), origin, unix_ms, &block.rows[place]);
            self.watch(key, verdict.kind);
            subjects.push(subject);
            verdicts.push(StoredVerdict { score: verdict.score, kind: verdict.kind });
            keys.push(key);
            known.push(place);
        }
        if known.len() < block.rows.len() {
            tracing::warn!(node = %peer.node, sequence, rows = block.rows.len() - known.len(), "rows of containers that another stream removed");
            block.container_refs = known.iter().map(|&place| block.container_refs[place]).collect();
            block.rows = known.iter().map(|&place| block.rows[place]).collect();
        }
        let rows = keys.iter().zip(&block.rows).zip(&verdicts);
        self.fleet.observed(peer.node_id, unix_ms, rows.map(|((key, row), verdict)| (*key, row, verdict.score)));
        if !block.rows.is_empty() {
            self.advance(&peer.cluster, unix_ms);
        }
        let (node, spool_id) = (peer.node.clone(), peer.spool_id);
        let batch = StoredBatch { subjects, node, spool_id, sequence, origin, block, verdicts, gap };
        Scored { peer: Arc::clone(peer), batch }
    }

    /// What the model that watches would have said of a row.
    fn watch(&self, key: u64, kind: v1::Kind) {
        let Some((shadow, tally)) = &self.shadow else { return };
        let Some((_, true, seen)) = self.detector.window(SubjectKey(key)) else { return };
        let (ticket_from, _) = shadow.thresholds();
        let (this, serving) = (shadow.opinion(&shadow.probabilities(&seen)).abnormal >= ticket_from, kind != v1::Kind::Normal);
        tally.asked.fetch_add(1, Ordering::Relaxed);
        tally.only_this.fetch_add(u64::from(this && !serving), Ordering::Relaxed);
        tally.only_serving.fetch_add(u64::from(serving && !this), Ordering::Relaxed);
    }

    /// Follows what was chosen of the models.
    fn follow_models(&mut self) {
        let Some(models) = self.models.as_mut().filter(|models| models.has_changed().unwrap_or(false)) else { return };
        let Choice { serving, shadow } = models.borrow_and_update().clone();
        tracing::info!(serving = serving.as_ref().map(|one| one.name()), shadow = shadow.as_ref().map(|one| one.0.name()), "models");
        self.detector.set_classifier(serving);
        self.shadow = shadow;
    }

    fn node(&mut self, peer: &Peer) -> u64 {
        let (key, new) = self.roster.node(peer);
        if let Some(place) = self.roster.place(key).filter(|_| new) {
            self.detector.container_added(place.at(key), &place.added, peer.origin == v1::Origin::Live);
        }
        key
    }

    /// Event time moves forward only: late batches do not turn it back. The detector also looks at the node's own.
    fn advance(&mut self, cluster: &Arc<str>, unix_ms: i64) {
        let newest = self.event_time.entry(Arc::clone(cluster)).or_insert(i64::MIN);
        *newest = unix_ms.max(*newest);
        self.detector.advance(cluster, unix_ms);
    }

    /// What the clock drives: silence, names that changed, baselines' states.
    pub fn tick(&mut self, now_unix_ms: i64, ticks: u64) {
        let since_last_ms = self.last_tick_unix_ms.replace(now_unix_ms).map_or(0, |last| now_unix_ms - last);
        if since_last_ms > STALL_MS {
            tracing::warn!(since_last_ms, "the aggregator stood still; silence is judged anew");
            self.hearing_unix_ms = now_unix_ms;
        }
        self.follow_models();
        self.silence(now_unix_ms);
        self.refresh_names();
        self.rename_changed();
        self.hand_on_memory();
        if ticks.is_multiple_of(CLAIM_TICKS) {
            self.claims(now_unix_ms);
            self.agentless(now_unix_ms);
        }
        if ticks.is_multiple_of(BASELINE_TICKS) {
            let states = self.roster.keys().filter_map(|key| Some((key, self.detector.container_state(SubjectKey(key))?.baseline)));
            self.fleet.baseline(states);
            self.forget_unheard(now_unix_ms);
            self.forget_replaced(now_unix_ms);
            self.tell_limits();
            let clusters: std::collections::HashSet<String> = self.fleet.clusters();
            self.event_time.retain(|cluster, _| clusters.contains(&**cluster));
        }
    }

    fn forget_unheard(&mut self, now_unix_ms: i64) {
        let removed = v1::ContainerRemoved { unix_ms: now_unix_ms, ..v1::ContainerRemoved::default() };
        for node in self.fleet.unheard(now_unix_ms - FORGOTTEN_MS) {
            for key in self.roster.node_over(node) {
                self.detector.container_removed(SubjectKey(key), &removed, v1::Origin::Late);
                self.fleet.container_removed(key, &removed);
            }
        }
    }

    /// Nodes that the fleet does not know any more.
    fn forget_replaced(&mut self, now_unix_ms: i64) {
        let removed = v1::ContainerRemoved { unix_ms: now_unix_ms, ..v1::ContainerRemoved::default() };
        for (node, name) in self.fleet.forget_replaced(now_unix_ms) {
            for key in self.roster.node_over(node) {
                self.detector.container_removed(SubjectKey(key), &removed, v1::Origin::Late);
            }
            self.detector.node_over(&self.cluster, &name);
        }
    }

    /// What the detector refused is not judged, and that is said.
    fn tell_limits(&self) {
        let stats = self.detector.stats();
        self.counters.detector(&stats);
        let (containers, incidents) = (stats.containers_refused, stats.incidents_refused);
        if containers > 0 || incidents > 0 {
            let line =
                format!("detector: {containers} containers and {incidents} incidents refused since the start, limits of detect were met");
            self.problems.state(Source::Detector, line);
        }
    }

    fn silence(&mut self, now_unix_ms: i64) {
        let own = &*self.cluster;
        let heard = self.fleet.presence(|node, connected, left, blind| {
            (node.cluster == own).then(|| (node.name.clone(), node.last_heard_unix_ms, connected, left, blind))
        });
        let names: Vec<&str> = heard.iter().flatten().map(|(name, ..)| &**name).collect();
        let away = self.identity.kubernetes().map_or_else(|| vec![false; names.len()], |kubernetes| kubernetes.away(&names));
        let nodes: Vec<NodeHeard<'_>> = heard
            .iter()
            .flatten()
            .zip(away)
            .map(|((name, last_heard_unix_ms, connected, left, blind), cordoned_or_deleted)| NodeHeard {
                cluster: own,
                name,
                last_heard_unix_ms: *last_heard_unix_ms,
                connected: *connected,
                left: *left,
                blind: *blind,
                cordoned_or_deleted,
                aggregator_started_unix_ms: self.hearing_unix_ms,
            })
            .collect();
        self.detector.nodes(now_unix_ms, &nodes);
    }
}

#[cfg(test)]
mod tests;
