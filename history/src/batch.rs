//! What is appended: one tick of one node with its verdicts.

use std::sync::Arc;

use vedette_proto::{
    Block,
    v1::{Dropped, Kind, Origin},
};

use crate::{HistoryError, Subject};

/// Latest instant that a row may carry: the last millisecond of the year 9999, which `date=YYYY-MM-DD` can still spell.
pub(crate) const LATEST_UNIX_MS: i64 = 253_402_300_799_999;

/// What the classifier said of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredVerdict {
    /// 0 (as always) to 1.
    pub score: f32,
    /// Likely kind.
    pub kind: Kind,
}

/// One batch: named for ever by (`node`, `spool_id`, `sequence`).
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// The subject of each row.
    pub subjects: Vec<Arc<Subject>>,
    /// Node that sent it.
    pub node: String,
    /// Spool that it was sent from.
    pub spool_id: [u8; 16],
    /// Its number within the spool, from 1.
    pub sequence: u64,
    /// How it came.
    pub origin: Origin,
    /// The rows, parallel to `subjects` and `verdicts`. May have none. Its `container_refs` are not stored.
    pub block: Block,
    /// The verdict of each row.
    pub verdicts: Vec<StoredVerdict>,
    /// What was lost before this batch.
    pub gap: Option<Dropped>,
}

impl StoredBatch {
    /// Most rows in one batch: ten times what a kubelet's largest node runs.
    pub const MAX_ROWS: usize = 16_384;

    pub(crate) fn check(&self) -> Result<(), HistoryError> {
        let rows = self.block.rows.len();
        let invalid = |reason: String| HistoryError::InvalidBatch { node: self.node.clone(), sequence: self.sequence, reason };
        if self.subjects.len() != rows || self.verdicts.len() != rows {
            let (subjects, verdicts) = (self.subjects.len(), self.verdicts.len());
            return Err(invalid(format!("{rows} rows, {subjects} subjects and {verdicts} verdicts")));
        }
        if rows > Self::MAX_ROWS {
            return Err(invalid(format!("{rows} rows, more than the limit of {}", Self::MAX_ROWS)));
        }
        if self.sequence == 0 {
            return Err(invalid("sequences count from 1".into()));
        }
        if !(0..=LATEST_UNIX_MS).contains(&self.block.unix_ms) {
            return Err(invalid(format!("time {} is not within the years 1970 to 9999", self.block.unix_ms)));
        }
        Ok(())
    }
}
