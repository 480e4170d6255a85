//! What was acknowledged is there exactly once, whatever happens in between.

use std::fs;

use crate::support::{SPOOL, START, ask, batch, config, count, subject};
use vedette_history::{History, HistoryError};
use vedette_proto::v1::Dropped;

const SUM: &str = "SELECT count(*), count(distinct cpu_usage_us), sum(cpu_usage_us), count(pids_current) FROM observations";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_the_same_in_the_log_and_in_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web"), subject("db")];
    let history = History::open(config(dir.path())).await.unwrap();
    for sequence in 1..=20 {
        history.append(batch(&subjects, sequence, START + sequence as i64 * 1_000)).await.unwrap();
    }

    let from_log = ask(&history, SUM).await.unwrap();
    history.maintain(START, &[]).await.unwrap();
    let from_files = ask(&history, SUM).await.unwrap();
    history.append(batch(&subjects, 21, START + 21_000)).await.unwrap();
    let from_both = ask(&history, SUM).await.unwrap();

    assert_eq!(from_log, [[Some(40), Some(40), Some(420_020), Some(8)]]);
    assert_eq!(from_files, from_log);
    assert_eq!(from_both, [[Some(42), Some(42), Some(462_021), Some(8)]]);
    let one = "SELECT count(*) FROM observations WHERE container_id = 'db-0123456789ab' AND time >= to_timestamp_millis(1760000405000)";
    assert_eq!(ask(&history, one).await.unwrap(), [[Some(17)]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_sent_again_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web")];
    let history = History::open(config(dir.path())).await.unwrap();
    history.append(batch(&subjects, 1, START)).await.unwrap();
    history.maintain(START, &[]).await.unwrap();
    history.close().await.unwrap();

    let history = History::open(config(dir.path())).await.unwrap();
    history.append(batch(&subjects, 1, START)).await.unwrap();

    assert_eq!(history.acknowledged("node-a", &SPOOL), 1);
    assert_eq!(count(&history).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_cut_at_any_byte_keeps_every_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web")];
    let history = History::open(config(dir.path())).await.unwrap();
    for sequence in 1..=3 {
        history.append(batch(&subjects, sequence, START)).await.unwrap();
    }
    history.close().await.unwrap();
    let log = dir.path().join("wal/0000000001.wal");
    let whole = fs::read(&log).unwrap();

    let mut before = 0;
    for cut in (0..whole.len()).step_by(7).chain([whole.len()]) {
        fs::write(&log, &whole[..cut]).unwrap();
        let history = History::open(config(dir.path())).await.unwrap();
        let acknowledged = history.acknowledged("node-a", &SPOOL);
        assert_eq!(count(&history).await as u64, acknowledged, "cut at {cut}");
        assert!(acknowledged >= before, "cut at {cut}");
        before = acknowledged;
        history.close().await.unwrap();
    }
    assert_eq!(before, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_kill_leaves_behind_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web")];
    let history = History::open(config(dir.path())).await.unwrap();
    history.append(batch(&subjects, 1, START)).await.unwrap();
    let log = dir.path().join("wal/0000000001.wal");
    let segment = fs::read(&log).unwrap();
    history.maintain(START, &[]).await.unwrap();
    history.close().await.unwrap();
    // Killed after the transaction, before the segment went; and, elsewhere, before a transaction.
    fs::write(&log, segment).unwrap();
    let stray = dir.path().join("observations/date=2025-10-09/hour=09/0000009999.parquet");
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, b"not in the manifest").unwrap();

    let history = History::open(config(dir.path())).await.unwrap();

    assert_eq!(count(&history).await, 1);
    assert!(!log.exists() && !stray.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_and_another_owner_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    assert!(matches!(History::open(config(dir.path())).await, Err(HistoryError::InUse { .. })));
    history.close().await.unwrap();
    fs::write(dir.path().join("VERSION"), "2\n").unwrap();

    let error = History::open(config(dir.path())).await.err().unwrap();

    assert!(matches!(error, HistoryError::Version { .. }), "{error}");
    assert_eq!(fs::read_to_string(dir.path().join("VERSION")).unwrap(), "2\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_past_hour_become_one() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web"), subject("db")];
    let history = History::open(config(dir.path())).await.unwrap();
    for sequence in 1..=4 {
        history.append(batch(&subjects, sequence, START + sequence as i64 * 1_000)).await.unwrap();
        history.maintain(START, &[]).await.unwrap();
    }
    let before = (history.stats().files, ask(&history, SUM).await.unwrap());

    history.maintain(START + 7_200_000, &[]).await.unwrap();

    assert_eq!((before.0, history.stats().files), (4, 1));
    assert_eq!(ask(&history, SUM).await.unwrap(), before.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_present_hour_are_merged_when_there_are_many() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web"), subject("db")];
    let history = History::open(config(dir.path())).await.unwrap();
    let mut files = Vec::new();
    for sequence in 1..=33 {
        history.append(batch(&subjects, sequence, START + sequence as i64 * 1_000)).await.unwrap();
        history.maintain(START, &[]).await.unwrap();
        files.push(history.stats().files);
    }

    assert_eq!((files[30], files[31], files[32]), (31, 1, 2));
    assert_eq!(ask(&history, SUM).await.unwrap(), [[Some(66), Some(66), Some(33 * 34 * 1_000 + 33), Some(12)]]);
    assert_eq!(history.stats().problems, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_a_row_of_its_own_table() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    let gap = Dropped { batches: 4, observations: 40, first_unix_ms: START, last_unix_ms: START + 4, reason: "spool full".into() };
    history.append(vedette_history::StoredBatch { gap: Some(gap), ..batch(&[], 5, START) }).await.unwrap();

    let sql = "SELECT sequence, batches, observations FROM gaps WHERE reason = 'spool full'";
    let from_log = ask(&history, sql).await.unwrap();
    history.maintain(START, &[]).await.unwrap();

    assert_eq!(from_log, [[Some(5), Some(4), Some(40)]]);
    assert_eq!(ask(&history, sql).await.unwrap(), from_log);
}
