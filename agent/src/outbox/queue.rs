//! Everything that waits: batches by sequence, what is known of those that are missing, and what is counted.

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
};

use vedette_proto::v1::{Batch, Dropped};

use super::{
    OutboxError,
    containers::Containers,
    directory::Directory,
    frame::{self, Header, State},
    gaps::Gaps,
    segment::{Segment, container_rows},
    segments::Segments,
};
use crate::{
    config::OutboxConfig,
    metrics::{Metrics, Reason},
};

/// Batches that wait in memory while the disk refuses them.
pub const MAX_UNSAVED: usize = 30;
/// A batch that the aggregator refuses so often is given up: it would keep back all that follow.
const MAX_REFUSALS: u32 = 3;
/// Skipped after a reboot: what the kernel had not written yet may have been sent, and its sequences must not name something else.
pub const REBOOT_SKIP_SEQUENCES: u64 = 4_096;
pub const REBOOT_SKIP_REFERENCES: u32 = 65_536;

/// What the outbox holds.
#[derive(Debug)]
pub struct Queue {
    directory: Directory,
    config: OutboxConfig,
    metrics: Metrics,
    segments: Segments,
    next_sequence: u64,
    acknowledged: u64,
    pub containers: Containers,
    gaps: Gaps,
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

impl Queue {
    /// Opens a spool, or makes one.
    ///
    /// # Errors
    /// [`OutboxError`] names the directory or the file.
    pub fn open(config: OutboxConfig, boot_id: &str, metrics: Metrics) -> Result<Self, OutboxError> {
        let (directory, contents) = Directory::open(&config.dir)?;
        let rebooted = match &contents.state {
            Some(state) => !state.boot_id.is_empty() && state.boot_id != boot_id,
            // A spool that has segments had a state: what became of it, became of the newest batches as well.
            None => !contents.segments.is_empty(),
        };
        if rebooted && contents.state.is_none() {
            tracing::warn!(spool = %directory.path().display(), "the spool's state is damaged: taken for a restart of the node");
        }
        let state = contents.state.unwrap_or_default();
        let mut queue = Self {
            segments: Segments::new(config.dir.clone(), config.max_bytes),
            directory,
            config,
            metrics,
            next_sequence: 1,
            acknowledged: 0,
            containers: Containers::default(),
            gaps: Gaps::restore(state.gaps),
            skipped: BTreeSet::new(),
            refusals: (0, 0),
            drops: 0,
            boot_id: boot_id.to_owned(),
            unsaved: VecDeque::new(),
            lost: None,
            refused: false,
            frame: Vec::new(),
        };
        for path in contents.segments {
            queue.load(&path).map_err(|source| OutboxError::Io { path, source })?;
        }
        if rebooted {
            queue.skip_after_reboot();
        }
        queue.save_state().map_err(|source| OutboxError::Io { path: queue.directory.path().join("state"), source })?;
        queue.count();
        Ok(queue)
    }

    fn load(&mut self, path: &Path) -> std::io::Result<()> {
        let mut batches = Vec::new();
        let Some((segment, header)) = Segment::open(path, |batch| batches.push(batch))? else {
            // Killed between making the file and writing its header: nothing was in it.
            tracing::warn!(path = %path.display(), "segment without a header is removed");
            return std::fs::remove_file(path);
        };
        self.containers.adopt(header);
        batches.iter().for_each(|batch| self.containers.note(batch));
        self.next_sequence = segment.end().max(self.next_sequence);
        self.segments.adopt(segment);
        Ok(())
    }

    fn skip_after_reboot(&mut self) {
        let now = crate::agent::unix_ms();
        let first_unix_ms = self.segments.newest().map_or(now, |entry| entry.unix_ms.min(now));
        self.next_sequence += REBOOT_SKIP_SEQUENCES;
        self.containers.skip_references(REBOOT_SKIP_REFERENCES);
        let reason = "node restarted; batches not yet on disk may be missing".to_owned();
        self.gaps.add(self.next_sequence, &Dropped { reason, first_unix_ms, last_unix_ms: now, ..Dropped::default() });
    }

    fn save_state(&self) -> std::io::Result<()> {
        self.directory.save_state(&State { boot_id: self.boot_id.clone(), gaps: self.gaps.saved() })
    }

    pub fn spool_id(&self) -> [u8; 16] {
        self.directory.spool_id()
    }

    /// Takes a batch, gives it its sequence, and writes it. A batch that cannot be written waits in memory.
    pub fn append(&mut self, batch: Batch, now_unix_ms: i64) {
        self.drop_old(now_unix_ms);
        self.unsaved.push_back(batch);
        self.save_waiting();
        self.count();
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
            let observations = u64::from(container_rows(&oldest));
            self.count_dropped("spool write failed", 1, observations);
            let at = oldest.block.as_ref().map_or(0, |block| block.unix_ms);
            let reason = "spool write failed".to_owned();
            super::gaps::merge(&mut self.lost, &Dropped { batches: 1, observations, first_unix_ms: at, last_unix_ms: at, reason });
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
        if self.frame.len() > frame::MAX_PAYLOAD {
            return Err(std::io::Error::other("batch larger than the limit of 16 MiB"));
        }
        let length = self.frame.len() as u64;
        let header = || Header {
            first_sequence: batch.sequence,
            next_reference: self.containers.next_reference(),
            containers: self.containers.alive(),
        };
        if self.segments.make_place(batch.sequence, length, header)? {
            self.segments.delete_up_to(self.acknowledged);
        }
        while self.segments.is_over_limit_with(length) {
            self.drop_oldest("spool full");
        }
        self.segments.append(batch, &self.frame)?;
        self.next_sequence += 1;
        self.containers.note(batch);
        self.metrics.observations.inc_by(u64::from(container_rows(batch)));
        let of_node = batch.block.as_ref().is_some_and(|block| block.container_refs.first() == Some(&0));
        self.metrics.node_observations.inc_by(u64::from(of_node));
        Ok(())
    }

