//! Statements that want to write, to see files, or never to end.

use std::time::{Duration, Instant};

use crate::support::{START, ask, batch, config, count, subject};
use vedette_history::{Config, History, HistoryError, QueryLimits};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_can_only_read() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    history.append(batch(&[subject("web")], 1, START)).await.unwrap();
    let out = dir.path().join("out.csv");
    let hostile = [
        format!("COPY (SELECT 1) TO '{}'", out.display()),
        format!("COPY observations TO '{}' STORED AS PARQUET", out.display()),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "CREATE VIEW t AS SELECT 1".to_owned(),
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".to_owned(),
        "INSERT INTO observations SELECT * FROM observations".to_owned(),
        "DELETE FROM observations".to_owned(),
        "UPDATE observations SET score = 0".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SET datafusion.runtime.memory_limit = '100G'".to_owned(),
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM 'file:///etc/passwd'".to_owned(),
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1".to_owned(),
        format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{}'", out.display()),
        "PREPARE p AS SELECT 1".to_owned(),
        "DROP TABLE observations".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        String::new(),
    ];

    for sql in hostile {
        assert!(ask(&history, &sql).await.is_err(), "{sql}");
    }
    assert!(!out.exists());
    assert_eq!(count(&history).await, 1);
}

async fn error_of(history: &History, sql: &str, limits: QueryLimits) -> Option<HistoryError> {
    let session = history.session().unwrap();
    match history.query(&session, sql, limits).await {
        Err(error) => Some(error),
        Ok(mut answer) => answer.collect().await.err(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_query_is_stopped_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    let subjects: Vec<_> = (0..200).map(|place| subject(&format!("web-{place}"))).collect();
    for sequence in 1..=5 {
        history.append(batch(&subjects, sequence, START)).await.unwrap();
    }
    let limits = QueryLimits { timeout: Duration::from_secs(1), ..QueryLimits::default() };
    let endless = [
        "SELECT count(*) FROM observations a, observations b, observations c, observations d, observations e WHERE a.score + b.score + c.score + d.score + e.score < 0",
        "SELECT max(a.value + b.value) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b",
    ];

    for sql in endless {
        let started = Instant::now();
        let error = error_of(&history, sql, limits).await;
        assert!(matches!(error, Some(HistoryError::QueryTimeout { seconds: 1 } | HistoryError::Query(_))), "{sql}: {error:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{sql} took {:?}", started.elapsed());
    }
    assert_eq!(count(&history).await, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_wants_more_memory_than_it_may_fails() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(Config { query_memory_bytes: 8 << 20, ..config(dir.path()) }).await.unwrap();

    let sort = "SELECT value FROM generate_series(1, 20000000) ORDER BY value % 7919";
    let error = error_of(&history, sort, QueryLimits::default()).await.unwrap();

    assert!(error.to_string().contains("esources exhausted"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_nobody_counts_cannot_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    let hostile = [
        "SELECT length(repeat('x', 2000000000))",
        "SELECT length(lpad('x', 2000000000, 'y'))",
        "SELECT length(rpad('x', 2000000000, 'y'))",
        "SELECT cardinality(range(0, 4000000000))",
        "SELECT cardinality(generate_series(0, 4000000000))",
        "SELECT cardinality(array_repeat(1, 4000000000))",
        "SELECT cardinality(list_repeat(1, 4000000000))",
        "SELECT cardinality(array_resize([1], 4000000000))",
        "SELECT cardinality(list_resize([1], 4000000000))",
        "WITH RECURSIVE t AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t",
    ];

    for sql in hostile {
        let error = error_of(&history, sql, QueryLimits::default()).await;
        let refused = error.as_ref().is_some_and(|error| {
            let text = error.to_string();
            text.contains("Invalid function") || text.contains("Recursive CTEs")
        });
        assert!(refused, "{sql}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deepest_statement_allowed_does_not_overflow_the_stack() {
    let dir = tempfile::tempdir().unwrap();
    let history = std::sync::Arc::new(History::open(config(dir.path())).await.unwrap());
    history.append(batch(&[subject("web")], 1, START)).await.unwrap();
    let sum = format!("SELECT cpu_usage_us {} FROM observations", "+ interval_us".repeat(250));
    let same = format!("SELECT count(*) FROM observations WHERE {}", vec!["cpu_usage_us = pids_current"; 240].join(" OR "));
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));

    // On a worker's stack, which is where the services ask, not on the test's own.
    let answers =
        tokio::spawn(async move { (ask(&history, &sum).await, ask(&history, &same).await, ask(&history, &deep).await) }).await.unwrap();

    assert_eq!(answers.0.unwrap(), [[Some(1_000 + 250 * 1_000_000)]]);
    assert_eq!(answers.1.unwrap(), [[Some(0)]]);
    assert!(answers.2.unwrap_err().contains("operators"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_longer_than_its_limit_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(dir.path())).await.unwrap();
    let session = history.session().unwrap();
    let limits = QueryLimits { max_rows: 10, ..QueryLimits::default() };

    let mut long = history.query(&session, "SELECT value FROM generate_series(1, 11)", limits).await.unwrap();
    let rows: usize = long.collect().await.unwrap().iter().map(arrow::array::RecordBatch::num_rows).sum();
    let mut fits = history.query(&session, "SELECT value FROM generate_series(1, 10)", limits).await.unwrap();
    fits.collect().await.unwrap();

    assert_eq!((rows, long.truncated(), fits.truncated()), (10, true, false));
}
