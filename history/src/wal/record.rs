//! One record of the log: a batch, and the subjects that are new to its segment.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use vedette_proto::v1::{ColumnBlock, Dropped, Workload};

use super::frame;
use crate::{HistoryError, StoredBatch, Subject};

/// A batch as it stands in the log. Fields are added, never renumbered.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    /// Subjects new to the segment; their ids go on where the segment's last one ended, from 0.
    #[prost(message, repeated, tag = "1")]
    pub subjects: Vec<SubjectRecord>,
    #[prost(string, tag = "2")]
    pub node: String,
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub spool_id: Bytes,
    #[prost(uint64, tag = "4")]
    pub sequence: u64,
    #[prost(int32, tag = "5")]
    pub origin: i32,
    /// Per row, the subject's id within the segment.
    #[prost(uint32, repeated, tag = "6")]
    pub subject_ids: Vec<u32>,
    /// Per row.
    #[prost(float, repeated, tag = "7")]
    pub scores: Vec<f32>,
    /// Per row, `v1::Kind`.
    #[prost(int32, repeated, tag = "8")]
    pub kinds: Vec<i32>,
    /// An encoded `v1::ColumnBlock`, left encoded until somebody wants its rows.
    #[prost(bytes = "bytes", tag = "9")]
    pub block: Bytes,
    #[prost(message, optional, tag = "10")]
    pub gap: Option<Dropped>,
    /// Time of the block, so that nobody has to decode it to know.
    #[prost(int64, tag = "11")]
    pub unix_ms: i64,
}

/// A [`Subject`] in the log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SubjectRecord {
    #[prost(string, tag = "1")]
    pub cluster: String,
    #[prost(string, tag = "2")]
    pub node: String,
    #[prost(message, optional, tag = "3")]
    pub workload: Option<Workload>,
    #[prost(string, tag = "4")]
    pub container_id: String,
    #[prost(string, tag = "5")]
    pub pod_uid: String,
    #[prost(string, tag = "6")]
    pub pod_name: String,
    #[prost(string, tag = "7")]
    pub cgroup: String,
}

impl From<&Subject> for SubjectRecord {
    fn from(subject: &Subject) -> Self {
        Self {
            cluster: subject.cluster.clone(),
            node: subject.node.clone(),
            workload: Some(subject.workload.clone()),
            container_id: subject.container_id.clone(),
            pod_uid: subject.pod_uid.clone(),
            pod_name: subject.pod_name.clone(),
            cgroup: subject.cgroup.clone(),
        }
    }
}

impl From<SubjectRecord> for Subject {
    fn from(record: SubjectRecord) -> Self {
        Self {
            cluster: record.cluster,
            node: record.node,
            workload: record.workload.unwrap_or_default(),
            container_id: record.container_id,
            pod_uid: record.pod_uid,
            pod_name: record.pod_name,
            cgroup: record.cgroup,
        }
    }
}

/// A batch made ready by its caller, so that the one writer has little left to do: only the subjects' ids are missing.
#[derive(Debug)]
pub(crate) struct Draft {
    pub record: Record,
    pub subjects: Vec<Arc<Subject>>,
}

impl Draft {
    /// Checks a batch and encodes its block.
    pub(crate) fn new(batch: StoredBatch) -> Result<Self, HistoryError> {
        Self::within(batch, frame::MAX_PAYLOAD)
    }

    /// The same with another limit of a record's bytes: never is written what could not be read back.
    fn within(batch: StoredBatch, limit: usize) -> Result<Self, HistoryError> {
        batch.check()?;
        let rows = batch.block.rows.len();
        let mut wire = batch.block.encode();
        // Only their number matters here, and repeated ones would make the block unreadable.
        wire.container_refs = (0..rows as u32).collect();
        for column in &wire.columns {
            if column.values.iter().any(|&value| value > i64::MAX as u64) {
                let reason = format!("column {} has a value beyond 2^63 - 1", column.id);
                return Err(HistoryError::InvalidBatch { node: batch.node, sequence: batch.sequence, reason });
            }
        }
        let record = Record {
            subjects: Vec::new(),
            node: batch.node,
            spool_id: Bytes::copy_from_slice(&batch.spool_id),
            sequence: batch.sequence,
            origin: batch.origin as i32,
            subject_ids: Vec::with_capacity(rows),
            scores: batch.verdicts.iter().map(|verdict| verdict.score).collect(),
            kinds: batch.verdicts.iter().map(|verdict| verdict.kind as i32).collect(),
            block: if rows == 0 { Bytes::new() } else { wire.encode_to_vec().into() },
            gap: batch.gap,
            unix_ms: batch.block.unix_ms,
        };
        let draft = Self { record, subjects: batch.subjects };
        let bytes = draft.most_bytes();
        if bytes > limit {
            let reason = format!("its record may take {bytes} bytes, the log holds {limit} at most");
            return Err(HistoryError::InvalidBatch { node: draft.record.node, sequence: draft.record.sequence, reason });
        }
        Ok(draft)
    }

