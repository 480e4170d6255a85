//! A sealed Parquet file, which goes only when its last reader is done.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

/// A file of the manifest.
#[derive(Debug)]
pub(crate) struct StoredFile {
    /// Id in the manifest.
    pub id: i64,
    /// Path below the history directory, with `/`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    pub rows: u64,
    pub bytes: u64,
    pub min_unix_ms: i64,
    pub max_unix_ms: i64,
    pub made: Made,
    doomed: AtomicBool,
}

/// How a file came to be, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// 0 sealed, 1 compacted, 2 kept beyond retention.
    pub level: i64,
    /// Of a kept file: which protected ranges it was cut to.
    pub kept_for: i64,
    /// Whether its rows were replayed: no file holds both kinds.
    pub replay: bool,
    /// When the newest of its rows was sealed, Unix ms by the aggregator's clock; 0 in files of before this was noted.
    pub stored_unix_ms: i64,
}

pub(crate) const SEALED: i64 = 0;
pub(crate) const COMPACTED: i64 = 1;
pub(crate) const KEPT: i64 = 2;

impl StoredFile {
    pub(crate) fn new(id: i64, name: String, path: PathBuf, rows: u64, bytes: u64, time: (i64, i64), made: Made) -> Self {
        let (min_unix_ms, max_unix_ms) = time;
        Self { id, name, path, rows, bytes, min_unix_ms, max_unix_ms, made, doomed: AtomicBool::new(false) }
    }

    /// The instant from which its age counts: a replay is as old as its storing, not as what it tells of.
    pub(crate) fn aged_from_unix_ms(&self) -> i64 {
        if self.made.replay { self.made.stored_unix_ms } else { self.max_unix_ms }
    }

    /// The manifest no longer has it: remove it once nobody reads it.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Relaxed);
    }
}

impl Drop for StoredFile {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Relaxed)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            // The next start removes what the manifest does not know.
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an expired file");
        }
    }
}
