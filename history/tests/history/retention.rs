//! What goes, when, and what stays: by age, by size, and for replays by when they were stored.

use std::time::SystemTime;

use crate::support::{START, ask, batch, config, count, subject};
use sqlx::Connection;
use vedette_history::{Config, History, Protected, StoredBatch};
use vedette_proto::v1::{Origin, Selector};

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A batch of a replay: a spool of its own.
fn replayed(subjects: &[std::sync::Arc<vedette_history::Subject>], sequence: u64, unix_ms: i64) -> StoredBatch {
    StoredBatch { origin: Origin::Replay, spool_id: [9; 16], ..batch(subjects, sequence, unix_ms) }
}

async fn rows_of(history: &History, origin: &str) -> i64 {
    ask(history, &format!("SELECT count(*) FROM observations WHERE origin = '{origin}'")).await.unwrap()[0][0].unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_spares_what_is_protected() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web"), subject("db")];
    let history = History::open(config(dir.path())).await.unwrap();
    for sequence in 1..=10 {
        history.append(batch(&subjects, sequence, START + sequence as i64 * 1_000)).await.unwrap();
    }
    let protected = Protected {
        start_unix_ms: START + 3_000,
        end_unix_ms: START + 6_000,
        selector: Selector { owner_name: "db".into(), ..Selector::default() },
    };
    let later = START + 15 * 86_400_000;

    history.maintain(later, std::slice::from_ref(&protected)).await.unwrap();
    let kept = count(&history).await;
    history.maintain(later, &[protected]).await.unwrap();
    let kept_again = count(&history).await;
    history.maintain(later, &[]).await.unwrap();

    assert_eq!((kept, kept_again, count(&history).await), (3, 3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_ages_from_when_it_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web"), subject("db")];
    let history = History::open(config(dir.path())).await.unwrap();
    let stored = now();
    let long_ago = stored - 400 * DAY_MS;
    // In one segment of the log, of the same hour.
    history.append(batch(&subjects, 1, long_ago)).await.unwrap();
    history.append(replayed(&subjects, 1, long_ago)).await.unwrap();
    history.maintain(stored, &[]).await.unwrap();
    let at_once = (rows_of(&history, "live").await, rows_of(&history, "replay").await);
    history.close().await.unwrap();

    let history = History::open(config(dir.path())).await.unwrap();
    history.append(replayed(&subjects, 2, long_ago + 1)).await.unwrap();
    history.maintain(stored + 13 * DAY_MS, &[]).await.unwrap();
    let before = (history.stats().files, count(&history).await);
    history.maintain(stored + 15 * DAY_MS, &[]).await.unwrap();

    assert_eq!(at_once, (0, 2));
    assert_eq!(before, (1, 4), "replays of a day and hour are merged");
    assert_eq!(count(&history).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_keep_to_their_share_and_leave_the_rest_to_what_is_live() {
    let dir = tempfile::tempdir().unwrap();
    let subjects: Vec<_> = (0..40).map(|place| subject(&format!("web-{place}"))).collect();
    let history = History::open(config(dir.path())).await.unwrap();
    for sequence in 1..=8 {
        history.append(batch(&subjects, sequence, START + sequence as i64 * HOUR_MS)).await.unwrap();
        // The first that is stored tells of the latest hour: the age of what it tells of does not decide.
        history.append(replayed(&subjects, sequence, START - sequence as i64 * HOUR_MS)).await.unwrap();
        history.maintain(START, &[]).await.unwrap();
    }
    let all = history.stats();
    let per_file = all.bytes / 16;
    history.close().await.unwrap();

    // Room for eight of sixteen files, two of them replayed.
    let config = Config { retention_bytes: per_file * 17 / 2, retention_days: 36_500, ..config(dir.path()) };
    let history = History::open(config).await.unwrap();
    history.maintain(START, &[]).await.unwrap();

    assert_eq!(all.files, 16);
    assert_eq!((rows_of(&history, "live").await, rows_of(&history, "replay").await), (240, 80));
    let newest = "SELECT min(cpu_usage_us) / 1000 FROM observations WHERE origin = ";
    assert_eq!(ask(&history, &format!("{newest}'live'")).await.unwrap(), [[Some(3)]]);
    assert_eq!(ask(&history, &format!("{newest}'replay'")).await.unwrap(), [[Some(7)]]);
    assert_eq!(history.stats().problems, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_protected_outlives_the_limit_of_bytes_and_is_said_to() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web"), subject("db")];
    let history = History::open(Config { retention_bytes: 1, ..config(dir.path()) }).await.unwrap();
    let protected = |owner: &str| Protected {
        start_unix_ms: START,
        end_unix_ms: START + 3 * HOUR_MS,
        selector: Selector { owner_name: owner.into(), ..Selector::default() },
    };
    let both = [protected("web"), protected("db")];
    for sequence in 1..=4 {
        history.append(batch(&subjects, sequence, START + sequence as i64 * HOUR_MS)).await.unwrap();
        history.append(replayed(&subjects, sequence, START + sequence as i64 * HOUR_MS)).await.unwrap();
        history.maintain(START, &both).await.unwrap();
    }
    let all_of_two_hours = count(&history).await;
    history.maintain(START, &both[..1]).await.unwrap();

    assert_eq!((all_of_two_hours, count(&history).await), (8, 4));
    let problem = history.stats().problems.concat();
    assert!(problem.contains("retention_bytes = 1") && problem.contains("labelled"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_before_replays_were_told_apart_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let subjects = [subject("web")];
    let history = History::open(config(dir.path())).await.unwrap();
    history.append(batch(&subjects, 1, START)).await.unwrap();
    history.maintain(START, &[]).await.unwrap();
    history.close().await.unwrap();
    let path = format!("sqlite://{}", dir.path().join("manifest.db").display());
    let mut manifest = sqlx::SqliteConnection::connect(&path).await.unwrap();
    for column in ["replay", "stored_unix_ms"] {
        let drop = format!("ALTER TABLE files DROP COLUMN {column}");
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut manifest).await.unwrap();
    }
    manifest.close().await.unwrap();

    let history = History::open(config(dir.path())).await.unwrap();
    history.append(replayed(&subjects, 1, START)).await.unwrap();
    history.maintain(START, &[]).await.unwrap();

    assert_eq!((rows_of(&history, "live").await, rows_of(&history, "replay").await), (1, 1));
}
