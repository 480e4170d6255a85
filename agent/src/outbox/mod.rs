//! Batches on disk until they are acknowledged: bounded, and the same spool after a kill.
//!
//! A full spool drops its oldest segment; a disk that refuses writes leaves the newest batches waiting in memory, then drops the oldest of those.
//! Both are counted and stated in the `Batch.dropped` of the batch that follows the hole.

mod durable;
mod frame;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use prost::Message;
use tokio::sync::Notify;
use vedette_proto::v1::{Batch, ContainerAdded, ContainerRemoved, Dropped};

use crate::{
    config::OutboxConfig,
    metrics::{Metrics, Reason},
};
use frame::{Gap, Header, State};
use segment::{Segment, container_rows};

/// Batches that wait in memory while the disk refuses them.
const MAX_UNSAVED: usize = 30;
/// A batch that the aggregator refuses so often is given up: it would keep back all that follow.
const MAX_REFUSALS: u32 = 3;
/// Most containers that Hello names: the aggregator takes no more from one node.
const MAX_REFERRED: usize = 10_000;
/// Skipped after a reboot: what the kernel had not written yet may have been sent, and its sequences must not name something else.
const REBOOT_SKIP_SEQUENCES: u64 = 4_096;
const REBOOT_SKIP_REFERENCES: u32 = 65_536;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file system refuses.
    #[error("spool {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Made by a version that writes something else.
    #[error("spool {path} is of another version ({found:?}, this agent writes {:?})", frame::VERSION.trim_end())]
    Version {
        /// The directory.
        path: PathBuf,
        /// What its `version` file says.
        found: String,
    },
    /// Another agent has it open.
    #[error("spool {path} is in use by another agent")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// The spool. Appended to by the sampling thread, read by the uplink.
#[derive(Debug)]
pub struct Outbox {
    spool_id: [u8; 16],
    inner: Mutex<Inner>,
    /// Tells the uplink that there is something new.
    pub appended: Notify,
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    config: OutboxConfig,
    metrics: Metrics,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    next_sequence: u64,
    next_reference: u32,
    acknowledged: u64,
    known: BTreeMap<u32, KnownContainer>,
    gaps: BTreeMap<u64, Gap>,
    /// Held, but damaged or refused: never sent. At most what the spool holds.
    skipped: BTreeSet<u64>,
    /// The batch refused last, and how often in a row.
    refusals: (u64, u32),
    /// Counts what is dropped: a Hello made before is told from one made after.
    drops: u64,
    boot_id: String,
    unsaved: VecDeque<Batch>,
    lost: Option<Dropped>,
    refused: bool,
    frame: Vec<u8>,
}

/// A container that batches may refer to.
#[derive(Debug)]
struct KnownContainer {
    added: ContainerAdded,
    /// The batch that removed it, and how.
    removed_in: Option<(u64, ContainerRemoved)>,
}

