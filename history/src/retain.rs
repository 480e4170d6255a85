//! Letting go: by age and by size, except what is protected.
//!
//! A replay ages from when it was stored, and all replays together may have a share of the bytes: beyond it the ones stored first
//! go, within it the oldest of what was live makes room for both.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering},
};

use arrow::compute;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    HistoryError, Protected,
    files::{KEPT, Made, StoredFile},
    history::Inner,
    parquet_file::{self, FileWriter},
    protected::{fingerprint, mask},
};

pub(crate) const DAY_MS: i64 = 86_400_000;

/// Expires files that are too old, then the oldest ones while all together are too large.
pub(crate) async fn retain(inner: &Inner, now_unix_ms: i64, protected: &[Protected]) -> Result<(), HistoryError> {
    let days = i64::try_from(inner.config.retention_days).unwrap_or(i64::MAX);
    let horizon = now_unix_ms.saturating_sub(days.saturating_mul(DAY_MS));
    let mut files = inner.state.parts().files.clone();
    files.sort_by_key(|file| file.aged_from_unix_ms());
    for file in &files {
        if file.aged_from_unix_ms() < horizon {
            expire(inner, file, protected).await?;
        }
    }
    let limit = inner.config.retention_bytes;
    let share = (u128::from(limit) * u128::from(inner.config.retention_replay_percent.min(100)) / 100) as u64;
    let (replays, live): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.made.replay);
    shrink(inner, &replays, protected, || bytes(inner, |file| file.made.replay) > share).await?;
    shrink(inner, &live, protected, || bytes(inner, |_| true) > limit).await?;
    // What was live is protected: then replays go below their share.
    shrink(inner, &replays, protected, || bytes(inner, |_| true) > limit).await?;
    let bytes = bytes(inner, |_| true);
    let problem = (bytes > limit).then(|| {
        format!("history has {bytes} bytes, more than retention_bytes = {limit}: what is left is labelled or part of an incident")
    });
    inner.state.set_problem("retention", problem);
    Ok(())
}

fn bytes(inner: &Inner, of: impl Fn(&StoredFile) -> bool) -> u64 {
    inner.state.parts().files.iter().filter(|file| of(file)).map(|file| file.bytes).sum()
}

/// Expires files in their order while it is too much.
async fn shrink(
    inner: &Inner,
    files: &[Arc<StoredFile>],
    protected: &[Protected],
    too_much: impl Fn() -> bool,
) -> Result<(), HistoryError> {
    for file in files {
        if !too_much() {
            break;
        }
        let remains = inner.state.parts().files.iter().any(|other| other.id == file.id);
        if remains {
            expire(inner, file, protected).await?;
        }
    }
    Ok(())
}

/// Cuts a file down to its protected rows; without any it goes.
async fn expire(inner: &Inner, file: &Arc<StoredFile>, protected: &[Protected]) -> Result<(), HistoryError> {
    let relevant: Vec<&Protected> = protected.iter().filter(|range| range.touches(file.min_unix_ms, file.max_unix_ms)).collect();
    if relevant.is_empty() {
        return inner.replace(std::slice::from_ref(file), Vec::new()).await;
    }
    let kept_for = fingerprint(&relevant);
    if file.made.kept_for == kept_for {
        return Ok(());
    }
    let id = inner.next_file.fetch_add(1, Ordering::Relaxed);
    let (dir, old) = (inner.config.dir.clone(), Arc::clone(file));
    let owned: Vec<Protected> = relevant.into_iter().cloned().collect();
    let kept = tokio::task::spawn_blocking(move || rewrite(&dir, &old, &owned, id, kept_for))
        .await
        .map_err(|error| HistoryError::Query(error.to_string()))??;
    inner.replace(std::slice::from_ref(file), kept.into_iter().collect()).await
}

fn rewrite(
    dir: &std::path::Path,
    old: &StoredFile,
    protected: &[Protected],
    id: i64,
    kept_for: i64,
) -> Result<Option<StoredFile>, HistoryError> {
    let fail = |error: &dyn std::fmt::Display| HistoryError::parquet(&old.path, error);
    let source = File::open(&old.path).map_err(|error| HistoryError::file("open", &old.path, &error))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(source).and_then(|builder| builder.with_batch_size(8_192).build());
    let protected: Vec<&Protected> = protected.iter().collect();
    let name = parquet_file::name(old.min_unix_ms, id);
    let path = dir.join(&name);
    let mut writer = FileWriter::create(&path, true)?;
    for batch in reader.map_err(|error| fail(&error))? {
        let batch = batch.map_err(|error| fail(&error))?;
        let mask = mask(&batch, &protected).map_err(|error| fail(&error))?;
        if mask.true_count() > 0 {
            writer.write(&compute::filter_record_batch(&batch, &mask).map_err(|error| fail(&error))?)?;
        }
    }
    if writer.rows == 0 {
        return Ok(None);
    }
    let (rows, time) = (writer.rows, (writer.min_unix_ms, writer.max_unix_ms));
    let bytes = writer.finish()?;
    let made = Made { level: KEPT, kept_for, ..old.made };
    Ok(Some(StoredFile::new(id, name, path, rows, bytes, time, made)))
}
