//! Reads segments back after a start: whatever checks is durable, a torn tail is cut off.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    frame,
    record::Record,
    segment::{Index, Segment},
};
use crate::{HistoryError, Subject, state::Progress};

/// A segment read back.
pub(crate) struct Replayed {
    pub segment: Segment,
    /// Bytes behind the last frame that checks.
    pub torn: u64,
}

/// Reads one segment; batches that `progress` already holds are left out of the index.
pub(crate) fn replay(path: &Path, id: u64, last: bool, progress: &mut Progress) -> Result<Replayed, HistoryError> {
    let fail = |action| move |error: std::io::Error| HistoryError::file(action, path, &error);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(fail("open"))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(fail("read"))?;
    let bytes = Bytes::from(bytes);

    let mut index = Index::default();
    let mut end = 0;
    if bytes.starts_with(frame::MAGIC) {
        end = frame::MAGIC.len();
        while let Some(payload) = frame::read(&bytes[end..]) {
            let Some(record) = Record::read(bytes.slice_ref(payload), index.subjects.len()) else { break };
            let offset = (end + frame::HEADER) as u64;
            end += frame::HEADER + payload.len();
            let subjects = record.subjects.iter().map(|subject| Arc::new(Subject::from(subject.clone()))).collect();
            if record.sequence > progress.get(&record.node, &record.spool()) {
                progress.set(&record.node, record.spool(), record.sequence);
                index.add(&record, subjects, offset, payload.len() as u32);
            } else {
                index.subjects.extend(subjects);
            }
        }
    }
    index.end = end as u64;
    let torn = (bytes.len() - end) as u64;
    if torn > 0 {
        if !last {
            // No write was under way in an older segment: what does not check there was damaged, and is kept for whoever asks.
            let damaged = path.with_extension("damaged");
            std::fs::write(&damaged, &bytes[end..]).map_err(|error| HistoryError::file("write", &damaged, &error))?;
        }
        truncate(&file, end as u64).map_err(fail("truncate"))?;
    }
    Ok(Replayed { segment: Segment::new(id, path.to_owned(), file, index), torn })
}

fn truncate(file: &File, end: u64) -> std::io::Result<()> {
    file.set_len(end)?;
    file.sync_all()
}
