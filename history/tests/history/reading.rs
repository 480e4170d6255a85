//! What a question reads: footers once, and of large files only the pages that may hold what is asked for.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::support::{START, ask, batch, config, subject};
use datafusion::physical_plan::{ExecutionPlan, collect, metrics::MetricValue};
use parquet::file::reader::{FileReader, SerializedFileReader};
use vedette_history::{Config, History};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("observations")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Overwrites everything behind the pages: page index and footer.
fn spoil_footer(path: &Path) {
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let columns = reader.metadata().row_groups().iter().flat_map(|group| group.columns());
    let end = columns.map(|column| column.byte_range()).map(|(start, bytes)| start + bytes).max().unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let rest = file.metadata().unwrap().len() - end;
    file.write_all_at(&vec![0; rest as usize], end).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_footer_of_a_file_is_read_by_the_first_session_only() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web"), subject("db")];
    let history = History::open(config(dir.path())).await.unwrap();
    for sequence in 1..=20 {
        history.append(batch(&subjects, sequence, START + sequence as i64 * 1_000)).await.unwrap();
    }
    history.maintain(START, &[]).await.unwrap();
    let sql = "SELECT count(*), sum(cpu_usage_us) FROM observations WHERE container_id = 'db-0123456789ab'";
    let first = ask(&history, sql).await.unwrap();

    files(dir.path()).iter().for_each(|path| spoil_footer(path));
    let second = ask(&history, sql).await.unwrap();
    history.close().await.unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    let anew = ask(&history, sql).await;

    assert_eq!((&first, &second), (&vec![vec![Some(20), Some(210_020)]], &first));
    assert!(anew.is_err(), "the footers were spoilt, and yet {anew:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planning_reads_nothing_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    history.append(batch(&[subject("web")], 1, START)).await.unwrap();
    history.maintain(START, &[]).await.unwrap();
    let (observations, away) = (dir.path().join("observations"), dir.path().join("away"));
    fs::rename(&observations, &away).unwrap();

    let session = history.session().unwrap();
    let frame =
        session.sql("SELECT * FROM observations WHERE container_id = 'x' OR time > to_timestamp_millis(1760000400000)").await.unwrap();
    let plan = frame.create_physical_plan().await;
    fs::rename(&away, &observations).unwrap();

    assert!(plan.is_ok(), "{plan:?}");
}

/// What a counter says of rows left out, over all parts of a plan.
fn counted(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    let own = match plan.metrics().and_then(|metrics| metrics.sum_by_name(name)) {
        Some(MetricValue::PruningMetrics { pruning_metrics, .. }) => pruning_metrics.pruned(),
        _ => 0,
    };
    own + plan.children().into_iter().map(|child| counted(child, name)).sum::<usize>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_labels_leave_pages_of_other_containers_unread() {
    let dir = tempfile::tempdir().unwrap();
    let subjects: Vec<_> = (0..100).map(|place| subject(&format!("web-{place:03}"))).collect();
    let history = History::open(Config { seal_rows: 1 << 20, ..config(dir.path()) }).await.unwrap();
    let mut receipts = Vec::new();
    for sequence in 1..=1_000 {
        receipts.push(history.submit(batch(&subjects, sequence, START + sequence as i64 * 1_000)).await.unwrap());
    }
    for receipt in receipts {
        receipt.durable().await.unwrap();
    }
    history.maintain(START, &[]).await.unwrap();
    assert_eq!((history.stats().files, history.stats().wal_rows), (1, 0));
    history.append(batch(&subjects, 1_001, START + 1_001_000)).await.unwrap();

    let one = "(container_id = 'web-017-0123456789ab' AND time >= to_timestamp_millis(1760000500000) AND time < to_timestamp_millis(1760000560000))";
    let other = "(container_id = 'web-071-0123456789ab' AND time >= to_timestamp_millis(1760000700000) AND time < to_timestamp_millis(1760000760000))";
    for (sql, rows) in
        [(format!("SELECT * FROM observations WHERE {one}"), 60), (format!("SELECT * FROM observations WHERE {one} OR {other}"), 120)]
    {
        let session = history.session().unwrap();
        let frame = session.sql(&sql).await.unwrap();
        let context = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await.unwrap();
        let found: usize = collect(Arc::clone(&plan), context).await.unwrap().iter().map(|batch| batch.num_rows()).sum();

        let pruned = counted(&plan, "page_index_rows_pruned");
        assert_eq!(found, rows);
        assert!(pruned >= 70_000, "{pruned} of 100,000 rows were left unread by {sql}");
    }
}