impl Outbox {
    /// Opens a spool, or makes one.
    ///
    /// # Errors
    /// [`OutboxError`] names the directory.
    pub fn open(config: OutboxConfig, boot_id: &str, metrics: Metrics) -> Result<Self, OutboxError> {
        let directory = config.dir.clone();
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OutboxError::Io { path, source }
        };
        std::fs::create_dir_all(&directory).map_err(io(&directory))?;
        let lock_path = directory.join("lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| OutboxError::InUse { path: directory.clone() })?;
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(io(&directory))? {
            let path = entry.map_err(io(&directory))?.path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                paths.push(path);
            }
        }
        paths.sort();
        check_version(&directory, !paths.is_empty())?;
        let spool_id = spool_id(&directory, !paths.is_empty())?;
        let state_path = directory.join("state");
        let state = match std::fs::read(&state_path) {
            Ok(bytes) => frame::read(&bytes).and_then(|payload| State::decode(payload).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(OutboxError::Io { path: state_path, source }),
        };
        let rebooted = match &state {
            Some(state) => !state.boot_id.is_empty() && state.boot_id != boot_id,
            // A spool that has segments had a state: what became of it, became of the newest batches as well.
            None => !paths.is_empty(),
        };
        if rebooted && state.is_none() {
            tracing::warn!(path = %state_path.display(), "the spool's state is damaged: taken for a restart of the node");
        }
        let state = state.unwrap_or_default();
        let mut inner = Inner {
            // Sixteen segments: a full spool loses a sixteenth at a time.
            segment_bytes: (config.max_bytes / 16).clamp(64 << 10, 8 << 20),
            config,
            metrics,
            segments: VecDeque::new(),
            next_sequence: 1,
            next_reference: 1,
            acknowledged: 0,
            known: BTreeMap::new(),
            gaps: state.gaps.into_iter().map(|gap| (gap.before, gap)).collect(),
            skipped: BTreeSet::new(),
            refusals: (0, 0),
            drops: 0,
            boot_id: boot_id.to_owned(),
            unsaved: VecDeque::new(),
            lost: None,
            refused: false,
            frame: Vec::new(),
        };
        for path in paths {
            inner.load(&path).map_err(io(&path))?;
        }
        if rebooted {
            inner.skip_after_reboot();
        }
        inner.save_state().map_err(io(&state_path))?;
        inner.count();
        Ok(Self { spool_id, inner: Mutex::new(inner), appended: Notify::new(), _lock: lock })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Random identity of the spool, made with it.
    #[must_use]
    pub fn spool_id(&self) -> [u8; 16] {
        self.spool_id
    }

    /// The containers announced and not removed, and the first reference that was never used.
    #[must_use]
    pub fn containers(&self) -> (Vec<ContainerAdded>, u32) {
        let inner = self.lock();
        let alive = inner.known.values().filter(|known| known.removed_in.is_none()).map(|known| known.added.clone()).collect();
        (alive, inner.next_reference)
    }

    /// Takes a batch, gives it its sequence, and writes it. A batch that cannot be written waits in memory.
    pub fn append(&self, batch: Batch, now_unix_ms: i64) {
        let mut inner = self.lock();
        inner.drop_old(now_unix_ms);
        inner.unsaved.push_back(batch);
        inner.save_waiting();
        inner.count();
        drop(inner);
        self.appended.notify_one();
    }

    /// The first batch held from this sequence on, with the hole before it stated. Damaged and refused ones are left out.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self, from: u64) -> std::io::Result<Option<Batch>> {
        self.lock().read(from)
    }

    /// Every container that a batch may refer to: those alive, and those whose removal is not acknowledged. Also the ones that a batch still
    /// held will announce: which batches the other side has is known only after it answered.
    #[must_use]
    pub fn referred(&self) -> Vec<ContainerAdded> {
        let inner = self.lock();
        let alive = inner.known.values().filter(|known| known.removed_in.is_none());
        let ended = inner.known.values().filter(|known| known.removed_in.is_some());
        alive.chain(ended).take(MAX_REFERRED).map(|known| known.added.clone()).collect()
    }

    /// The other side says up to where it has everything. Returns the containers that it has already seen removed, and was named again: which
    /// those are is known only now.
    pub fn welcomed(&self, sequence: u64) -> Vec<ContainerRemoved> {
        let mut inner = self.lock();
        let removed = inner.known.values().filter_map(|known| known.removed_in.as_ref());
        let again = removed.filter(|(removed_in, _)| *removed_in <= sequence).map(|(_, removed)| *removed).collect();
        inner.acknowledge(sequence);
        inner.count();
        again
    }