    /// At most this many bytes has the record once its subjects are known: as if all of them were new to the segment.
    fn most_bytes(&self) -> usize {
        // Tags and lengths: 6 bytes for each of a subject's 13 fields and parts; an id and a kind are 5 each, a score 4.
        const PER_SUBJECT: usize = 13 * 6;
        const PER_ROW: usize = 5 + 5 + 4;
        const FIXED: usize = 256;
        let subjects: usize = self.subjects.iter().map(|subject| PER_SUBJECT + text_bytes(subject)).sum();
        let record = &self.record;
        let gap = record.gap.as_ref().map_or(0, Message::encoded_len);
        FIXED + record.node.len() + gap + record.block.len() + record.scores.len() * PER_ROW + subjects
    }
}

fn text_bytes(subject: &Subject) -> usize {
    let of = &subject.workload;
    let texts = [&subject.cluster, &subject.node, &subject.container_id, &subject.pod_uid, &subject.pod_name, &subject.cgroup];
    let workload = [&of.cluster, &of.namespace, &of.owner_kind, &of.owner_name, &of.container_name];
    texts.into_iter().chain(workload).map(String::len).sum()
}

impl Record {
    /// Reads a record whose frame checked; `None` if its parts contradict each other (a writer's bug, never a torn write).
    pub(crate) fn read(payload: Bytes, known_subjects: usize) -> Option<Self> {
        let record = Self::decode(payload).ok()?;
        let rows = record.subject_ids.len();
        let subjects = known_subjects + record.subjects.len();
        let fits = record.scores.len() == rows
            && record.kinds.len() == rows
            && record.spool_id.len() == 16
            && record.subject_ids.iter().all(|&id| (id as usize) < subjects);
        fits.then_some(record)
    }

    /// The rows' columns.
    pub(crate) fn columns(&self) -> Option<ColumnBlock> {
        let block = ColumnBlock::decode(self.block.clone()).ok()?;
        (block.container_refs.len() == self.subject_ids.len()).then_some(block)
    }

    pub(crate) fn spool(&self) -> [u8; 16] {
        self.spool_id.as_ref().try_into().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use vedette_proto::{
        Block, Column, Observation,
        v1::{Kind, Origin},
    };

    use super::*;
    use crate::StoredVerdict;

    /// `rows` containers with long names.
    fn batch(rows: u32) -> StoredBatch {
        let subject = |row| {
            let long = format!("{row}{}", "x".repeat(200));
            let workload = Workload { cluster: long.clone(), owner_name: long.clone(), ..Workload::default() };
            Subject { cluster: long.clone(), workload, container_id: long.clone(), cgroup: long, ..Subject::default() }
        };
        let mut row = Observation::default();
        row.set(Column::CpuUsageUs, 123_456_789);
        let block = Block { unix_ms: 1_700_000_000_000, container_refs: (1..=rows).collect(), rows: vec![row; rows as usize] };
        StoredBatch {
            subjects: (0..rows).map(|row| Arc::new(subject(row))).collect(),
            node: "node-a".into(),
            spool_id: [7; 16],
            sequence: 3,
            origin: Origin::Live,
            verdicts: vec![StoredVerdict { score: 0.5, kind: Kind::Normal }; rows as usize],
            block,
            gap: Some(Dropped { batches: u64::MAX, ..Dropped::default() }),
        }
    }

    /// Bytes of the record when every subject is new.
    fn written(draft: Draft) -> usize {
        let mut record = draft.record;
        record.subject_ids = vec![u32::MAX; draft.subjects.len()];
        record.subjects = draft.subjects.iter().map(|subject| SubjectRecord::from(subject.as_ref())).collect();
        record.encoded_len()
    }

    #[test]
    fn a_record_is_never_longer_than_was_checked() {
        for rows in [0, 1, 10, 3_000] {
            let draft = Draft::new(batch(rows)).unwrap();
            let most = draft.most_bytes();
            let bytes = written(draft);
            assert!(bytes <= most && most <= bytes * 2 + 512, "{rows} rows: {bytes} of {most} bytes");
        }
    }

    #[test]
    fn a_batch_that_could_not_be_read_back_is_refused() {
        let bytes = written(Draft::new(batch(10)).unwrap());

        let error = Draft::within(batch(10), bytes - 1).unwrap_err();

        assert!(matches!(&error, HistoryError::InvalidBatch { node, sequence: 3, .. } if node == "node-a"), "{error}");
    }
}
