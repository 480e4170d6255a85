//! The segments of a spool, the oldest first: batches on disk, within a limit of bytes.

use std::{collections::VecDeque, path::PathBuf};

use vedette_proto::v1::Batch;

use super::{
    frame::Header,
    segment::{Entry, Segment},
};

/// A full spool loses so much of itself at a time.
const PARTS: u64 = 16;

/// Batches on disk.
#[derive(Debug)]
pub struct Segments {
    directory: PathBuf,
    max_bytes: u64,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
}

impl Segments {
    /// Keeps segments in a directory; together they are to stay below `max_bytes`.
    #[must_use]
    pub fn new(directory: PathBuf, max_bytes: u64) -> Self {
        Self { directory, max_bytes, segment_bytes: (max_bytes / PARTS).clamp(64 << 10, 8 << 20), segments: VecDeque::new() }
    }

    /// Takes over a segment that is there already, newer than all before.
    pub fn adopt(&mut self, segment: Segment) {
        self.segments.push_back(segment);
    }

    /// Makes sure that a batch of so many bytes can follow in the newest segment. Says whether a new one was begun.
    ///
    /// # Errors
    /// The file system's.
    pub fn make_place(&mut self, sequence: u64, bytes: u64, header: impl FnOnce() -> Header) -> std::io::Result<bool> {
        let newest = self.segments.back();
        if newest.is_some_and(|newest| newest.end() == sequence && newest.bytes + bytes <= self.segment_bytes) {
            return Ok(false);
        }
        let segment = Segment::create(&self.directory, &header())?;
        if let Some(closed) = self.segments.back() {
            closed.sync()?;
        }
        self.segments.push_back(segment);
        Ok(true)
    }

    /// Whether so many bytes more are too many; a single segment never is.
    #[must_use]
    pub fn is_over_limit_with(&self, bytes: u64) -> bool {
        self.bytes() + bytes > self.max_bytes && self.segments.len() > 1
    }

    /// Appends to the newest segment; after an error it is as it was before.
    ///
    /// # Errors
    /// The file system's: most likely it is full.
    pub fn append(&mut self, batch: &Batch, frame: &[u8]) -> std::io::Result<()> {
        self.segments.back_mut().map_or(Ok(()), |segment| segment.append(batch, frame))
    }

    /// Takes out the oldest segment, unless it is the only one and carries the sequence on.
    pub fn take_oldest(&mut self) -> Option<Segment> {
        if self.segments.len() > 1 { self.segments.pop_front() } else { None }
    }

    /// The oldest segment, unless it is the only one.
    #[must_use]
    pub fn oldest(&self) -> Option<&Segment> {
        self.segments.front().filter(|_| self.segments.len() > 1)
    }

    /// The sequence that the oldest segment begins with.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.segments.front().map(|segment| segment.first)
    }

    /// The newest batch.
    #[must_use]
    pub fn newest(&self) -> Option<&Entry> {
        self.segments.iter().rev().find_map(|segment| segment.entries.last())
    }

    /// The first batch held from a sequence on: where it is, and its own sequence.
    #[must_use]
    pub fn find(&self, from: u64) -> Option<(&Segment, u64)> {
        let segment = self.segments.iter().find(|segment| segment.end() > from && !segment.entries.is_empty())?;
        Some((segment, from.max(segment.first)))
    }

    /// The batches between two sequences, both included.
    pub fn entries(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.segments.iter().flat_map(move |segment| {
            let place = |sequence: u64| (sequence.clamp(segment.first, segment.end()) - segment.first) as usize;
            let range = place(from)..place(to.saturating_add(1)).max(place(from));
            (segment.first + range.start as u64..).zip(&segment.entries[range])
        })
    }

    /// How many batches are held from a sequence on.
    #[must_use]
    pub fn count_from(&self, from: u64) -> u64 {
        self.segments.iter().map(|segment| segment.end().saturating_sub(segment.first.max(from))).sum()
    }

    /// Deletes whole segments up to a sequence; the newest stays, since it carries the sequence on.
    pub fn delete_up_to(&mut self, acknowledged: u64) {
        while self.oldest().is_some_and(|oldest| oldest.end() <= acknowledged + 1) {
            if let Some(segment) = self.segments.pop_front() {
                segment.delete();
            }
        }
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}