    /// Changes whenever batches that were not acknowledged are dropped.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.lock().drops
    }

    /// The other side refused the first batch held from this sequence on. After three times in a row it is given up.
    pub fn refused(&self, from: u64, reason: &str) {
        let mut inner = self.lock();
        inner.refused(from, reason);
        inner.count();
    }

    /// Whether the first batch held from this sequence on was refused before: then it is sent alone.
    #[must_use]
    pub fn suspects(&self, from: u64) -> bool {
        let inner = self.lock();
        inner.refusals.1 > 0 && inner.held(from).is_some_and(|(_, sequence)| sequence == inner.refusals.0)
    }

    /// Everything up to this sequence is durable elsewhere: it is deleted here.
    pub fn acknowledge(&self, sequence: u64) {
        let mut inner = self.lock();
        inner.acknowledge(sequence);
        inner.count();
    }

    /// Whether a batch waits, sent or not.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let inner = self.lock();
        inner.unsaved.is_empty() && inner.waiting() == 0
    }

    /// Batches that wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lock().waiting()
    }

    /// The highest acknowledged sequence known.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }
}

impl Inner {
    fn load(&mut self, path: &Path) -> std::io::Result<()> {
        let Self { known, next_reference, .. } = self;
        let mut batches = Vec::new();
        let Some((segment, header)) = Segment::open(path, |batch| batches.push(batch))? else {
            // Killed between making the file and writing its header: nothing was in it.
            tracing::warn!(path = %path.display(), "segment without a header is removed");
            return std::fs::remove_file(path);
        };
        for added in header.containers {
            known.entry(added.container_ref).or_insert(KnownContainer { added, removed_in: None });
        }
        *next_reference = (*next_reference).max(header.next_reference);
        for batch in &batches {
            self.note(batch);
        }
        self.next_sequence = segment.end().max(self.next_sequence);
        self.segments.push_back(segment);
        Ok(())
    }

    fn note(&mut self, batch: &Batch) {
        for added in &batch.added {
            self.next_reference = self.next_reference.max(added.container_ref.saturating_add(1));
            let known = KnownContainer { added: added.clone(), removed_in: None };
            self.known.insert(added.container_ref, known);
        }
        for removed in &batch.removed {
            if let Some(known) = self.known.get_mut(&removed.container_ref) {
                known.removed_in = Some((batch.sequence, *removed));
            }
        }
    }

    fn skip_after_reboot(&mut self) {
        let newest = self.segments.iter().rev().find_map(|segment| segment.entries.last());
        let now = crate::agent::unix_ms();
        let first_unix_ms = newest.map_or(now, |entry| entry.unix_ms.min(now));
        self.next_sequence += REBOOT_SKIP_SEQUENCES;
        self.next_reference = self.next_reference.saturating_add(REBOOT_SKIP_REFERENCES);
        let reason = "node restarted; batches not yet on disk may be missing".to_owned();
        let dropped = Some(Dropped { reason, first_unix_ms, last_unix_ms: now, ..Dropped::default() });
        self.gaps.insert(self.next_sequence, Gap { before: self.next_sequence, dropped });
    }

    fn save_state(&self) -> std::io::Result<()> {
        let state = State { boot_id: self.boot_id.clone(), gaps: self.gaps.values().cloned().collect() };
        let mut bytes = Vec::new();
        frame::write(&state, &mut bytes);
        durable::replace(&self.config.dir, "state", &bytes)
    }

    /// Writes what waits in memory, oldest first, until the disk refuses.
    fn save_waiting(&mut self) {
        while let Some(mut batch) = self.unsaved.pop_front() {
            batch.sequence = self.next_sequence;
            if let Some(lost) = &self.lost {
                batch.dropped = Some(lost.clone());
            }
            match self.save(&batch) {
                Ok(()) => {
                    self.lost = None;
                    if std::mem::take(&mut self.refused) {
                        tracing::info!("the spool takes batches again");
                    }
                }
                Err(error) => {
                    batch.dropped = None;
                    self.unsaved.push_front(batch);
                    if !std::mem::replace(&mut self.refused, true) {
                        tracing::error!(spool = %self.config.dir.display(), %error, "cannot write to the spool; sampling goes on, newest batches wait in memory");
                    }
                    break;
                }
            }
        }
        while self.unsaved.len() > MAX_UNSAVED {
            let Some(mut oldest) = self.unsaved.pop_front() else { break };
            self.count_dropped("spool write failed", 1, u64::from(container_rows(&oldest)));
            let at = oldest.block.as_ref().map_or(0, |block| block.unix_ms);
            merge(&mut self.lost, 1, u64::from(container_rows(&oldest)), (at, at), "spool write failed");
            // Only the rows are lost: what came and went is told by the batch that follows.
            if let Some(next) = self.unsaved.front_mut() {
                oldest.added.append(&mut next.added);
                oldest.removed.append(&mut next.removed);
                oldest.processes.append(&mut next.processes);
                (next.added, next.removed, next.processes) = (oldest.added, oldest.removed, oldest.processes);
            }
        }
    }

