//! Reading while rows are appended, sealed and merged: no row twice, none missing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{START, ask, batch, config, subject};
use vedette_history::{Config, History};

const BATCHES: u64 = 400;
/// Reads that must run meanwhile: a busy machine takes more batches for them.
const READS: u64 = 4;
const HOUR_MS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_each_row_once_while_it_is_sealed_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(Config { seal_rows: 30, ..config(dir.path()) }).await.unwrap();
    let subjects = [subject("web"), subject("db"), subject("queue")];
    let (durable, reads, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));

    let append = async {
        let mut sequence = 0;
        while sequence < BATCHES || reads.load(Ordering::SeqCst) < READS {
            sequence += 1;
            // Two hours, so that files are merged per hour while others of the hour still come.
            let unix_ms = START + (sequence % 2) as i64 * HOUR_MS + sequence as i64;
            history.append(batch(&subjects, sequence, unix_ms)).await.unwrap();
            durable.store(sequence, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
    };
    let maintain = async {
        while !over.load(Ordering::SeqCst) {
            history.maintain(START + 3 * HOUR_MS, &[]).await.unwrap();
        }
    };
    let read = async {
        while !over.load(Ordering::SeqCst) {
            let before = durable.load(Ordering::SeqCst) as i64;
            let row = &ask(&history, "SELECT count(*), count(distinct cpu_usage_us), max(cpu_usage_us) / 1000 FROM observations")
                .await
                .unwrap()[0];
            let (rows, distinct, last) = (row[0].unwrap(), row[1].unwrap(), row[2].unwrap_or(0));
            assert_eq!(rows, distinct, "a row twice");
            assert!(last >= before, "batch {before} was durable, {last} is the last one seen");
            assert_eq!(rows, last * 3, "a hole before batch {last}");
            reads.fetch_add(1, Ordering::SeqCst);
        }
    };
    tokio::join!(append, maintain, read);
    history.maintain(START + 3 * HOUR_MS, &[]).await.unwrap();

    let stats = history.stats();
    let batches = durable.into_inner();
    assert_eq!((stats.rows, stats.wal_rows), (batches * 3, 0));
    assert!(stats.files < BATCHES / 10, "{} files: nothing was merged", stats.files);
    assert_eq!(stats.problems, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_at_once_share_an_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(Config { commit_interval_ms: 5, ..config(dir.path()) }).await.unwrap();
    let subjects = [subject("web")];

    let append = |node: usize| {
        let (history, subjects) = (&history, &subjects);
        async move {
            for sequence in 1..=20 {
                let batch = batch(subjects, sequence, START);
                history.append(vedette_history::StoredBatch { node: format!("node-{node}"), ..batch }).await.unwrap();
            }
        }
    };
    futures::future::join_all((0..50).map(append)).await;

    let stats = history.stats();
    assert_eq!(stats.rows, 1_000);
    assert!(stats.syncs <= 250, "{} syncs for 1,000 batches of 50 callers", stats.syncs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_begun_before_its_files_went_is_still_whole() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    let subjects = [subject("web"), subject("db")];
    for sequence in 1..=10 {
        history.append(batch(&subjects, sequence, START)).await.unwrap();
    }
    history.maintain(START, &[]).await.unwrap();
    let session = history.session().unwrap();
    let limits = vedette_history::QueryLimits::default();
    let mut answer = history.query(&session, "SELECT cpu_usage_us FROM observations", limits).await.unwrap();

    history.maintain(START + 30 * 86_400_000, &[]).await.unwrap();

    assert_eq!(crate::support::count(&history).await, 0);
    assert_eq!(answer.collect().await.unwrap().iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 20);
}
