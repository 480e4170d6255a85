//! Which version of a file it is, so that a change is seen without reading it.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

/// Inode, time of change and length: a ConfigMap's file is replaced, an editor's written anew, and what takes another's place may be older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64, i64, i64, u64);

impl Stamp {
    /// Of a file as it is.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        Self(file.ino(), file.mtime(), file.mtime_nsec(), file.len())
    }
}
