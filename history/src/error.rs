//! What can go wrong, by file.

use std::{fmt::Display, path::Path};

/// Why history did not do what was asked. Cloned to every caller of a failed group commit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file could not be read, written or removed.
    #[error("cannot {action} {path}: {cause}")]
    File {
        /// What was tried: "write", "create".
        action: &'static str,
        /// The file.
        path: String,
        /// The operating system's word.
        cause: String,
        /// No space was left on the device.
        disk_full: bool,
    },
    /// Made by another version.
    #[error("history directory {dir} has version {found}, this program reads version {expected}")]
    Version {
        /// The directory.
        dir: String,
        /// What its VERSION file says.
        found: String,
        /// What this program writes.
        expected: u32,
    },
    /// Not a history directory, and not empty either.
    #[error("{dir} is not empty and holds no VERSION file: not a history directory")]
    NotHistory {
        /// The directory.
        dir: String,
    },
    /// Another process has it open.
    #[error("history directory {dir} is in use by another process")]
    InUse {
        /// The directory.
        dir: String,
    },
    /// The batch contradicts itself.
    #[error("batch {sequence} of node {node} cannot be stored: {reason}")]
    InvalidBatch {
        /// Sender.
        node: String,
        /// Sequence.
        sequence: u64,
        /// What is off.
        reason: String,
    },
    /// An earlier batch of the same spool failed and has to come first.
    #[error("batch {sequence} of node {node} has to wait: batch {failed} of the same spool was not stored")]
    AfterFailed {
        /// Sender.
        node: String,
        /// Sequence refused.
        sequence: u64,
        /// Sequence that failed.
        failed: u64,
    },
    /// Sealing does not keep up, or fails: the log may not grow without end.
    #[error("{segments} log segments wait to be sealed: {cause}")]
    Backlog {
        /// Unsealed segments.
        segments: usize,
        /// Why, if sealing failed.
        cause: String,
    },
    /// The manifest database failed.
    #[error("manifest {path}: {cause}")]
    Manifest {
        /// The database file.
        path: String,
        /// SQLite's word.
        cause: String,
    },
    /// A Parquet file cannot be read or written.
    #[error("parquet file {path}: {cause}")]
    Parquet {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A file that is not a recording.
    #[error("{path} is not a recording: column {column} {problem}")]
    Schema {
        /// The file.
        path: String,
        /// The column.
        column: String,
        /// "is missing", "has type Utf8, not Int64".
        problem: String,
    },
    /// A query is wrong, forbidden, or too large.
    #[error("query failed: {0}")]
    Query(String),
    /// A query took too long.
    #[error("query stopped after {seconds} s")]
    QueryTimeout {
        /// The limit.
        seconds: u64,
    },
    /// The history was closed.
    #[error("history is closed")]
    Closed,
}

impl HistoryError {
    pub(crate) fn file(action: &'static str, path: &Path, error: &std::io::Error) -> Self {
        let disk_full = error.kind() == std::io::ErrorKind::StorageFull || error.kind() == std::io::ErrorKind::QuotaExceeded;
        Self::File { action, path: path.display().to_string(), cause: error.to_string(), disk_full }
    }

    pub(crate) fn parquet(path: &Path, cause: impl Display) -> Self {
        Self::Parquet { path: path.display().to_string(), cause: cause.to_string() }
    }

    pub(crate) fn manifest(path: &Path, cause: impl Display) -> Self {
        Self::Manifest { path: path.display().to_string(), cause: cause.to_string() }
    }

    /// Whether storing failed for lack of space, which operators can mend without a restart.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::File { disk_full: true, .. })
    }
}

impl From<datafusion::error::DataFusionError> for HistoryError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::Query(error.strip_backtrace())
    }
}