    fn save(&mut self, batch: &Batch) -> std::io::Result<()> {
        self.frame.clear();
        frame::write(batch, &mut self.frame);
        let length = self.frame.len() as u64;
        if self.frame.len() > frame::MAX_PAYLOAD {
            return Err(std::io::Error::other("batch larger than the limit of 16 MiB"));
        }
        let full =
            self.segments.back().is_none_or(|segment| segment.end() != self.next_sequence || segment.bytes + length > self.segment_bytes);
        if full {
            let containers = self.known.values().filter(|known| known.removed_in.is_none()).map(|known| known.added.clone()).collect();
            let header = Header { first_sequence: self.next_sequence, next_reference: self.next_reference, containers };
            let segment = Segment::create(&self.config.dir, &header)?;
            if let Some(closed) = self.segments.back() {
                closed.sync()?;
            }
            self.segments.push_back(segment);
            self.delete_acknowledged();
        }
        while self.bytes() + length > self.config.max_bytes && self.segments.len() > 1 {
            self.drop_oldest("spool full");
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.append(batch, &self.frame)?;
        }
        self.next_sequence += 1;
        self.note(batch);
        let rows = u64::from(container_rows(batch));
        self.metrics.observations.inc_by(rows);
        self.metrics
            .node_observations
            .inc_by(u64::from(batch.block.as_ref().is_some_and(|block| block.container_refs.first() == Some(&0))));
        Ok(())
    }

    fn drop_old(&mut self, now_unix_ms: i64) {
        let oldest = now_unix_ms - self.config.max_age_s as i64 * 1_000;
        while self.segments.len() > 1
            && self.segments.front().and_then(|segment| segment.entries.last()).is_some_and(|last| last.unix_ms < oldest)
        {
            self.drop_oldest("too old");
        }
    }

    fn drop_oldest(&mut self, reason: &'static str) {
        let Some(segment) = self.segments.pop_front() else { return };
        let lost = segment.entries.iter().enumerate().filter(|(place, _)| {
            let sequence = segment.first + *place as u64;
            sequence > self.acknowledged && !self.skipped.contains(&sequence)
        });
        let (mut batches, mut rows, mut times) = (0, 0, (i64::MAX, i64::MIN));
        for (_, entry) in lost {
            batches += 1;
            rows += u64::from(entry.rows);
            times = (times.0.min(entry.unix_ms), times.1.max(entry.unix_ms));
        }
        if batches > 0 {
            let before = self.segments.front().map_or(self.next_sequence, |next| next.first);
            let mut gap = Gap { before, ..Gap::default() };
            let earlier: Vec<u64> = self.gaps.range(..=before).map(|(&at, _)| at).collect();
            for at in earlier {
                let Some(earlier) = self.gaps.remove(&at) else { continue };
                if let Some(dropped) = earlier.dropped {
                    merge(
                        &mut gap.dropped,
                        dropped.batches,
                        dropped.observations,
                        (dropped.first_unix_ms, dropped.last_unix_ms),
                        &dropped.reason,
                    );
                }
            }
            merge(&mut gap.dropped, batches, rows, times, reason);
            // The aggregator ends what the next Hello does not name.
            self.known.retain(|_, known| known.removed_in.as_ref().is_none_or(|(removed_in, _)| *removed_in >= segment.end()));
            self.skipped.retain(|&sequence| sequence >= segment.end());
            self.drops += 1;
            self.gaps.insert(before, gap);
            self.count_dropped(reason, batches, rows);
            tracing::warn!(batches, observations = rows, reason, "oldest batches dropped from the spool");
            if let Err(error) = self.save_state() {
                tracing::warn!(%error, "cannot save the spool's state: after a kill now, the hole is stated without its size");
            }
        }
        if let Err(error) = segment.delete() {
            tracing::warn!(%error, "cannot delete a segment of the spool");
        }
    }

