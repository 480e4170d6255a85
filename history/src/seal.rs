//! From a segment of the log to Parquet files, one per hour that it touches; what was replayed apart.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::SystemTime,
};

use arrow::array::Int32Array;

use crate::{
    HistoryError,
    files::{Made, SEALED, StoredFile},
    log_scan,
    manifest::Manifest,
    parquet_file::{self, FileWriter},
    rows::Rows,
    schema::file_schema,
    state::State,
    wal::segment::{Entry, Index, Segment},
};

/// Seals one closed segment: files, then one transaction, then the swap in memory, then the segment goes. Cut anywhere, the
/// next start finds the rows in exactly one of the two.
pub(crate) async fn seal(
    dir: &Path,
    state: &State,
    manifest: &Manifest,
    next_file: &Arc<AtomicI64>,
    segment: &Arc<Segment>,
) -> Result<(), HistoryError> {
    let index = segment.index().clone();
    let (dir, work, of, ids) = (dir.to_owned(), Arc::clone(segment), index.clone(), Arc::clone(next_file));
    let files = tokio::task::spawn_blocking(move || write_files(&dir, &work, &of, &ids))
        .await
        .map_err(|error| HistoryError::Query(error.to_string()))??;
    if let Err(error) = manifest.seal(segment.id, &index, &files).await {
        match manifest.sealed().await {
            // It was committed after all.
            Ok(sealed) if sealed.contains(&segment.id) => {}
            Ok(_) => {
                files.iter().for_each(StoredFile::doom);
                return Err(error);
            }
            // Nobody can say: the files stay until the next start knows.
            Err(_) => return Err(error),
        }
    }
    {
        let mut parts = state.parts_mut();
        parts.segments.retain(|other| other.id != segment.id);
        parts.files.extend(files.into_iter().map(Arc::new));
        parts.gaps.extend(index.gaps);
        let surplus = parts.gaps.len().saturating_sub(crate::state::GAPS);
        parts.gaps.drain(..surplus);
    }
    // Whoever reads it still has it open; the manifest says that it is sealed should this fail.
    std::fs::remove_file(&segment.path).map_err(|error| HistoryError::file("remove", &segment.path, &error))
}

fn write_files(dir: &Path, segment: &Segment, index: &Index, next_file: &AtomicI64) -> Result<Vec<StoredFile>, HistoryError> {
    let mut hours: BTreeMap<(bool, i64), Vec<&Entry>> = BTreeMap::new();
    for entry in &index.entries {
        hours.entry((entry.replay, entry.unix_ms.div_euclid(3_600_000))).or_default().push(entry);
    }
    let mut files: Vec<StoredFile> = Vec::new();
    for entries in hours.values() {
        match write_file(dir, segment, index, entries, next_file.fetch_add(1, Ordering::Relaxed)) {
            Ok(file) => files.push(file),
            Err(error) => {
                files.iter().for_each(StoredFile::doom);
                return Err(error);
            }
        }
    }
    Ok(files)
}

fn write_file(dir: &Path, segment: &Segment, index: &Index, entries: &[&Entry], id: i64) -> Result<StoredFile, HistoryError> {
    let name = parquet_file::name(entries[0].unix_ms, id);
    let path = dir.join(&name);
    let schema = file_schema();
    let projection: Vec<usize> = (0..schema.fields().len()).collect();
    let mut rows = Rows::new(&projection);
    for entry in entries {
        log_scan::push_entry(segment, entry, &mut rows, None)?;
    }
    let order = sorted(&rows, index);
    let batch = rows.finish(&index.subjects, &projection, &schema, Some(&order)).map_err(|error| HistoryError::parquet(&path, error))?;
    let mut writer = FileWriter::create(&path, true)?;
    writer.write(&batch)?;
    let (count, time) = (writer.rows, (writer.min_unix_ms, writer.max_unix_ms));
    let bytes = writer.finish()?;
    let made = Made { level: SEALED, kept_for: 0, replay: entries[0].replay, stored_unix_ms: now_unix_ms() };
    Ok(StoredFile::new(id, name, path, count, bytes, time, made))
}

fn now_unix_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The order of rows by container, node, time.
fn sorted(rows: &Rows, index: &Index) -> Int32Array {
    let mut subjects: Vec<u32> = (0..index.subjects.len() as u32).collect();
    let key = |&id: &u32| {
        let subject = &index.subjects[id as usize];
        (subject.container_id.as_str(), subject.node.as_str())
    };
    subjects.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    let mut ranks = vec![0u32; subjects.len()];
    let mut rank = 0;
    for (place, id) in subjects.iter().enumerate() {
        // Two subjects of one container (its identity came later) share a rank: its rows stay in order of time.
        if place > 0 && key(&subjects[place - 1]) != key(id) {
            rank += 1;
        }
        ranks[*id as usize] = rank;
    }
    let mut order: Vec<i32> = (0..rows.len() as i32).collect();
    order.sort_unstable_by_key(|&row| (ranks[rows.subjects[row as usize] as usize], rows.times[row as usize], row));
    order.into()
}
