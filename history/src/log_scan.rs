//! Reading the unsealed log: blocks are decoded on the fly, those that hold nothing wanted are not even read.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::SchemaRef,
    common::{DataFusionError, Result},
    execution::TaskContext,
    physical_plan::{
        ExecutionPlan, SendableRecordBatchStream,
        stream::RecordBatchReceiverStream,
        streaming::{PartitionStream, StreamingTableExec},
    },
};

use crate::{
    HistoryError, Subject,
    bounds::Bounds,
    rows::Rows,
    state::Parts,
    wal::segment::{Entry, Segment},
};

/// Rows of one batch of an answer.
const BATCH_ROWS: usize = 8_192;

/// What a segment held when the query began.
#[derive(Debug)]
pub(crate) struct SegmentView {
    segment: Arc<Segment>,
    entries: Vec<Entry>,
    subjects: Vec<Arc<Subject>>,
    /// Per subject, whether it is wanted; `None` means all are.
    keep: Option<Vec<bool>>,
}

/// The blocks that may hold wanted rows. The caller holds the lock on the parts, so files and segments are of one instant.
pub(crate) fn snapshot(parts: &Parts, bounds: &Bounds) -> Vec<SegmentView> {
    let view = |segment: &Arc<Segment>| {
        let index = segment.index();
        let subjects = index.subjects.clone();
        let keep = bounds.chooses_subjects().then(|| subjects.iter().map(|subject| bounds.wants(subject)).collect::<Vec<_>>());
        let wanted = |entry: &&Entry| {
            bounds.touches(entry.unix_ms, entry.unix_ms)
                && keep.as_ref().is_none_or(|keep| entry.subject_ids.iter().any(|&id| keep[id as usize]))
        };
        let entries: Vec<_> = index.entries.iter().filter(wanted).cloned().collect();
        (!entries.is_empty()).then(|| SegmentView { segment: Arc::clone(segment), entries, subjects, keep })
    };
    parts.segments.iter().filter_map(view).collect()
}

/// A plan with one partition per segment.
pub(crate) fn plan(views: Vec<SegmentView>, projection: &[usize], schema: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let partition = |view| -> Arc<dyn PartitionStream> {
        Arc::new(LogPartition { view: Arc::new(view), projection: projection.to_vec(), schema: Arc::clone(schema) })
    };
    let partitions = views.into_iter().map(partition).collect();
    Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(schema), partitions, None, None, false, None)?))
}

#[derive(Debug)]
struct LogPartition {
    view: Arc<SegmentView>,
    projection: Vec<usize>,
    schema: SchemaRef,
}

impl PartitionStream for LogPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), 2);
        let (view, projection, schema, batches) = (Arc::clone(&self.view), self.projection.clone(), Arc::clone(&self.schema), stream.tx());
        stream.spawn_blocking(move || {
            let mut rows = Rows::new(&projection);
            for entry in &view.entries {
                view.push(entry, &mut rows).map_err(|error| DataFusionError::External(Box::new(error)))?;
                if rows.len() >= BATCH_ROWS {
                    let full = std::mem::replace(&mut rows, Rows::new(&projection));
                    let batch = full.finish(&view.subjects, &projection, &schema, None)?;
                    if batches.blocking_send(Ok(batch)).is_err() {
                        return Ok(());
                    }
                }
            }
            if rows.len() > 0 {
                let _ = batches.blocking_send(Ok(rows.finish(&view.subjects, &projection, &schema, None)?));
            }
            Ok(())
        });
        stream.build()
    }
}

impl SegmentView {
    fn push(&self, entry: &Entry, rows: &mut Rows) -> Result<(), HistoryError> {
        push_entry(&self.segment, entry, rows, self.keep.as_deref())
    }
}

/// Decodes one block of a segment into `rows`.
pub(crate) fn push_entry(segment: &Segment, entry: &Entry, rows: &mut Rows, keep: Option<&[bool]>) -> Result<(), HistoryError> {
    let record = segment.read(entry)?;
    let block = record.columns().ok_or_else(|| {
        let error = std::io::Error::other(format!("the block at byte {} does not decode", entry.offset));
        HistoryError::file("read", &segment.path, &error)
    })?;
    rows.push(&record, &block, keep);
    Ok(())
}