    fn count_dropped(&self, reason: &'static str, batches: u64, rows: u64) {
        self.metrics.dropped_batches.get_or_create(&Reason { reason }).inc_by(batches);
        self.metrics.dropped_observations.get_or_create(&Reason { reason }).inc_by(rows);
    }

    /// The first batch to send from a sequence on, and the segment that it is in.
    fn held(&self, from: u64) -> Option<(&Segment, u64)> {
        let mut from = from;
        loop {
            let segment = self.segments.iter().find(|segment| segment.end() > from && !segment.entries.is_empty())?;
            let sequence = from.max(segment.first);
            if !self.skipped.contains(&sequence) {
                return Some((segment, sequence));
            }
            from = sequence + 1;
        }
    }

    fn read(&mut self, from: u64) -> std::io::Result<Option<Batch>> {
        let (mut batch, sequence) = loop {
            let Some((segment, sequence)) = self.held(from) else { return Ok(None) };
            match segment.read(sequence) {
                Ok(batch) => break (batch, sequence),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) => {
                    tracing::error!(%error, "a damaged batch is left out");
                    self.give_up(sequence, "damaged");
                }
                Err(error) => return Err(error),
            }
        };
        for gap in self.gaps.range(from..=sequence).filter_map(|(_, gap)| gap.dropped.as_ref()) {
            merge(&mut batch.dropped, gap.batches, gap.observations, (gap.first_unix_ms, gap.last_unix_ms), &gap.reason);
        }
        if sequence > from {
            // A hole is never said to be smaller than it is: damaged, refused, or the other side forgot what it had acknowledged.
            let at = batch.block.as_ref().map_or(0, |block| block.unix_ms);
            let dropped = batch.dropped.get_or_insert_with(|| Dropped {
                first_unix_ms: at,
                last_unix_ms: at,
                reason: "not held any more".to_owned(),
                ..Dropped::default()
            });
            dropped.batches = dropped.batches.max(sequence - from);
        }
        Ok(Some(batch))
    }

    fn give_up(&mut self, sequence: u64, reason: &'static str) {
        let Some((segment, _)) = self.held(sequence).filter(|(_, held)| *held == sequence) else { return };
        let rows = segment.entries.get((sequence - segment.first) as usize).map_or(0, |entry| u64::from(entry.rows));
        self.skipped.insert(sequence);
        self.drops += 1;
        self.count_dropped(reason, 1, rows);
        if sequence == self.acknowledged + 1 {
            // Its removals are not told: what the next Hello does not name has ended. Batches before it may still need the names.
            self.known.retain(|_, known| known.removed_in.as_ref().is_none_or(|(removed_in, _)| *removed_in > sequence));
        }
    }

    fn refused(&mut self, from: u64, reason: &str) {
        let Some((_, sequence)) = self.held(from) else { return };
        let times = if self.refusals.0 == sequence { self.refusals.1 + 1 } else { 1 };
        self.refusals = (sequence, times);
        if times >= MAX_REFUSALS {
            self.refusals = (0, 0);
            tracing::error!(sequence, reason, "a batch is given up: the aggregator refuses it");
            self.give_up(sequence, "refused");
        }
    }

    fn acknowledge(&mut self, sequence: u64) {
        if sequence >= self.next_sequence {
            // The other side knows more of this spool than we do: never give those sequences again.
            self.next_sequence = sequence + 1;
        }
        if sequence <= self.acknowledged {
            return;
        }
        let mut rows = 0;
        for segment in &self.segments {
            let from = self.acknowledged.saturating_add(1).max(segment.first) - segment.first;
            let to = sequence.saturating_add(1).clamp(segment.first, segment.end()) - segment.first;
            rows +=
                segment.entries.get(from as usize..to as usize).unwrap_or_default().iter().map(|entry| u64::from(entry.rows)).sum::<u64>();
        }
        self.metrics.acknowledged_observations.inc_by(rows);
        self.acknowledged = sequence;
        self.skipped.retain(|&skipped| skipped > sequence);
        self.known.retain(|_, known| known.removed_in.as_ref().is_none_or(|(removed_in, _)| *removed_in > sequence));
        let gaps = self.gaps.len();
        self.gaps.retain(|&before, _| before > sequence);
        if self.gaps.len() != gaps
            && let Err(error) = self.save_state()
        {
            tracing::warn!(%error, "cannot save the spool's state");
        }
        self.delete_acknowledged();
    }

    /// Deletes whole segments that are acknowledged; the newest stays, since it carries the sequence on.
    fn delete_acknowledged(&mut self) {
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.end() <= self.acknowledged + 1) {
            if let Some(segment) = self.segments.pop_front()
                && let Err(error) = segment.delete()
            {
                tracing::warn!(%error, "cannot delete a segment of the spool");
            }
        }
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn waiting(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.end().saturating_sub(segment.first.max(self.acknowledged + 1)))
            .sum::<u64>()
            .saturating_sub(self.skipped.len() as u64)
            + self.unsaved.len() as u64
    }

    fn count(&self) {
        self.metrics.outbox_batches.set(self.waiting() as i64);
        self.metrics.outbox_bytes.set(self.bytes() as i64);
    }
}

