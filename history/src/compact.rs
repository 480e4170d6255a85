//! Merging the small files of an hour into one, in order and with bounded memory: all of an hour that is past, and of the present
//! one whenever there are as many as a merge takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use datafusion::physical_plan::{execute_stream, sorts::sort_preserving_merge::SortPreservingMergeExec};
use futures::StreamExt;

use crate::{
    HistoryError, file_scan,
    files::{COMPACTED, KEPT, Made, SEALED, StoredFile},
    history::{History, Inner},
    parquet_file::{self, FileWriter},
    retain::DAY_MS,
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
/// Merges of one round of maintenance: more than a minute of the busiest cluster makes, and few enough that a stop waits for them.
const MERGES: usize = 8;

/// Merges what is worth it, the oldest hours first. Between two merges others may seal.
pub(crate) async fn compact(history: &History, now_unix_ms: i64) -> Result<(), HistoryError> {
    let inner = &history.inner;
    for _ in 0..MERGES {
        let _one = inner.work.lock().await;
        let files = inner.state.parts().files.clone();
        let Some(chosen) = choose(files, now_unix_ms) else { break };
        let merged = merge(history, &chosen).await?;
        inner.replace(&chosen, vec![merged]).await?;
    }
    Ok(())
}

/// The files to merge next, if any are worth it. Replays are merged by themselves and with those stored on the same day, because
/// that is what their age counts from.
fn choose(files: Vec<Arc<StoredFile>>, now_unix_ms: i64) -> Option<Vec<Arc<StoredFile>>> {
    let mut groups: BTreeMap<(i64, bool, i64), Vec<Arc<StoredFile>>> = BTreeMap::new();
    for file in files.into_iter().filter(|file| file.made.level != KEPT) {
        let Made { replay, stored_unix_ms, .. } = file.made;
        let stored_day = if replay { stored_unix_ms.div_euclid(DAY_MS) } else { 0 };
        groups.entry((file.min_unix_ms.div_euclid(HOUR_MS), replay, stored_day)).or_default().push(file);
    }
    groups.into_iter().find_map(|((hour, ..), mut files)| {
        files.sort_by_key(|file| file.rows);
        let mut rows = 0;
        let fits = |file: &&Arc<StoredFile>| {
            rows += file.rows;
            rows <= ROWS
        };
        let chosen: Vec<_> = files.iter().take(FILES).take_while(fits).cloned().collect();
        let fresh = chosen.iter().filter(|file| file.made.level == SEALED).count();
        let over = (hour + 1).saturating_mul(HOUR_MS) <= now_unix_ms;
        let worth_it = if over { chosen.len() >= 2 && (fresh == chosen.len() || fresh >= LATE_FILES) } else { fresh == FILES };
        worth_it.then_some(chosen)
    })
}

async fn merge(history: &History, files: &[Arc<StoredFile>]) -> Result<StoredFile, HistoryError> {
    let inner: &Inner = &history.inner;
    let session = history.session_within(MEMORY, BATCH_ROWS)?;
    let plan = file_scan::sorted(files)?;
    let plan = Arc::new(SortPreservingMergeExec::new(file_scan::ordering()?, plan));
    let mut stream = execute_stream(plan, session.task_ctx())?;
    let id = inner.next_file.fetch_add(1, Ordering::Relaxed);
    let name = parquet_file::name(files[0].min_unix_ms, id);
    let path = inner.config.dir.join(&name);
    let stored_unix_ms = files.iter().map(|file| file.made.stored_unix_ms).max().unwrap_or(0);
    let made = Made { level: COMPACTED, kept_for: 0, replay: files[0].made.replay, stored_unix_ms };
    let runtime = tokio::runtime::Handle::current();
    let write = move || {
        let mut writer = FileWriter::create(&path, true)?;
        while let Some(batch) = runtime.block_on(stream.next()) {
            writer.write(&batch?)?;
        }
        let (rows, time) = (writer.rows, (writer.min_unix_ms, writer.max_unix_ms));
        let bytes = writer.finish()?;
        Ok(StoredFile::new(id, name, path, rows, bytes, time, made))
    };
    tokio::task::spawn_blocking(write).await.map_err(|error| HistoryError::Query(error.to_string()))?
}