    fn drop_old(&mut self, now_unix_ms: i64) {
        let oldest = now_unix_ms - self.config.max_age_s as i64 * 1_000;
        while self.segments.oldest().and_then(|segment| segment.entries.last()).is_some_and(|last| last.unix_ms < oldest) {
            self.drop_oldest("too old");
        }
    }

    fn drop_oldest(&mut self, reason: &'static str) {
        let Some(segment) = self.segments.take_oldest() else { return };
        let mut dropped = Dropped { first_unix_ms: i64::MAX, last_unix_ms: i64::MIN, reason: reason.to_owned(), ..Dropped::default() };
        for (sequence, entry) in (segment.first..).zip(&segment.entries) {
            if sequence > self.acknowledged && !self.skipped.contains(&sequence) {
                dropped.batches += 1;
                dropped.observations += u64::from(entry.rows);
                dropped.first_unix_ms = dropped.first_unix_ms.min(entry.unix_ms);
                dropped.last_unix_ms = dropped.last_unix_ms.max(entry.unix_ms);
            }
        }
        if dropped.batches > 0 {
            let (batches, observations) = (dropped.batches, dropped.observations);
            self.gaps.add_to_all_before(self.segments.first().unwrap_or(self.next_sequence), &dropped);
            self.containers.forget_removed(segment.end() - 1);
            self.skipped.retain(|&sequence| sequence >= segment.end());
            self.drops += 1;
            self.count_dropped(reason, batches, observations);
            tracing::warn!(batches, observations, reason, "oldest batches dropped from the spool");
            if let Err(error) = self.save_state() {
                tracing::warn!(%error, "cannot save the spool's state: after a kill now, the hole is stated without its size");
            }
        }
        segment.delete();
    }

    fn count_dropped(&self, reason: &'static str, batches: u64, observations: u64) {
        self.metrics.dropped_batches.get_or_create(&Reason { reason }).inc_by(batches);
        self.metrics.dropped_observations.get_or_create(&Reason { reason }).inc_by(observations);
    }

    /// The first batch to send from a sequence on, and the segment that it is in.
    fn held(&self, mut from: u64) -> Option<(&Segment, u64)> {
        loop {
            let (segment, sequence) = self.segments.find(from)?;
            if !self.skipped.contains(&sequence) {
                return Some((segment, sequence));
            }
            from = sequence + 1;
        }
    }

    /// The first batch held from this sequence on, with the hole before it stated. Damaged and refused ones are left out.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&mut self, from: u64) -> std::io::Result<Option<Batch>> {
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
        if let Some(gap) = self.gaps.between(from, sequence) {
            super::gaps::merge(&mut batch.dropped, &gap);
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
        let Some((_, entry)) = self.segments.entries(sequence, sequence).next() else { return };
        let observations = u64::from(entry.rows);
        self.skipped.insert(sequence);
        self.drops += 1;
        self.count_dropped(reason, 1, observations);
        if sequence == self.acknowledged + 1 {
            // Its removals are not told: what the next Hello does not name has ended. Batches before it may still need the names.
            self.containers.forget_removed(sequence);
        }
    }

    /// The other side refused the first batch held from this sequence on. After three times in a row it is given up.
    pub fn refused(&mut self, from: u64, reason: &str) {
        let Some((_, sequence)) = self.held(from) else { return };
        let times = if self.refusals.0 == sequence { self.refusals.1 + 1 } else { 1 };
        self.refusals = (sequence, times);
        if times >= MAX_REFUSALS {
            self.refusals = (0, 0);
            tracing::error!(sequence, reason, "a batch is given up: the aggregator refuses it");
            self.give_up(sequence, "refused");
        }
        self.count();
    }

    /// Whether the first batch held from this sequence on was refused before.
    pub fn suspects(&self, from: u64) -> bool {
        self.refusals.1 > 0 && self.held(from).is_some_and(|(_, sequence)| sequence == self.refusals.0)
    }

    /// Everything up to this sequence is durable elsewhere: it is deleted here.
    pub fn acknowledge(&mut self, sequence: u64) {
        if sequence >= self.next_sequence {
            // The other side knows more of this spool than we do: never give those sequences again.
            self.next_sequence = sequence + 1;
        }
        if sequence <= self.acknowledged {
            return;
        }
        let rows = self.segments.entries(self.acknowledged + 1, sequence).map(|(_, entry)| u64::from(entry.rows)).sum();
        self.metrics.acknowledged_observations.inc_by(rows);
        self.acknowledged = sequence;
        self.skipped.retain(|&skipped| skipped > sequence);
        self.containers.forget_removed(sequence);
        if self.gaps.forget(sequence)
            && let Err(error) = self.save_state()
        {
            tracing::warn!(%error, "cannot save the spool's state");
        }
        self.segments.delete_up_to(sequence);
        self.count();
    }

    /// The highest acknowledged sequence known.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Changes whenever batches that were not acknowledged are dropped.
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Batches that wait, sent or not.
    pub fn waiting(&self) -> u64 {
        let on_disk = self.segments.count_from(self.acknowledged + 1).saturating_sub(self.skipped.len() as u64);
        on_disk + self.unsaved.len() as u64
    }

    fn count(&self) {
        self.metrics.outbox_batches.set(self.waiting() as i64);
        self.metrics.outbox_bytes.set(self.segments.bytes() as i64);
    }
}