fn merge(into: &mut Option<Dropped>, batches: u64, observations: u64, (first, last): (i64, i64), reason: &str) {
    let dropped =
        into.get_or_insert_with(|| Dropped { first_unix_ms: first, last_unix_ms: last, reason: reason.to_owned(), ..Dropped::default() });
    dropped.batches += batches;
    dropped.observations += observations;
    dropped.first_unix_ms = dropped.first_unix_ms.min(first);
    dropped.last_unix_ms = dropped.last_unix_ms.max(last);
}

fn check_version(directory: &Path, has_segments: bool) -> Result<(), OutboxError> {
    let path = directory.join("version");
    match std::fs::read_to_string(&path) {
        Ok(found) if found == frame::VERSION => Ok(()),
        // Begun and cut off by a power cut: nothing was in the spool.
        Ok(found) if found.is_empty() && !has_segments => write_version(directory),
        Ok(found) => Err(OutboxError::Version { path: directory.to_owned(), found: found.trim_end().chars().take(60).collect() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !has_segments => write_version(directory),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(OutboxError::Version { path: directory.to_owned(), found: "segments without a version".to_owned() })
        }
        Err(source) => Err(OutboxError::Io { path, source }),
    }
}

fn write_version(directory: &Path) -> Result<(), OutboxError> {
    durable::replace(directory, "version", frame::VERSION.as_bytes())
        .map_err(|source| OutboxError::Io { path: directory.join("version"), source })
}

fn spool_id(directory: &Path, has_segments: bool) -> Result<[u8; 16], OutboxError> {
    let path = directory.join("spool-id");
    let io = |source| OutboxError::Io { path: path.clone(), source };
    let new = || {
        let id = uuid::Uuid::new_v4();
        durable::replace(directory, "spool-id", format!("{id}\n").as_bytes()).map_err(io)?;
        Ok(id.into_bytes())
    };
    match std::fs::read_to_string(&path) {
        // Without a batch the identity names nothing yet.
        Ok(text) if text.trim().is_empty() && !has_segments => new(),
        Ok(text) => uuid::Uuid::parse_str(text.trim())
            .map(uuid::Uuid::into_bytes)
            .map_err(|error| io(std::io::Error::new(std::io::ErrorKind::InvalidData, error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => new(),
        Err(error) => Err(io(error)),
    }
}
