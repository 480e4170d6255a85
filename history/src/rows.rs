//! From records of the log to Arrow: column by column, without rows in between.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, DictionaryArray, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
        new_null_array,
    },
    buffer::{BooleanBuffer, NullBuffer},
    compute,
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
};
use vedette_proto::{
    Column,
    v1::{ColumnBlock, Kind, Origin},
};

use crate::{
    Subject,
    schema::{FIRST_VALUE, KIND, ORIGIN, SCORE, SUBJECT_COLUMNS, TIME},
    wal::record::Record,
};

/// Rows that wait to become one record batch.
pub(crate) struct Rows {
    pub times: Vec<i64>,
    /// Ids of the segment's subjects.
    pub subjects: Vec<u32>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
    origins: Vec<i32>,
    /// Made with the first value: most columns of most batches have none.
    values: Vec<Option<Values>>,
    wanted: u128,
}

#[derive(Default)]
struct Values {
    values: Vec<i64>,
    present: Vec<bool>,
}

impl Rows {
    /// Collects the columns that `projection` (places in the schema) names.
    pub(crate) fn new(projection: &[usize]) -> Self {
        let wanted = projection.iter().filter(|&&place| place >= FIRST_VALUE).fold(0u128, |set, &place| set | 1 << (place - FIRST_VALUE));
        let values = (0..Column::COUNT).map(|_| None).collect();
        let (times, subjects, scores, kinds, origins) = Default::default();
        Self { times, subjects, scores, kinds, origins, values, wanted }
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Takes the rows of a record in whose subject `keep` wants; `None` keeps all.
    pub(crate) fn push(&mut self, record: &Record, block: &ColumnBlock, keep: Option<&[bool]>) {
        let before = self.times.len();
        let rows = record.subject_ids.len();
        let kept = |row: usize| keep.is_none_or(|keep| keep[record.subject_ids[row] as usize]);
        for row in (0..rows).filter(|&row| kept(row)) {
            self.times.push(record.unix_ms);
            self.subjects.push(record.subject_ids[row]);
            self.scores.push(record.scores[row]);
            self.kinds.push(record.kinds[row]);
            self.origins.push(record.origin);
        }
        let after = self.times.len();
        for column in &block.columns {
            let Some(known) = Column::from_id(column.id).filter(|&known| self.wanted >> known as u8 & 1 == 1) else { continue };
            let values = self.values[known as usize].get_or_insert_with(Values::default);
            values.values.resize(before, 0);
            values.present.resize(before, false);
            if keep.is_none() && column.presence.is_empty() {
                values.values.extend(column.values.iter().map(|&value| value as i64));
                values.present.resize(after, true);
                continue;
            }
            let mut next = column.values.iter();
            for row in 0..rows {
                let present = column.presence.is_empty() || column.presence[row / 8] >> (row % 8) & 1 == 1;
                let value = if present { next.next().copied() } else { None };
                if kept(row) {
                    values.values.push(value.unwrap_or(0) as i64);
                    values.present.push(value.is_some());
                }
            }
        }
    }

    /// The rows as one batch of `schema` (the projection's fields), in `order` where one is given.
    pub(crate) fn finish(
        mut self,
        all_subjects: &[Arc<Subject>],
        projection: &[usize],
        schema: &SchemaRef,
        order: Option<&Int32Array>,
    ) -> Result<RecordBatch, ArrowError> {
        let rows = self.len();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(projection.len());
        for (&place, field) in projection.iter().zip(schema.fields()) {
            let array: ArrayRef = match place {
                TIME => Arc::new(TimestampMillisecondArray::from(self.times.clone()).with_timezone("UTC")),
                SCORE => Arc::new(Float32Array::from(self.scores.clone())),
                ORIGIN => words(&self.origins, |word| Origin::try_from(word).unwrap_or_default().word())?,
                KIND => words(&self.kinds, |word| Kind::try_from(word).unwrap_or_default().word())?,
                FIRST_VALUE.. => match self.values[place - FIRST_VALUE].take() {
                    None => new_null_array(&DataType::Int64, rows),
                    Some(Values { mut values, mut present }) => {
                        values.resize(rows, 0);
                        present.resize(rows, false);
                        Arc::new(Int64Array::new(values.into(), Some(NullBuffer::new(BooleanBuffer::from(present)))))
                    }
                },
                _ => texts(&self.subjects, all_subjects, place - 1)?,
            };
            let array = match order {
                Some(order) => compute::take(&array, order, None)?,
                None => array,
            };
            columns.push(if array.data_type() == field.data_type() { array } else { compute::cast(&array, field.data_type())? });
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
    }
}

fn words(numbers: &[i32], word: impl Fn(i32) -> &'static str) -> Result<ArrayRef, ArrowError> {
    let mut places: HashMap<i32, i32> = HashMap::new();
    let mut texts = Vec::new();
    let keys = numbers.iter().map(|&number| {
        *places.entry(number).or_insert_with(|| {
            texts.push(word(number));
            texts.len() as i32 - 1
        })
    });
    let keys = Int32Array::from_iter_values(keys);
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(texts)))?))
}

fn texts(ids: &[u32], subjects: &[Arc<Subject>], column: usize) -> Result<ArrayRef, ArrowError> {
    // A segment may know a hundred thousand subjects, a batch of an answer only a few of them.
    let mut of_subject = vec![-1; subjects.len()];
    let mut places: HashMap<&str, i32> = HashMap::new();
    let mut texts = Vec::new();
    let mut keys = Vec::with_capacity(ids.len());
    for &id in ids {
        let key = &mut of_subject[id as usize];
        if *key < 0 {
            let text = text(&subjects[id as usize], column);
            *key = *places.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() as i32 - 1
            });
        }
        keys.push(*key);
    }
    let keys = Int32Array::from(keys);
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(texts)))?))
}

/// The text of one of [`SUBJECT_COLUMNS`].
pub(crate) fn text(subject: &Subject, column: usize) -> &str {
    match SUBJECT_COLUMNS[column] {
        "cluster" => &subject.cluster,
        "node" => &subject.node,
        "namespace" => &subject.workload.namespace,
        "owner_kind" => &subject.workload.owner_kind,
        "owner_name" => &subject.workload.owner_name,
        "container_name" => &subject.workload.container_name,
        "pod_name" => &subject.pod_name,
        "pod_uid" => &subject.pod_uid,
        "container_id" => &subject.container_id,
        _ => &subject.cgroup,
    }
}
