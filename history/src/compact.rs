//! Merging the small files of an hour that is past into one, in order and with bounded memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use datafusion::physical_plan::{execute_stream, sorts::sort_preserving_merge::SortPreservingMergeExec};
use futures::StreamExt;

use crate::{
    HistoryError, file_scan,
    files::{COMPACTED, KEPT, SEALED, StoredFile},
    history::{History, Inner},
    parquet_file::{self, FileWriter},
};

const HOUR_MS: i64 = 3_600_000;
/// Files merged at once: each costs a decoded batch and an open row group.
const FILES: usize = 32;
/// Rows decoded at once per file: with all columns about 1 MB each.
const BATCH_ROWS: usize = 1_024;
/// Memory of one merge, in bytes; what queries may use is another matter.
const MEMORY: usize = 512 << 20;
/// Rows of a merged file: what retention rewrites at once, and what a query opens at once.
const ROWS: u64 = 8 << 20;
/// An hour merged once is merged again only for this many late files.
const LATE_FILES: usize = 4;

/// Merges what is worth it, hour by hour.
pub(crate) async fn compact(history: &History, now_unix_ms: i64) -> Result<(), HistoryError> {
    let inner = &history.inner;
    let mut hours: BTreeMap<i64, Vec<Arc<StoredFile>>> = BTreeMap::new();
    for file in &inner.state.parts().files {
        let over = (file.max_unix_ms.div_euclid(HOUR_MS) + 1).saturating_mul(HOUR_MS) <= now_unix_ms;
        if over && file.level != KEPT {
            hours.entry(file.min_unix_ms.div_euclid(HOUR_MS)).or_default().push(Arc::clone(file));
        }
    }
    for mut files in hours.into_values() {
        files.sort_by_key(|file| file.rows);
        let mut rows = 0;
        let fits = |file: &&Arc<StoredFile>| {
            rows += file.rows;
            rows <= ROWS
        };
        let chosen: Vec<_> = files.iter().take(FILES).take_while(fits).cloned().collect();
        let fresh = chosen.iter().filter(|file| file.level == SEALED).count();
        if chosen.len() >= 2 && (fresh == chosen.len() || fresh >= LATE_FILES) {
            let merged = merge(history, &chosen).await?;
            inner.replace(&chosen, vec![merged]).await?;
        }
    }
    Ok(())
}

async fn merge(history: &History, files: &[Arc<StoredFile>]) -> Result<StoredFile, HistoryError> {
    let inner: &Inner = &history.inner;
    let session = history.session_within(MEMORY, BATCH_ROWS)?;
    let plan = file_scan::plan(files, &[], None, files.len(), true)?;
    let plan = Arc::new(SortPreservingMergeExec::new(file_scan::ordering()?, plan));
    let mut stream = execute_stream(plan, session.task_ctx())?;
    let id = inner.next_file.fetch_add(1, Ordering::Relaxed);
    let name = parquet_file::name(files[0].min_unix_ms, id);
    let path = inner.config.dir.join(&name);
    let runtime = tokio::runtime::Handle::current();
    let write = move || {
        let mut writer = FileWriter::create(&path, true)?;
        while let Some(batch) = runtime.block_on(stream.next()) {
            writer.write(&batch?)?;
        }
        let (rows, time) = (writer.rows, (writer.min_unix_ms, writer.max_unix_ms));
        let bytes = writer.finish()?;
        Ok(StoredFile::new(id, name, path, rows, bytes, time, COMPACTED, 0))
    };
    tokio::task::spawn_blocking(write).await.map_err(|error| HistoryError::Query(error.to_string()))?
}
