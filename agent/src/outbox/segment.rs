//! One file of the spool, with an index of its batches in memory.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use prost::Message;
use vedette_proto::v1::Batch;

use super::frame::{self, FRAME_HEAD, Header};

/// What is kept in memory of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where its frame begins.
    pub offset: u32,
    /// Container rows.
    pub rows: u32,
    /// Event time.
    pub unix_ms: i64,
}

/// One file.
#[derive(Debug)]
pub struct Segment {
    /// Sequence of the first batch.
    pub first: u64,
    /// Its batches, without holes.
    pub entries: Vec<Entry>,
    /// Length of what is good in it.
    pub bytes: u64,
    path: PathBuf,
    file: File,
}

impl Segment {
    /// Begins a segment.
    ///
    /// # Errors
    /// The file system's; nothing is left behind.
    pub fn create(directory: &Path, header: &Header) -> std::io::Result<Self> {
        let path = directory.join(format!("{:020}.seg", header.first_sequence));
        let mut bytes = Vec::new();
        frame::write(header, &mut bytes);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        if let Err(error) = file.write_all(&bytes) {
            // Without its header it would be refused when opened again.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { first: header.first_sequence, entries: Vec::new(), bytes: bytes.len() as u64, path, file })
    }

    /// Opens a segment and calls `each` for its batches. What follows the last good frame is cut off. `None` for a file without a good header.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(path: &Path, mut each: impl FnMut(Batch)) -> std::io::Result<Option<(Self, Header)>> {
        let bytes = std::fs::read(path)?;
        let Some(payload) = frame::read(&bytes) else { return Ok(None) };
        let Ok(header) = Header::decode(payload) else { return Ok(None) };
        let mut at = FRAME_HEAD + payload.len();
        let mut entries = Vec::new();
        while let Some(payload) = frame::read(&bytes[at..]) {
            let Ok(batch) = Batch::decode(payload) else { break };
            if batch.sequence != header.first_sequence + entries.len() as u64 {
                break;
            }
            entries.push(Entry::of(at, &batch));
            at += FRAME_HEAD + payload.len();
            each(batch);
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if at < bytes.len() {
            file.set_len(at as u64)?;
        }
        let segment = Self { first: header.first_sequence, entries, bytes: at as u64, path: path.to_owned(), file };
        Ok(Some((segment, header)))
    }

    /// Appends a batch whose frame is given. After an error the file is as it was before.
    ///
    /// # Errors
    /// The file system's: most likely it is full.
    pub fn append(&mut self, batch: &Batch, frame: &[u8]) -> std::io::Result<()> {
        if let Err(error) = self.file.write_all_at(frame, self.bytes) {
            // Also undone when the segment is opened again, since the frame is not whole.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.entries.push(Entry::of(self.bytes as usize, batch));
        self.bytes += frame.len() as u64;
        Ok(())
    }

    /// Reads a batch again.
    ///
    /// # Errors
    /// The file system's, or `InvalidData` where the frame is damaged.
    pub fn read(&self, sequence: u64) -> std::io::Result<Batch> {
        let damaged =
            || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("batch {sequence} in {} is damaged", self.path.display()));
        let place = sequence.checked_sub(self.first).ok_or_else(damaged)? as usize;
        let start = u64::from(self.entries.get(place).ok_or_else(damaged)?.offset);
        let end = self.entries.get(place + 1).map_or(self.bytes, |next| u64::from(next.offset));
        let mut bytes = vec![0; (end - start) as usize];
        self.file.read_exact_at(&mut bytes, start)?;
        let payload = frame::read(&bytes).ok_or_else(damaged)?;
        Batch::decode(payload).map_err(|_| damaged())
    }

    /// The sequence after its last batch.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Makes it durable; called when nothing is added to it any more.
    ///
    /// # Errors
    /// The file system's.
    pub fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    /// Deletes the file; where that fails, it is read again by the next agent, which is told that it is acknowledged.
    pub fn delete(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot delete a segment of the spool");
        }
    }
}

impl Entry {
    /// Of a batch whose frame begins there.
    #[must_use]
    pub fn of(offset: usize, batch: &Batch) -> Self {
        Self { offset: offset as u32, rows: container_rows(batch), unix_ms: batch.block.as_ref().map_or(0, |block| block.unix_ms) }
    }
}

/// Rows of containers: the node's is not counted.
#[must_use]
pub fn container_rows(batch: &Batch) -> u32 {
    batch.block.as_ref().map_or(0, |block| block.container_refs.iter().filter(|&&reference| reference != 0).count() as u32)
}
