//! One record of the log: a batch, and the subjects that are new to its segment.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use vedette_proto::v1::{ColumnBlock, Dropped, Workload};

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
        Ok(Self { record, subjects: batch.subjects })
    }
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
