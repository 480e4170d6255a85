//! The one thread that writes the log: batches that arrive together share one write and one fdatasync.
//!
//! When a write fails nothing of its group is acknowledged and the file is cut back to its durable end; later appends try
//! again, so that a disk that was full needs no restart. Later batches of a spool whose batch failed are refused until that
//! batch has come again: acknowledging them would acknowledge a hole.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    frame,
    record::{Draft, SubjectRecord},
    segment::{Index, Segment},
};
use crate::{
    HistoryError, Subject,
    state::{Counters, State},
};

/// Batches that may wait for the writer; beyond it `append` waits.
pub(crate) const QUEUE: usize = 1_024;
/// Bytes of one group, so that its buffer stays small.
const GROUP_BYTES: usize = 8 << 20;
/// A segment is closed at this size even if its rows are few.
const SEGMENT_BYTES: u64 = 256 << 20;
/// Unsealed segments; beyond it appends fail, because replaying them would take minutes and the disk would fill.
pub(crate) const SEGMENTS: usize = 64;

pub(crate) type Reply = oneshot::Sender<Result<(), HistoryError>>;

pub(crate) enum Command {
    Append(Box<Draft>, Reply),
    /// Close the current segment, if it holds anything.
    Rotate(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    pub dir: PathBuf,
    pub state: Arc<State>,
    pub commit_interval: Duration,
    pub seal_rows: u64,
    pub next_id: u64,
    /// Told when a segment is full.
    pub full: Arc<Notify>,
    active: Option<Active>,
    failed: HashMap<(String, [u8; 16]), u64>,
    buffer: Vec<u8>,
}

struct Active {
    segment: Arc<Segment>,
    /// The segment's index keeps the subjects alive, so an address names one for as long as the segment is written.
    by_address: HashMap<usize, u32>,
    by_value: HashMap<Arc<Subject>, u32>,
    count: u32,
}

struct Planned {
    draft: Draft,
    new_subjects: Vec<Arc<Subject>>,
    offset: u64,
    length: u32,
    replies: Vec<Reply>,
}

impl Writer {
    pub(crate) fn new(dir: PathBuf, state: Arc<State>, commit_interval: Duration, seal_rows: u64, next_id: u64, full: Arc<Notify>) -> Self {
        let (active, failed, buffer) = (None, HashMap::new(), Vec::new());
        Self { dir, state, commit_interval, seal_rows, next_id, full, active, failed, buffer }
    }

