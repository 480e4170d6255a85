//! Writing a recording, or the full export, from query results.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use crate::{HistoryError, parquet_file::FileWriter, schema::observation_schema};

/// Writes observations into one Parquet file: a recording, or the full export.
pub struct RecordingWriter {
    writer: FileWriter,
    path: PathBuf,
}

impl RecordingWriter {
    /// Begins a file; it appears under its name only when it is complete. `sorted` says that rows will come by container,
    /// node and time (`ORDER BY container_id, node, time`), which makes it several times smaller.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path, sorted: bool) -> Result<Self, HistoryError> {
        Ok(Self { writer: FileWriter::create(path, sorted)?, path: path.to_owned() })
    }

    /// Adds rows that have the columns of `observations`, in any order; others are left out.
    ///
    /// # Errors
    /// A column is missing, or the file cannot be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), HistoryError> {
        for field in observation_schema().fields() {
            if rows.column_by_name(field.name()).is_none() {
                let path = self.path.display().to_string();
                return Err(HistoryError::Schema { path, column: field.name().clone(), problem: "is missing".into() });
            }
        }
        self.writer.write(rows)
    }

    /// Completes the file; returns its rows and bytes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(u64, u64), HistoryError> {
        let rows = self.writer.rows;
        Ok((rows, self.writer.finish()?))
    }
}
