//! Arrow batches as CSV, JSON lines or Parquet, a part at a time.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimestampMillisecondType},
    error::ArrowError,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use vedette_proto::v1::ExportFormat;

use super::cell::push_text;

/// A Parquet row group ends once it holds this much: what an export keeps in memory.
const ROW_GROUP_BYTES: usize = 8 << 20;
/// ... or this many rows.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A column of a type that has no text.
    #[error("cannot write a column: {0}")]
    Arrow(#[from] ArrowError),
    /// Parquet says no.
    #[error("cannot write parquet: {0}")]
    Parquet(#[from] ParquetError),
}

/// Bytes that the Parquet writer has written and nobody has taken yet.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is being written.
pub enum Encoder {
    /// RFC 4180 with a header line.
    Csv,
    /// One JSON object a line; absent and not-a-number are null.
    Jsonl,
    /// Parquet, zstd.
    Parquet(Box<ArrowWriter<WrittenBytes>>, WrittenBytes),
}

/// Where the Parquet writer writes.
pub struct WrittenBytes(Written);

impl io::Write for WrittenBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encoder {
    /// Begins a file of this schema; returns its first bytes.
    ///
    /// # Errors
    /// Parquet does not know the schema.
    pub fn begin(format: ExportFormat, schema: &SchemaRef) -> Result<(Self, Vec<u8>), EncodeError> {
        match format {
            ExportFormat::Unspecified | ExportFormat::Csv => {
                let names: Vec<&str> = schema.fields().iter().map(|field| &field.name()[..]).collect();
                Ok((Self::Csv, (names.join(",") + "\r\n").into_bytes()))
            }
            ExportFormat::Jsonl => Ok((Self::Jsonl, Vec::new())),
            ExportFormat::Parquet => {
                let written = Written::default();
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(WrittenBytes(written.clone()), Arc::clone(schema), Some(properties))?;
                Ok((Self::Parquet(Box::new(writer), WrittenBytes(written)), Vec::new()))
            }
        }
    }

    /// Writes rows; returns the bytes that are ready.
    ///
    /// # Errors
    /// A column that cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Csv => Ok(csv(batch)?.into_bytes()),
            Self::Jsonl => Ok(jsonl(batch)?.into_bytes()),
            Self::Parquet(writer, written) => {
                writer.write(batch)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush()?;
                }
                Ok(written.0.take())
            }
        }
    }

    /// Ends the file; returns its last bytes.
    ///
    /// # Errors
    /// Parquet's footer cannot be written.
    pub fn finish(self) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Csv | Self::Jsonl => Ok(Vec::new()),
            Self::Parquet(writer, written) => {
                writer.close()?;
                Ok(written.0.take())
            }
        }
    }
}

/// A column as text formats see it.
enum Cells {
    Text(StringArray),
    Integer(Int64Array),
    Number(Float64Array),
    Truth(BooleanArray),
    Instant(TimestampMillisecondArray),
}

impl Cells {
    fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            DataType::Int64 => Self::Integer(column.as_primitive::<Int64Type>().clone()),
            // Through its decimal text a 32-bit score would print as 0.30000001192092896.
            DataType::Float32 => {
                Self::Number(cast(&cast(column, &DataType::Utf8)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Float64 => Self::Number(column.as_primitive::<Float64Type>().clone()),
            DataType::Boolean => Self::Truth(column.as_boolean().clone()),
            DataType::Timestamp(..) => Self::Instant(column.as_primitive::<TimestampMillisecondType>().clone()),
            _ => Self::Text(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(array) => array.is_null(row),
            Self::Integer(array) => array.is_null(row),
            Self::Number(array) => array.is_null(row),
            Self::Truth(array) => array.is_null(row),
            Self::Instant(array) => array.is_null(row),
        }
    }
}

/// An instant in UTC: `2025-05-31T13:29:15.909Z`.
fn push_instant(text: &mut String, unix_ms: i64) {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        // Writing to a string cannot fail.
        Ok(instant) => drop(write!(text, "{instant:.3}")),
        Err(_) => drop(write!(text, "{unix_ms}")),
    }
}

fn csv(batch: &RecordBatch) -> Result<String, ArrowError> {
    let columns = batch.columns().iter().map(Cells::of).collect::<Result<Vec<_>, _>>()?;
    let mut text = String::with_capacity(batch.num_rows() * columns.len() * 4);
    for row in 0..batch.num_rows() {
        for (place, column) in columns.iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            if column.is_null(row) {
                continue;
            }
            match column {
                Cells::Text(array) => push_text(&mut text, array.value(row)),
                Cells::Integer(array) => drop(write!(text, "{}", array.value(row))),
                Cells::Number(array) => drop(write!(text, "{}", array.value(row))),
                Cells::Truth(array) => drop(write!(text, "{}", array.value(row))),
                Cells::Instant(array) => push_instant(&mut text, array.value(row)),
            }
        }
        text.push_str("\r\n");
    }
    Ok(text)
}

