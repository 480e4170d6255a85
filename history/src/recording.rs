//! Recordings: a Parquet file of observations, read back tick by tick to be played again.

mod ship;
mod writer;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    path::Path,
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, StringArray},
    compute,
    datatypes::{DataType, Float32Type, Int64Type, TimestampMillisecondType},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vedette_proto::{
    Block, Column, Observation,
    v1::{Kind, Workload},
};

use crate::{
    HistoryError, StoredVerdict, Subject,
    schema::{SUBJECT_COLUMNS, observation_schema},
};
pub use ship::ship;
pub use writer::RecordingWriter;

/// Rows that a recording may have; it is held in memory.
const MAX_ROWS: usize = 5_000_000;
/// What a detector said on the day of the recording, and how it came to be: a recording may do without.
const VERDICT_COLUMNS: [&str; 3] = ["origin", "score", "kind"];

/// One tick of one node.
#[derive(Clone, Debug)]
pub struct Tick {
    /// Node name.
    pub node: String,
    /// Event time, Unix ms.
    pub unix_ms: i64,
    /// Whom each row is about.
    pub subjects: Vec<Arc<Subject>>,
    /// The rows. References count containers per node from 1 in the order in which they first appear; the node itself is 0.
    pub block: Block,
    /// What was said of each row when it was recorded; nothing where the recording has no verdicts.
    pub verdicts: Vec<StoredVerdict>,
}

/// A recording, open.
pub struct Recording {
    rows: RecordBatch,
    subjects: Vec<Arc<Subject>>,
    /// Per row, its place in `subjects`.
    subject_of: Vec<u32>,
    /// Rows in order of time, node, reference.
    order: Vec<u32>,
    /// Per row.
    references: Vec<u32>,
    values: Vec<(Column, Int64Array)>,
    /// Absent where the recording has no verdicts.
    kinds: Option<StringArray>,
}

impl Recording {
    /// Reads a recording whole (at most 5 million rows). Columns of values may be missing (absent in every row), and so may
    /// verdicts; columns that this version does not know are left out.
    ///
    /// # Errors
    /// The file cannot be read, or is not a recording: the column is named.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        Self::arrange(read(path)?).map_err(|error| HistoryError::parquet(path, error))
    }

    fn arrange(rows: RecordBatch) -> Result<Self, arrow::error::ArrowError> {
        let text = |name: &str| -> Result<StringArray, arrow::error::ArrowError> {
            let column = rows.column_by_name(name).ok_or_else(|| arrow::error::ArrowError::SchemaError(name.to_owned()))?;
            Ok(compute::cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
        };
        let texts = SUBJECT_COLUMNS.iter().map(|name| text(name)).collect::<Result<Vec<_>, _>>()?;
        let kinds = rows.column_by_name("kind").map(|_| text("kind")).transpose()?;
        let mut subjects: Vec<Arc<Subject>> = Vec::new();
        let mut places: HashMap<Arc<Subject>, u32> = HashMap::new();
        let mut subject_of: Vec<u32> = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            // Files are sorted by container: the subject is nearly always that of the row before.
            if row > 0 && texts.iter().all(|texts| texts.value(row) == texts.value(row - 1)) {
                subject_of.push(subject_of[row - 1]);
                continue;
            }
            let subject = Arc::new(subject(&texts, row));
            let place = *places.entry(Arc::clone(&subject)).or_insert_with(|| {
                subjects.push(subject);
                subjects.len() as u32 - 1
            });
            subject_of.push(place);
        }
        let times = rows.column(0).as_primitive::<TimestampMillisecondType>().clone();
        let node = |row: u32| subjects[subject_of[row as usize] as usize].node.as_str();
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_by_key(|&row| (times.value(row as usize), node(row)));
        let mut known: HashMap<(&str, &str), u32> = HashMap::new();
        let mut counts: HashMap<&str, u32> = HashMap::new();
        let mut references = vec![0; rows.num_rows()];
        for &row in &order {
            let subject = &subjects[subject_of[row as usize] as usize];
            if !subject.container_id.is_empty() {
                references[row as usize] = *known.entry((&subject.node, &subject.container_id)).or_insert_with(|| {
                    let count = counts.entry(&subject.node).or_default();
                    *count += 1;
                    *count
                });
            }
        }
        order.sort_by_key(|&row| (times.value(row as usize), node(row), references[row as usize]));
        let values = Column::ALL
            .iter()
            .filter_map(|&column| Some((column, rows.column_by_name(column.name())?.as_primitive::<Int64Type>().clone())))
            .collect();
        Ok(Self { rows, subjects, subject_of, order, references, values, kinds })
    }

    /// How many observations there are.
    #[must_use]
    pub fn observations(&self) -> usize {
        self.order.len()
    }

    /// How many of them are about containers; the others are the nodes' own.
    #[must_use]
    pub fn container_observations(&self) -> usize {
        self.references.iter().filter(|&&reference| reference != 0).count()
    }

    /// The nodes, by name.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<&str> {
        self.subjects.iter().map(|subject| subject.node.as_str()).collect()
    }

    fn key(&self, place: usize) -> (i64, &str) {
        let row = self.order[place] as usize;
        let times = self.rows.column(0).as_primitive::<TimestampMillisecondType>();
        (times.value(row), &self.subjects[self.subject_of[row] as usize].node)
    }

    /// The ticks in order of time, within an instant by node.
    pub fn ticks(&self) -> impl Iterator<Item = Tick> + '_ {
        let scores = self.rows.column_by_name("score").map(|scores| scores.as_primitive::<Float32Type>());
        let mut place = 0;
        std::iter::from_fn(move || {
            let (unix_ms, node) = (place < self.order.len()).then(|| self.key(place))?;
            let mut tick = Tick {
                node: node.to_owned(),
                unix_ms,
                subjects: Vec::new(),
                block: Block { unix_ms, ..Block::default() },
                verdicts: Vec::new(),
            };
            let mut seen = HashSet::new();
            while place < self.order.len() && self.key(place) == (unix_ms, node) {
                let row = self.order[place] as usize;
                place += 1;
                // A container twice in one instant can only come from a file put together by hand; a block holds it once.
                if !seen.insert(self.references[row]) {
                    continue;
                }
                let mut observation = Observation::default();
                for (column, values) in &self.values {
                    if values.is_valid(row) {
                        observation.set_if(*column, u64::try_from(values.value(row)).ok());
                    }
                }
                tick.subjects.push(Arc::clone(&self.subjects[self.subject_of[row] as usize]));
                tick.block.container_refs.push(self.references[row]);
                tick.block.rows.push(observation);
                let score = scores.map_or(0.0, |scores| scores.value(row));
                let kind = self.kinds.as_ref().and_then(|kinds| Kind::from_word(kinds.value(row))).unwrap_or_default();
                tick.verdicts.push(StoredVerdict { score, kind });
            }
            Some(tick)
        })
    }
}

