//! Everything that waits: batches by sequence, what is known of those that are missing, and what is counted.

use std::{collections::BTreeSet, io::ErrorKind, path::Path};

use vedette_proto::v1::{Batch, ContainerRemoved, Dropped};

use super::{
    OutboxError,
    containers::Containers,
    directory::Directory,
    frame::{self, Header, State},
    gaps::Gaps,
    segment::{Entry, Segment, container_rows},
    segments::Segments,
    unsaved::Unsaved,
};
use crate::{
    config::OutboxConfig,
    metrics::{Metrics, Reason},
};

/// A batch that the aggregator refuses so often is given up: it would keep back all that follow.
const MAX_REFUSALS: u32 = 3;
/// Skipped after a reboot: what the kernel had not written yet may have been sent, and its sequences must not name something else.
pub const REBOOT_SKIP_SEQUENCES: u64 = 4_096;
pub const REBOOT_SKIP_REFERENCES: u32 = 65_536;
/// Skipped after a run that could not write and did not say how far it came: twelve days of it, once a second.
pub const UNSAVED_SKIP: u32 = 1 << 20;

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
    unsaved: Unsaved,
    /// The disk refuses writes. The file `state` is gone then: whoever opens the spool next sees that not all was on disk.
    unwritable: bool,
    /// The first sequence of this run, until the other side has said what it holds: nobody can have acknowledged that yet.
    opened_at: Option<u64>,
    /// The batch written last, so that the uplink need not read it from the disk.
    newest: Option<Batch>,
    frame: Vec<u8>,
}