fn jsonl(batch: &RecordBatch) -> Result<String, ArrowError> {
    let columns = batch.columns().iter().map(Cells::of).collect::<Result<Vec<_>, _>>()?;
    let schema = batch.schema();
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let names: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
    let mut text = String::with_capacity(batch.num_rows() * columns.len() * 16);
    for row in 0..batch.num_rows() {
        for (place, (name, column)) in names.iter().zip(&columns).enumerate() {
            text.push(if place == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push(':');
            if column.is_null(row) {
                text.push_str("null");
                continue;
            }
            match column {
                Cells::Text(array) => text.push_str(&quoted(array.value(row))),
                Cells::Integer(array) => drop(write!(text, "{}", array.value(row))),
                Cells::Number(array) if !array.value(row).is_finite() => text.push_str("null"),
                Cells::Number(array) => drop(write!(text, "{}", array.value(row))),
                Cells::Truth(array) => drop(write!(text, "{}", array.value(row))),
                Cells::Instant(array) => {
                    text.push('"');
                    push_instant(&mut text, array.value(row));
                    text.push('"');
                }
            }
        }
        text.push_str("}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, StringViewArray};

    fn batch() -> RecordBatch {
        let times = TimestampMillisecondArray::from(vec![1_700_000_000_005, 1_700_000_001_000]).with_timezone("UTC");
        RecordBatch::try_from_iter_with_nullable([
            ("time", Arc::new(times) as ArrayRef, false),
            ("name", Arc::new(StringViewArray::from(vec!["=x\"\n", "b"])) as ArrayRef, false),
            ("score", Arc::new(Float32Array::from(vec![0.3, f32::NAN])) as ArrayRef, false),
            ("cpu_usage_us", Arc::new(Int64Array::from(vec![Some(7), None])) as ArrayRef, true),
        ])
        .unwrap()
    }

    fn whole(format: ExportFormat) -> Vec<u8> {
        let (mut encoder, mut bytes) = Encoder::begin(format, &batch().schema()).unwrap();
        bytes.extend(encoder.write(&batch()).unwrap());
        bytes.extend(encoder.finish().unwrap());
        bytes
    }

    #[test]
    fn csv_has_a_header_and_leaves_the_absent_empty() {
        let text = String::from_utf8(whole(ExportFormat::Csv)).unwrap();

        assert_eq!(
            text,
            "time,name,score,cpu_usage_us\r\n2023-11-14T22:13:20.005Z,\"'=x\"\"\n\",0.3,7\r\n2023-11-14T22:13:21.000Z,b,NaN,\r\n"
        );
    }

    #[test]
    fn every_line_of_jsonl_is_an_object_and_null_is_absent() {
        let text = String::from_utf8(whole(ExportFormat::Jsonl)).unwrap();

        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], serde_json::json!({"time":"2023-11-14T22:13:20.005Z","name":"=x\"\n","score":0.3,"cpu_usage_us":7}));
        assert_eq!(lines[1]["cpu_usage_us"], serde_json::Value::Null);
        assert_eq!(lines[1]["score"], serde_json::Value::Null);
    }

    #[test]
    fn parquet_reads_back_as_the_same_rows() {
        let bytes = bytes::Bytes::from(whole(ExportFormat::Parquet));

        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let read: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(csv(&read[0]).unwrap(), csv(&batch()).unwrap());
    }
}
