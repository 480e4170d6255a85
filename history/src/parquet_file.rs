//! Writing one Parquet file: encodings per kind of column, and a name that appears only when everything is on disk.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute,
    datatypes::TimestampMillisecondType,
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::SortingColumn,
        properties::{EnabledStatistics, WriterProperties, WriterVersion},
    },
    schema::types::ColumnPath,
};
use vedette_proto::Column;

use crate::{
    HistoryError,
    schema::{SORT_ORDER, file_schema},
};

/// Rows of a row group: one container's hour in one, whatever its neighbours.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Rows of a page: a container's hour spans one or two, and the page index skips the rest.
const PAGE_ROWS: usize = 8_192;

fn properties(sorted: bool) -> WriterProperties {
    static PROPERTIES: LazyLock<WriterProperties> = LazyLock::new(|| {
        let mut builder = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_2_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            // A hundred value columns, most of them null in any row: their bounds would cost more than they skip.
            .set_statistics_enabled(EnabledStatistics::None)
            .set_created_by(concat!("vedette-history ", env!("CARGO_PKG_VERSION")).to_owned());
        for name in ["time", "container_id", "node", "namespace", "owner_name", "cluster"] {
            builder = builder.set_column_statistics_enabled(ColumnPath::from(name), EnabledStatistics::Page);
        }
        for name in std::iter::once("time").chain(Column::ALL.iter().map(|column| column.name())) {
            let path = ColumnPath::from(name);
            // Most deltas are small and repeat; a column that does not falls back to packed differences.
            builder = builder.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            builder = builder.set_column_dictionary_enabled(path, name != "time" && !name.ends_with("_us") && !name.ends_with("_bytes"));
        }
        builder.build()
    });
    let sorting = sorted.then(|| {
        SORT_ORDER.iter().map(|&place| SortingColumn { column_idx: place as i32, descending: false, nulls_first: false }).collect()
    });
    PROPERTIES.clone().into_builder().set_sorting_columns(sorting).build()
}

/// A file being written under a temporary name. Dropped before [`Self::finish`], it leaves nothing behind.
pub(crate) struct FileWriter {
    writer: Option<ArrowWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
    pub rows: u64,
    pub min_unix_ms: i64,
    pub max_unix_ms: i64,
}

impl FileWriter {
    pub(crate) fn create(path: &Path, sorted: bool) -> Result<Self, HistoryError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|error| HistoryError::file("create", parent, &error))?;
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let file = File::create(&temporary).map_err(|error| HistoryError::file("create", &temporary, &error))?;
        // Without Arrow's own schema in it the file is plain Parquet, the same for every reader.
        let options = ArrowWriterOptions::new().with_properties(properties(sorted)).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, file_schema(), options).map_err(|error| HistoryError::parquet(path, error))?;
        let (path, min_unix_ms, max_unix_ms) = (path.to_owned(), i64::MAX, i64::MIN);
        Ok(Self { writer: Some(writer), temporary, path, rows: 0, min_unix_ms, max_unix_ms })
    }

    /// Writes a batch of the observation schema; its text may have any Arrow string type.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), HistoryError> {
        let path = self.path.clone();
        let fail = |error: &dyn std::fmt::Display| HistoryError::parquet(&path, error);
        let batch = to_file_schema(batch).map_err(|error| fail(&error))?;
        let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
        self.min_unix_ms = self.min_unix_ms.min(compute::min(times).unwrap_or(i64::MAX));
        self.max_unix_ms = self.max_unix_ms.max(compute::max(times).unwrap_or(i64::MIN));
        self.rows += batch.num_rows() as u64;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write(&batch).map_err(|error| fail(&error))
    }

    /// Makes the file durable under its own name; returns its bytes.
    pub(crate) fn finish(mut self) -> Result<u64, HistoryError> {
        let Some(writer) = self.writer.take() else { return Ok(0) };
        let file = writer.into_inner().map_err(|error| HistoryError::parquet(&self.path, error))?;
        let fail = |action| move |error: std::io::Error| (action, error);
        let publish = || {
            file.sync_all().map_err(fail("sync"))?;
            fs::rename(&self.temporary, &self.path).map_err(fail("create"))?;
            let mut dir = self.path.parent();
            // The partition's directories may be new too: date= and hour=.
            for _ in 0..3 {
                let Some(path) = dir.filter(|path| !path.as_os_str().is_empty()) else { break };
                File::open(path).and_then(|dir| dir.sync_all()).map_err(fail("sync the directory of"))?;
                dir = path.parent();
            }
            file.metadata().map(|metadata| metadata.len()).map_err(fail("read"))
        };
        publish().map_err(|(action, error)| HistoryError::file(action, &self.path, &error))
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        drop(self.writer.take());
        let _ = fs::remove_file(&self.temporary);
    }
}

fn to_file_schema(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = file_schema();
    if batch.schema_ref().fields() == schema.fields() {
        return Ok(batch.clone());
    }
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let array = batch
            .column_by_name(field.name())
            .ok_or_else(|| arrow::error::ArrowError::SchemaError(format!("column {} is missing", field.name())))?;
        if array.data_type() == field.data_type() { Ok(Arc::clone(array)) } else { compute::cast(array, field.data_type()) }
    };
    RecordBatch::try_new(Arc::clone(&schema), schema.fields().iter().map(column).collect::<Result<_, _>>()?)
}

/// `observations/date=YYYY-MM-DD/hour=HH/<id>.parquet` for an instant.
pub(crate) fn name(unix_ms: i64, id: i64) -> String {
    let days = unix_ms.div_euclid(86_400_000);
    let hour = unix_ms.rem_euclid(86_400_000) / 3_600_000;
    let (year, month, day) = civil(days);
    format!("observations/date={year:04}-{month:02}-{day:02}/hour={hour:02}/{id:010}.parquet")
}

/// Days since 1970 to a date of the Gregorian calendar (eras of 400 years that begin on 1 March).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_for_its_hour() {
        assert_eq!(name(0, 7), "observations/date=1970-01-01/hour=00/0000000007.parquet");
        assert_eq!(name(1_709_251_199_999, 1), "observations/date=2024-02-29/hour=23/0000000001.parquet");
        assert_eq!(name(1_709_251_200_000, 1), "observations/date=2024-03-01/hour=00/0000000001.parquet");
        assert_eq!(name(crate::batch::LATEST_UNIX_MS, 1), "observations/date=9999-12-31/hour=23/0000000001.parquet");
    }
}
