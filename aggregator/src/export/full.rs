//! The full layout: a row per observation with its verdict and the label that stands for it.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, BooleanBuilder, RecordBatch, StringArray, StringBuilder},
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Field, Schema, SchemaRef, TimestampMillisecondType},
    error::ArrowError,
};
use vedette_proto::v1::Kind;

use crate::label::{Identity, LabelIndex, Timeline, source_word};

/// Timelines kept; beyond it they are all forgotten and made again. History comes container by container.
const TIMELINES: usize = 10_000;

/// Adds the label to each row.
pub struct Labeller {
    labels: LabelIndex,
    kinds: Vec<Kind>,
    timelines: HashMap<[String; 8], Arc<Timeline>>,
}

/// The columns that identify a row, in the order of [`Identity`].
const IDENTITY: [&str; 8] = ["cluster", "node", "namespace", "owner_kind", "owner_name", "container_name", "pod_uid", "container_id"];

/// The schema of the file: history's, and the label.
pub fn schema(history: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = history.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("label", DataType::Utf8, false)));
    fields.push(Arc::new(Field::new("label_affected", DataType::Boolean, false)));
    fields.push(Arc::new(Field::new("label_source", DataType::Utf8, false)));
    Arc::new(Schema::new(fields))
}

impl Labeller {
    /// With the labels of the scope; rows without one of `kinds` are left out, unless that is empty.
    pub fn new(labels: LabelIndex, kinds: Vec<Kind>) -> Self {
        Self { labels, kinds, timelines: HashMap::new() }
    }

    /// The rows of a batch of history that are wanted, with their label.
    ///
    /// # Errors
    /// A column of history is missing or of another type.
    pub fn label(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let texts = |name: &str| -> Result<StringArray, ArrowError> {
            let column = batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("history has no column {name}")))?;
            Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
        };
        let identity = IDENTITY.iter().map(|name| texts(name)).collect::<Result<Vec<_>, _>>()?;
        let times = batch.column_by_name("time").and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
        let times = times.ok_or_else(|| ArrowError::SchemaError("history has no column time".to_owned()))?;

        let (mut kind, mut affected, mut source) = (StringBuilder::new(), BooleanBuilder::new(), StringBuilder::new());
        let mut wanted = Vec::with_capacity(batch.num_rows());
        let mut last: Option<([&str; 8], Arc<Timeline>)> = None;
        for row in 0..batch.num_rows() {
            let key: [&str; 8] = std::array::from_fn(|place| identity[place].value(row));
            let timeline = match &last {
                Some((known, timeline)) if *known == key => Arc::clone(timeline),
                _ => self.timeline(key),
            };
            let said = timeline.at(times.value(row));
            last = Some((key, timeline));
            wanted.push(self.kinds.is_empty() || said.is_some_and(|said| self.kinds.contains(&said.kind)));
            kind.append_value(said.map_or("", |said| said.kind.word()));
            affected.append_value(said.is_some_and(|said| said.affected));
            source.append_value(said.as_ref().map_or("", source_word));
        }
        let mut columns = batch.columns().to_vec();
        columns.extend([Arc::new(kind.finish()) as ArrayRef, Arc::new(affected.finish()), Arc::new(source.finish())]);
        let labelled = RecordBatch::try_new(schema(&batch.schema()), columns)?;
        if self.kinds.is_empty() { Ok(labelled) } else { filter_record_batch(&labelled, &BooleanArray::from(wanted)) }
    }

    fn timeline(&mut self, key: [&str; 8]) -> Arc<Timeline> {
        let owned = key.map(str::to_owned);
        if let Some(known) = self.timelines.get(&owned) {
            return Arc::clone(known);
        }
        if self.timelines.len() >= TIMELINES {
            self.timelines.clear();
        }
        let [cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id] = key;
        let identity = Identity { cluster, node, namespace, owner_kind, owner_name, container_name, pod_uid, container_id };
        let timeline = Arc::new(self.labels.timeline(&identity));
        self.timelines.insert(owned, Arc::clone(&timeline));
        timeline
    }
}