/// Where a batch is.
enum Place<'a> {
    Disk(&'a Segment),
    Memory(&'a Batch),
}

impl Queue {
    /// Opens a spool, or makes one.
    ///
    /// # Errors
    /// [`OutboxError`] names the directory or the file.
    pub fn open(config: OutboxConfig, boot_id: &str, metrics: Metrics) -> Result<Self, OutboxError> {
        let (directory, contents) = Directory::open(&config.dir)?;
        let rebooted = contents.state.as_ref().is_some_and(|state| !state.boot_id.is_empty() && state.boot_id != boot_id);
        // It had a state: what became of that, became of the newest batches as well.
        let untold = contents.state.is_none() && !contents.is_new;
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
            unsaved: Unsaved::default(),
            unwritable: false,
            opened_at: None,
            newest: None,
            frame: Vec::new(),
        };
        for path in contents.segments {
            queue.load(&path).map_err(|source| OutboxError::Io { path, source })?;
        }
        queue.skipped = state.skipped.into_iter().filter(|&sequence| queue.entry(sequence).is_some()).collect();
        if untold {
            tracing::warn!(spool = %queue.directory.path().display(), "the spool's state is missing or damaged: its sequences skip ahead");
            queue.skip_ahead(UNSAVED_SKIP.into(), UNSAVED_SKIP, "the agent ended without having saved all batches; some may be missing");
        } else if rebooted {
            queue.skip_ahead(REBOOT_SKIP_SEQUENCES, REBOOT_SKIP_REFERENCES, "node restarted; batches not yet on disk may be missing");
        }
        queue.opened_at = Some(queue.next_sequence);
        match queue.save_state() {
            Ok(()) => {}
            // The spool is ours and was writable once: a full disk is no reason not to observe.
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => queue.cannot_write(&error),
            Err(source) => return Err(OutboxError::Io { path: queue.directory.path().join("state"), source }),
        }
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

    fn skip_ahead(&mut self, sequences: u64, references: u32, reason: &str) {
        let now = crate::agent::unix_ms();
        let first_unix_ms = self.segments.newest().map_or(now, |entry| entry.unix_ms.min(now));
        self.next_sequence += sequences;
        self.containers.skip_references(references);
        let dropped = Dropped { reason: reason.to_owned(), first_unix_ms, last_unix_ms: now, ..Dropped::default() };
        self.gaps.add(self.next_sequence, &dropped);
    }

    fn save_state(&self) -> std::io::Result<()> {
        let skipped = self.skipped.iter().copied().collect();
        self.directory.save_state(&State { boot_id: self.boot_id.clone(), gaps: self.gaps.saved(), skipped })
    }

    /// Saves what the segments do not say. Not while the disk refuses: the state would claim that all is on disk.
    fn remember(&self) {
        if !self.unwritable
            && let Err(error) = self.save_state()
        {
            tracing::warn!(%error, "cannot save the spool's state: after a kill now, holes are stated without their size");
        }
    }

    fn cannot_write(&mut self, error: &std::io::Error) {
        if std::mem::replace(&mut self.unwritable, true) {
            return;
        }
        self.directory.forget_state();
        tracing::error!(
            spool = %self.directory.path().display(), %error,
            "cannot write to the spool; sampling and sending go on, the newest batches are in memory only"
        );
    }

    fn can_write(&mut self) {
        if self.unwritable && self.save_state().is_ok() {
            self.unwritable = false;
            tracing::info!("the spool takes batches again");
        }
    }

    pub fn spool_id(&self) -> [u8; 16] {
        self.directory.spool_id()
    }

    /// Takes a batch, gives it its sequence, and writes it. A batch that cannot be written stays in memory, and is sent from there.
    pub fn append(&mut self, mut batch: Batch, now_unix_ms: i64) {
        self.drop_old(now_unix_ms);
        batch.sequence = self.next_sequence;
        self.next_sequence += 1;
        self.containers.note(&batch);
        self.metrics.observations.inc_by(u64::from(container_rows(&batch)));
        let of_node = batch.block.as_ref().is_some_and(|block| block.container_refs.first() == Some(&0));
        self.metrics.node_observations.inc_by(u64::from(of_node));
        self.unsaved.push(batch);
        self.save_unsaved();
        while self.unsaved.is_over_limit() {
            self.drop_unsaved();
        }
        self.count();
    }

    /// Writes what is in memory, oldest first, until the disk refuses.
    fn save_unsaved(&mut self) {
        while let Some(batch) = self.unsaved.take_oldest() {
            if let Err(error) = self.save(&batch) {
                self.unsaved.put_back(batch);
                return self.cannot_write(&error);
            }
            self.newest = Some(batch);
        }
        self.can_write();
    }

    fn drop_unsaved(&mut self) {
        let Some(oldest) = self.unsaved.take_oldest() else { return };
        if self.skipped.remove(&oldest.sequence) {
            return;
        }
        let reason = "spool write failed";
        let dropped = hole(&[Entry::of(0, &oldest)], reason);
        self.count_dropped(reason, dropped.batches, dropped.observations);
        self.gaps.add_over(oldest.sequence, self.unsaved.first().unwrap_or(self.next_sequence), &dropped);
        self.drops += 1;
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
            containers: self.containers.referred_from(batch.sequence),
        };
        if self.segments.make_place(batch.sequence, length, header)? {
            self.segments.delete_up_to(self.acknowledged);
        }
        while self.segments.is_over_limit_with(length) {
            self.drop_oldest("spool full");
        }
        self.segments.append(batch, &self.frame)
    }

    fn drop_old(&mut self, now_unix_ms: i64) {
        let oldest = now_unix_ms - self.config.max_age_s as i64 * 1_000;
        while self.segments.oldest().and_then(|segment| segment.entries.last()).is_some_and(|last| last.unix_ms < oldest) {
            self.drop_oldest("too old");
        }
    }

    fn drop_oldest(&mut self, reason: &'static str) {
        let Some(segment) = self.segments.take_oldest() else { return };
        let lost = (segment.first..).zip(&segment.entries);
        let lost: Vec<Entry> = lost
            .filter(|(sequence, _)| *sequence > self.acknowledged && !self.skipped.contains(sequence))
            .map(|(_, entry)| *entry)
            .collect();
        if !lost.is_empty() {
            let dropped = hole(&lost, reason);
            let (batches, observations) = (dropped.batches, dropped.observations);
            let next = self.segments.first().or(self.unsaved.first()).unwrap_or(self.next_sequence);
            self.gaps.add_over(0, next, &dropped);
            // The aggregator ends what the next Hello does not name.
            self.containers.forget_removed(segment.end() - 1);
            self.skipped.retain(|&sequence| sequence >= segment.end());
            self.drops += 1;
            self.count_dropped(reason, batches, observations);
            tracing::warn!(batches, observations, reason, "oldest batches dropped from the spool");
            self.remember();
        }
        segment.delete();
    }

    fn count_dropped(&self, reason: &'static str, batches: u64, observations: u64) {
        self.metrics.dropped_batches.get_or_create(&Reason { reason }).inc_by(batches);
        self.metrics.dropped_observations.get_or_create(&Reason { reason }).inc_by(observations);
    }

    /// The first batch to send from a sequence on: where it is, and its own sequence.
    fn held(&self, mut from: u64) -> Option<(Place<'_>, u64)> {
        loop {
            let (place, sequence) = match self.segments.find(from) {
                Some((segment, sequence)) => (Place::Disk(segment), sequence),
                None => self.unsaved.find(from).map(|batch| (Place::Memory(batch), batch.sequence))?,
            };
            if !self.skipped.contains(&sequence) {
                return Some((place, sequence));
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
            let Some((place, sequence)) = self.held(from) else { return Ok(None) };
            let read = match (place, &self.newest) {
                (Place::Memory(batch), _) => Ok(batch.clone()),
                (Place::Disk(_), Some(newest)) if newest.sequence == sequence => Ok(newest.clone()),
                (Place::Disk(segment), _) => segment.read(sequence),
            };
            match read {
                Ok(batch) => break (batch, sequence),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                    tracing::error!(%error, "a damaged batch is left out");
                    self.give_up(sequence, "damaged");
                }
                Err(error) => return Err(error),
            }
        };
        batch.dropped = self.gaps.between(from, sequence);
        // Their rows are lost, but not that they ended.
        batch.removed.extend(self.containers.removed_between(from, sequence));
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

    fn entry(&self, sequence: u64) -> Option<Entry> {
        let in_memory = || self.unsaved.find(sequence).filter(|batch| batch.sequence == sequence).map(|batch| Entry::of(0, batch));
        self.segments.entries(sequence, sequence).next().map(|(_, entry)| *entry).or_else(in_memory)
    }

    fn give_up(&mut self, sequence: u64, reason: &'static str) {
        let Some(entry) = self.entry(sequence) else { return };
        let dropped = hole(&[entry], reason);
        self.skipped.insert(sequence);
        self.drops += 1;
        self.count_dropped(reason, dropped.batches, dropped.observations);
        self.gaps.add(sequence + 1, &dropped);
        self.remember();
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
        let on_disk = self.segments.entries(self.acknowledged + 1, sequence);
        let given = on_disk.filter(|(sequence, _)| !self.skipped.contains(sequence));
        let mut rows: u64 = given.map(|(_, entry)| u64::from(entry.rows)).sum();
        while self.unsaved.first().is_some_and(|first| first <= sequence)
            && let Some(batch) = self.unsaved.take_oldest()
        {
            rows += if self.skipped.contains(&batch.sequence) { 0 } else { u64::from(container_rows(&batch)) };
        }
        self.metrics.acknowledged_observations.inc_by(rows);
        self.acknowledged = sequence;
        self.containers.forget_removed(sequence);
        let skipped = self.skipped.len();
        self.skipped.retain(|&skipped| skipped > sequence);
        if self.gaps.forget(sequence) || self.skipped.len() != skipped {
            self.remember();
        }
        self.segments.delete_up_to(sequence);
        self.count();
    }

    /// The other side says up to where it has everything. Gives the containers that it has already seen removed, and was named again.
    pub fn welcomed(&mut self, sequence: u64) -> Vec<ContainerRemoved> {
        let again = self.containers.removed_up_to(sequence);
        if let Some(opened_at) = self.opened_at.take() {
            self.drop_taken(opened_at, sequence);
        }
        self.acknowledge(sequence);
        again
    }

    /// Sequences of this run that the other side has before it was sent any: a run before gave them and left no trace of it.
    fn drop_taken(&mut self, opened_at: u64, sequence: u64) {
        let taken: Vec<Entry> = (opened_at..=sequence.min(self.next_sequence - 1)).filter_map(|sequence| self.entry(sequence)).collect();
        if !taken.is_empty() {
            let reason = "sequence given twice";
            let dropped = hole(&taken, reason);
            tracing::error!(
                batches = dropped.batches,
                "the aggregator holds other batches under sequences of this run: these are given up"
            );
            self.count_dropped(reason, dropped.batches, dropped.observations);
            self.gaps.add(sequence + 1, &dropped);
        }
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
        self.metrics.spool_writable.set(i64::from(!self.unwritable));
    }
}

/// A hole where these batches were.
fn hole(lost: &[Entry], reason: &str) -> Dropped {
    Dropped {
        batches: lost.len() as u64,
        observations: lost.iter().map(|entry| u64::from(entry.rows)).sum(),
        first_unix_ms: lost.iter().map(|entry| entry.unix_ms).min().unwrap_or(0),
        last_unix_ms: lost.iter().map(|entry| entry.unix_ms).max().unwrap_or(0),
        reason: reason.to_owned(),
    }
}