/// The rows of a file that is a recording.
fn read(path: &Path) -> Result<RecordBatch, HistoryError> {
    let file = File::open(path).map_err(|error| HistoryError::file("open", path, &error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| HistoryError::parquet(path, error))?;
    check(path, builder.schema())?;
    let count = builder.metadata().file_metadata().num_rows();
    if usize::try_from(count).is_ok_and(|count| count > MAX_ROWS) {
        return Err(HistoryError::parquet(path, format!("{count} rows, more than the limit of {MAX_ROWS}")));
    }
    let schema = Arc::clone(builder.schema());
    let reader = builder.build().map_err(|error| HistoryError::parquet(path, error))?;
    let batches: Vec<_> = reader.collect::<Result<_, _>>().map_err(|error| HistoryError::parquet(path, error))?;
    compute::concat_batches(&schema, &batches).map_err(|error| HistoryError::parquet(path, error))
}

fn subject(texts: &[StringArray], row: usize) -> Subject {
    let text = |column: usize| texts[column].value(row).to_owned();
    let workload = Workload { cluster: text(0), namespace: text(2), owner_kind: text(3), owner_name: text(4), container_name: text(5) };
    Subject { cluster: text(0), node: text(1), workload, pod_name: text(6), pod_uid: text(7), container_id: text(8), cgroup: text(9) }
}

fn check(path: &Path, found: &arrow::datatypes::Schema) -> Result<(), HistoryError> {
    let fail =
        |column: &str, problem: String| Err(HistoryError::Schema { path: path.display().to_string(), column: column.to_owned(), problem });
    for expected in observation_schema().fields() {
        let name = expected.name();
        let Ok(field) = found.field_with_name(name) else {
            if expected.is_nullable() || VERDICT_COLUMNS.contains(&name.as_str()) {
                continue;
            }
            return fail(name, "is missing".into());
        };
        let fits = match expected.data_type() {
            DataType::Utf8View => matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8),
            other => field.data_type() == other,
        };
        if !fits {
            return fail(name, format!("has type {}, not {}", field.data_type(), expected.data_type()));
        }
    }
    if found.field(0).name() != "time" {
        return fail("time", "is not the first".into());
    }
    Ok(())
}
