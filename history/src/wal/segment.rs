//! One segment of the log and the index of what is durable in it.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use vedette_proto::v1::{Dropped, Origin};

use super::record::Record;
use crate::{HistoryError, Subject};

/// Where one durable batch stands.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Of the payload.
    pub offset: u64,
    pub length: u32,
    pub unix_ms: i64,
    /// Whether it was replayed.
    pub replay: bool,
    /// Ids of the rows' subjects: blocks that hold none of the wanted ones are never read.
    pub subject_ids: Arc<[u32]>,
}

/// What an agent had to drop.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gap {
    pub node: String,
    pub spool_id: [u8; 16],
    pub sequence: u64,
    pub dropped: Dropped,
}

/// What is durable in a segment. Kept in memory: about 4 bytes per row, bounded by `seal_rows`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub entries: Vec<Entry>,
    pub subjects: Vec<Arc<Subject>>,
    pub gaps: Vec<Gap>,
    /// Highest sequence per (node, spool).
    pub progress: HashMap<(String, [u8; 16]), u64>,
    pub rows: u64,
    /// Bytes of the file that hold whole, durable frames.
    pub end: u64,
}

impl Index {
    /// Takes a record in that is durable at `offset`.
    pub(crate) fn add(&mut self, record: &Record, new_subjects: Vec<Arc<Subject>>, offset: u64, length: u32) {
        self.subjects.extend(new_subjects);
        self.rows += record.subject_ids.len() as u64;
        if !record.subject_ids.is_empty() {
            let subject_ids = record.subject_ids.as_slice().into();
            let replay = record.origin == Origin::Replay as i32;
            self.entries.push(Entry { offset, length, unix_ms: record.unix_ms, replay, subject_ids });
        }
        if let Some(dropped) = &record.gap {
            let gap = Gap { node: record.node.clone(), spool_id: record.spool(), sequence: record.sequence, dropped: dropped.clone() };
            self.gaps.push(gap);
        }
        self.progress.insert((record.node.clone(), record.spool()), record.sequence);
        self.end = offset + u64::from(length);
    }
}

/// A segment file. Readers keep it open through the `Arc`, so removing it never hurts them.
#[derive(Debug)]
pub(crate) struct Segment {
    pub id: u64,
    pub path: PathBuf,
    pub file: File,
    pub born: Instant,
    index: Mutex<Index>,
}

impl Segment {
    pub(crate) fn new(id: u64, path: PathBuf, file: File, index: Index) -> Self {
        Self { id, path, file, born: Instant::now(), index: Mutex::new(index) }
    }

    pub(crate) fn path_of(dir: &Path, id: u64) -> PathBuf {
        dir.join(format!("{id:010}.wal"))
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the record of an entry.
    pub(crate) fn read(&self, entry: &Entry) -> Result<Record, HistoryError> {
        let mut payload = vec![0; entry.length as usize];
        self.file.read_exact_at(&mut payload, entry.offset).map_err(|error| HistoryError::file("read", &self.path, &error))?;
        let damaged = || {
            let error = std::io::Error::other(format!("the record at byte {} does not decode", entry.offset));
            HistoryError::file("read", &self.path, &error)
        };
        // Its subjects are known; every id may be among them.
        Record::read(Bytes::from(payload), u32::MAX as usize).ok_or_else(damaged)
    }
}