    /// Runs until told to stop or every sender is gone.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut last_commit: Option<Instant> = None;
        let mut next = None;
        loop {
            let Some(command) = next.take().or_else(|| commands.blocking_recv()) else { return };
            match command {
                Command::Append(draft, reply) => {
                    if let Some(last) = last_commit {
                        // Whoever arrives in the meantime shares the fsync.
                        std::thread::sleep(self.commit_interval.saturating_sub(last.elapsed()));
                    }
                    let mut bytes = draft.record.block.len();
                    let mut group = vec![(*draft, reply)];
                    while bytes < GROUP_BYTES {
                        match commands.try_recv() {
                            Ok(Command::Append(draft, reply)) => {
                                bytes += draft.record.block.len();
                                group.push((*draft, reply));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                    last_commit = Some(Instant::now());
                }
                Command::Rotate(done) => {
                    if self.active.as_ref().is_some_and(|active| !active.segment.index().progress.is_empty()) {
                        self.close_segment();
                    }
                    let _ = done.send(());
                }
                Command::Stop(done) => {
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn commit(&mut self, group: Vec<(Draft, Reply)>) {
        self.buffer.clear();
        let subjects_before = self.active.as_ref().map_or(0, |active| active.count);
        let mut planned: Vec<Planned> = Vec::with_capacity(group.len());
        let mut newest: HashMap<(String, [u8; 16]), usize> = HashMap::new();
        for (draft, reply) in group {
            let spool = (draft.record.node.clone(), draft.record.spool());
            let sequence = draft.record.sequence;
            if sequence <= self.state.progress().get(&spool.0, &spool.1) {
                Counters::add(&self.state.counters.duplicates, 1);
                let _ = reply.send(Ok(()));
                continue;
            }
            if let Some(&place) = newest.get(&spool)
                && sequence <= planned[place].draft.record.sequence
            {
                Counters::add(&self.state.counters.duplicates, 1);
                planned[place].replies.push(reply);
                continue;
            }
            if let Err(error) = self.after_failed(&spool, &draft) {
                let _ = reply.send(Err(error));
                continue;
            }
            if let Err(error) = self.open_segment() {
                self.fail(&spool, sequence);
                self.state.set_problem("log", Some(error.to_string()));
                let _ = reply.send(Err(error));
                continue;
            }
            newest.insert(spool, planned.len());
            planned.push(self.plan(draft, reply));
        }
        if planned.is_empty() {
            return;
        }
        match self.write() {
            Ok(()) => self.publish(planned),
            Err(error) => {
                self.roll_back(subjects_before);
                self.state.set_problem("log", Some(error.to_string()));
                for plan in planned {
                    let record = &plan.draft.record;
                    self.fail(&(record.node.clone(), record.spool()), record.sequence);
                    for reply in plan.replies {
                        let _ = reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Refuses what would leave a hole behind a batch that failed.
    fn after_failed(&mut self, spool: &(String, [u8; 16]), draft: &Draft) -> Result<(), HistoryError> {
        let Some(&failed) = self.failed.get(spool) else { return Ok(()) };
        let record = &draft.record;
        let dropped = record.gap.as_ref().map_or(0, |gap| gap.batches);
        if record.sequence.saturating_sub(dropped) > failed {
            return Err(HistoryError::AfterFailed { node: record.node.clone(), sequence: record.sequence, failed });
        }
        self.failed.remove(spool);
        Ok(())
    }

    fn fail(&mut self, spool: &(String, [u8; 16]), sequence: u64) {
        Counters::add(&self.state.counters.failed, 1);
        // Bounded as progress is: a spool that never comes back is forgotten with the rest.
        if self.failed.len() >= crate::state::NODES {
            self.failed.clear();
        }
        let first = self.failed.entry(spool.clone()).or_insert(sequence);
        *first = sequence.min(*first);
    }

    fn plan(&mut self, mut draft: Draft, reply: Reply) -> Planned {
        let mut new_subjects = Vec::new();
        let Some(active) = &mut self.active else { unreachable!("a segment was opened") };
        for subject in &draft.subjects {
            let address = Arc::as_ptr(subject) as usize;
            let id = match active.by_address.get(&address) {
                Some(&id) => id,
                None => active.learn(subject, &mut new_subjects),
            };
            draft.record.subject_ids.push(id);
        }
        draft.record.subjects = new_subjects.iter().map(|subject| SubjectRecord::from(subject.as_ref())).collect();
        draft.subjects = Vec::new();
        let start = self.buffer.len();
        let end = active.segment.index().end;
        let record = &draft.record;
        frame::write(&mut self.buffer, |buffer| {
            buffer.reserve(record.encoded_len());
            record.encode_raw(buffer);
        });
        let offset = end + (start + frame::HEADER) as u64;
        let length = (self.buffer.len() - start - frame::HEADER) as u32;
        Planned { draft, new_subjects, offset, length, replies: vec![reply] }
    }

    fn write(&mut self) -> Result<(), HistoryError> {
        let Some(active) = &self.active else { return Ok(()) };
        let segment = &active.segment;
        let end = segment.index().end;
        let fail = |action| move |error: std::io::Error| HistoryError::file(action, &segment.path, &error);
        segment.file.write_all_at(&self.buffer, end).map_err(fail("write"))?;
        segment.file.sync_data().map_err(fail("sync"))?;
        Counters::add(&self.state.counters.syncs, 1);
        Ok(())
    }

    fn publish(&mut self, planned: Vec<Planned>) {
        let Some(active) = &self.active else { return };
        let mut rows = 0;
        {
            let mut index = active.segment.index();
            for plan in &planned {
                rows += plan.draft.record.subject_ids.len() as u64;
                index.add(&plan.draft.record, plan.new_subjects.clone(), plan.offset, plan.length);
            }
        }
        {
            let mut progress = self.state.progress_mut();
            for plan in &planned {
                progress.set(&plan.draft.record.node, plan.draft.record.spool(), plan.draft.record.sequence);
            }
        }
        Counters::add(&self.state.counters.rows, rows);
        self.state.set_problem("log", None);
        for plan in planned {
            for reply in plan.replies {
                let _ = reply.send(Ok(()));
            }
        }
        let (rows, end) = {
            let index = active.segment.index();
            (index.rows, index.end)
        };
        if rows >= self.seal_rows || end >= SEGMENT_BYTES {
            self.close_segment();
            self.full.notify_one();
        }
    }

    /// Cuts what the failed group may have left. A failed fsync says nothing about which pages arrived, so nothing is
    /// written behind them: the next batch begins a new segment.
    fn roll_back(&mut self, subjects_before: u32) {
        let Some(active) = &mut self.active else { return };
        let end = active.segment.index().end;
        if let Err(error) = active.segment.file.set_len(end) {
            tracing::warn!(path = %active.segment.path.display(), %error, "cannot cut a failed write");
        }
        active.by_address.retain(|_, id| *id < subjects_before);
        active.by_value.retain(|_, id| *id < subjects_before);
        active.count = subjects_before;
        self.close_segment();
    }

    fn close_segment(&mut self) {
        let Some(active) = self.active.take() else { return };
        let empty = active.segment.index().progress.is_empty();
        let mut parts = self.state.parts_mut();
        parts.active = None;
        if empty {
            parts.segments.retain(|segment| segment.id != active.segment.id);
            let _ = std::fs::remove_file(&active.segment.path);
        }
    }

    fn open_segment(&mut self) -> Result<(), HistoryError> {
        if self.active.is_some() {
            return Ok(());
        }
        let waiting = self.state.parts().segments.len();
        if waiting >= SEGMENTS {
            self.full.notify_one();
            let cause = self.state.problems().join("; ");
            return Err(HistoryError::Backlog { segments: waiting, cause });
        }
        let id = self.next_id;
        let path = Segment::path_of(&self.dir, id);
        let fail = |action| {
            let path = path.clone();
            move |error: std::io::Error| HistoryError::file(action, &path, &error)
        };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).map_err(fail("create"))?;
        file.write_all_at(frame::MAGIC, 0).map_err(fail("write"))?;
        file.sync_all().map_err(fail("sync"))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(fail("sync the directory of"))?;
        self.next_id += 1;
        let index = Index { end: frame::MAGIC.len() as u64, ..Index::default() };
        let segment = Arc::new(Segment::new(id, path, file, index));
        let mut parts = self.state.parts_mut();
        parts.segments.push(Arc::clone(&segment));
        parts.active = Some(id);
        self.active = Some(Active { segment, by_address: HashMap::new(), by_value: HashMap::new(), count: 0 });
        Ok(())
    }
}

impl Active {
    fn learn(&mut self, subject: &Arc<Subject>, new_subjects: &mut Vec<Arc<Subject>>) -> u32 {
        if let Some(&id) = self.by_value.get(subject) {
            // The same container under another address, which nothing keeps alive: not remembered by it.
            return id;
        }
        let id = self.count;
        self.count += 1;
        self.by_value.insert(Arc::clone(subject), id);
        self.by_address.insert(Arc::as_ptr(subject) as usize, id);
        new_subjects.push(Arc::clone(subject));
        id
    }
}
