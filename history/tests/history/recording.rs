//! What was appended comes back value for value: from the log, from Parquet, and through a recording.

use std::{collections::HashSet, path::Path, sync::Arc};

use crate::support::{START, batch, config, subject};
use proptest::prelude::*;
use vedette_history::{History, QueryLimits, Recording, RecordingWriter, StoredBatch, StoredVerdict, Subject, ship};
use vedette_proto::{
    Block, Column, Observation,
    v1::{Kind, Origin, Workload},
};

/// One row as it must come back: time, subject, values, score, kind.
type Row = (i64, Arc<Subject>, Vec<(Column, u64)>, f32, Kind);

fn rows_of(unix_ms: i64, subjects: &[Arc<Subject>], rows: &[Observation], verdicts: &[StoredVerdict]) -> Vec<Row> {
    let parts = subjects.iter().zip(rows).zip(verdicts);
    parts.map(|((subject, row), verdict)| (unix_ms, Arc::clone(subject), row.iter().collect(), verdict.score, verdict.kind)).collect()
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| (a.0, &a.1.node, &a.1.container_id).cmp(&(b.0, &b.1.node, &b.1.container_id)));
    rows
}

/// Everything that the history holds, written as a recording and read from it.
async fn recorded(history: &History, path: &Path) -> Vec<Row> {
    let session = history.session().unwrap();
    let sql = "SELECT * FROM observations ORDER BY container_id, node, time";
    let limits = QueryLimits { max_rows: usize::MAX, ..QueryLimits::default() };
    let mut answer = history.query(&session, sql, limits).await.unwrap();
    let mut writer = RecordingWriter::create(path, true).unwrap();
    while let Some(rows) = answer.next().await {
        writer.write(&rows.unwrap()).unwrap();
    }
    let (rows, _) = writer.finish().unwrap();
    let recording = Recording::open(path).unwrap();
    assert_eq!(recording.observations() as u64, rows);
    let ticks: Vec<_> = recording.ticks().collect();
    assert!(ticks.windows(2).all(|pair| (pair[0].unix_ms, &pair[0].node) < (pair[1].unix_ms, &pair[1].node)), "ticks are out of order");
    assert!(ticks.iter().all(|tick| {
        tick.subjects
            .iter()
            .zip(&tick.block.container_refs)
            .all(|(subject, &reference)| (reference == 0) == subject.container_id.is_empty())
    }));
    ticks.iter().flat_map(|tick| rows_of(tick.unix_ms, &tick.subjects, &tick.block.rows, &tick.verdicts)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_plays_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(&dir.path().join("history"))).await.unwrap();
    let node = Subject { container_id: String::new(), ..subject("node").as_ref().clone() };
    let subjects = [Arc::new(node), subject("db"), subject("web")];
    let mut expected = Vec::new();
    for sequence in 1..=100 {
        let batch = batch(&subjects, sequence, START + sequence as i64 * 1_000);
        expected.extend(rows_of(batch.block.unix_ms, &subjects, &batch.block.rows, &batch.verdicts));
        history.append(batch).await.unwrap();
    }
    history.maintain(START, &[]).await.unwrap();

    let rows = recorded(&history, &dir.path().join("recording.parquet")).await;

    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shipped_recording_is_smaller_and_plays_the_same_without_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(&dir.path().join("history"))).await.unwrap();
    let renamed = |owner: &str| {
        let subject = subject("web").as_ref().clone();
        Arc::new(Subject { workload: Workload { owner_name: owner.into(), ..subject.workload }, ..subject })
    };
    for sequence in 1..=100 {
        // Who the pod is becomes known after its first row.
        let subjects = [subject("db"), renamed(if sequence == 1 { "uid" } else { "shop" })];
        history.append(batch(&subjects, sequence, START + sequence as i64 * 1_000)).await.unwrap();
    }
    let recorded = recorded(&history, &dir.path().join("recording.parquet")).await;

    let path = |name: &str| dir.path().join(name);
    let (rows, bytes) = ship(&path("recording.parquet"), &path("shipped.parquet"), &HashSet::new()).unwrap();
    let again = ship(&path("shipped.parquet"), &path("again.parquet"), &HashSet::new()).unwrap();
    let (less, _) = ship(&path("shipped.parquet"), &path("less.parquet"), &HashSet::from([renamed("").container_id.clone()])).unwrap();

    let shipped = Recording::open(&dir.path().join("shipped.parquet")).unwrap();
    let played: Vec<Row> =
        shipped.ticks().flat_map(|tick| rows_of(tick.unix_ms, &tick.subjects, &tick.block.rows, &tick.verdicts)).collect();
    let expected = recorded.into_iter().map(|(unix_ms, subject, values, ..)| {
        let subject = if subject.container_id == renamed("").container_id { renamed("shop") } else { subject };
        (unix_ms, subject, values, 0.0, Kind::Unspecified)
    });
    assert_eq!(sorted(played), sorted(expected.collect()));
    assert_eq!((rows, shipped.observations(), shipped.container_observations()), (200, 200, 200));
    assert!(bytes * 2 < std::fs::metadata(dir.path().join("recording.parquet")).unwrap().len(), "{bytes} bytes");
    assert_eq!((again, less), ((rows, bytes), 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_recording_is_named_with_its_column() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::open(config(&dir.path().join("history"))).await.unwrap();
    history.append(batch(&[subject("web")], 1, START)).await.unwrap();
    let text = dir.path().join("text.parquet");
    std::fs::write(&text, "time,cpu\n").unwrap();
    let session = history.session().unwrap();
    let mut answer = history.query(&session, "SELECT time, node FROM observations", QueryLimits::default()).await.unwrap();
    let narrow = answer.collect().await.unwrap().remove(0);

    let not_parquet = Recording::open(&text).err().unwrap().to_string();
    let mut writer = RecordingWriter::create(&dir.path().join("narrow.parquet"), false).unwrap();
    let missing = writer.write(&narrow).unwrap_err().to_string();
    drop(writer);

    assert!(not_parquet.contains("text.parquet"), "{not_parquet}");
    assert!(missing.contains("column cluster is missing"), "{missing}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("narrow")), "{left:?}");
}

fn any_subject(place: usize) -> impl Strategy<Value = Arc<Subject>> {
    // Names that SQL, paths or terminals would trip over; attackers choose them.
    let text = prop_oneof![Just(String::new()), "[a-z0-9-]{1,12}", "\\PC{0,8}", Just("'; DROP TABLE observations --\u{1b}[31m".to_owned())];
    prop::collection::vec(text, 7).prop_map(move |texts| {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap_or_default();
        let workload =
            Workload { cluster: "lab".into(), namespace: text(), owner_kind: text(), owner_name: text(), container_name: text() };
        Arc::new(Subject {
            cluster: "lab".into(),
            node: ["node-a", "node-b"][place % 2].into(),
            workload,
            container_id: if place < 2 { String::new() } else { format!("{place:04x}-{}", place * 7 % 5) },
            pod_uid: text(),
            pod_name: text(),
            cgroup: text(),
        })
    })
}

fn any_row() -> impl Strategy<Value = (Observation, f32, i32)> {
    let value = prop_oneof![0..100u64, 0..=i64::MAX as u64, Just(0), Just(i64::MAX as u64)];
    (prop::collection::vec((0..Column::COUNT, value), 0..20), 0f32..=1.0, 0..11i32).prop_map(|(pairs, score, kind)| {
        let mut row = Observation::default();
        pairs.into_iter().for_each(|(place, value)| row.set(Column::ALL[place], value));
        (row, score, kind)
    })
}

/// Batches at strictly rising times over hours, some without rows, each with some of 8 subjects.
fn any_batches() -> impl Strategy<Value = Vec<StoredBatch>> {
    let subjects: Vec<_> = (0..8).map(any_subject).collect();
    let tick = (1..2_000_000i64, any::<u8>(), prop::collection::vec(any_row(), 8));
    (subjects, prop::collection::vec(tick, 1..12)).prop_map(|(subjects, ticks)| {
        let mut unix_ms = START;
        let batches = ticks.into_iter().enumerate().map(|(place, (later, chosen, rows))| {
            unix_ms += later;
            let chosen: Vec<usize> = (0..8).filter(|bit| chosen >> bit & 1 == 1).collect();
            StoredBatch {
                subjects: chosen.iter().map(|&subject| Arc::clone(&subjects[subject])).collect(),
                node: "node-a".into(),
                spool_id: [1; 16],
                sequence: place as u64 + 1,
                origin: Origin::Late,
                block: Block {
                    unix_ms,
                    container_refs: (0..chosen.len() as u32).collect(),
                    rows: chosen.iter().map(|&subject| rows[subject].0).collect(),
                },
                verdicts: chosen
                    .iter()
                    .map(|&subject| StoredVerdict { score: rows[subject].1, kind: Kind::try_from(rows[subject].2).unwrap_or_default() })
                    .collect(),
                gap: None,
            }
        });
        batches.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_come_back_from_the_log_from_parquet_and_merged(batches in any_batches()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let expected = sorted(batches.iter().flat_map(|b| rows_of(b.block.unix_ms, &b.subjects, &b.block.rows, &b.verdicts)).collect());
        let dir = tempfile::tempdir().unwrap();
        let [from_log, from_files, merged] = runtime.block_on(async {
            let history = History::open(config(&dir.path().join("history"))).await.unwrap();
            let half = batches.len() / 2;
            for (place, batch) in batches.into_iter().enumerate() {
                if place == half {
                    history.maintain(START, &[]).await.unwrap();
                }
                history.append(batch).await.unwrap();
            }
            let from_log = recorded(&history, &dir.path().join("1.parquet")).await;
            history.maintain(START, &[]).await.unwrap();
            let from_files = recorded(&history, &dir.path().join("2.parquet")).await;
            history.maintain(START + 2 * 86_400_000, &[]).await.unwrap();
            let merged = recorded(&history, &dir.path().join("3.parquet")).await;
            history.close().await.unwrap();
            [from_log, from_files, merged].map(sorted)
        });

        prop_assert_eq!(&from_log, &expected);
        prop_assert_eq!(&from_files, &expected);
        prop_assert_eq!(&merged, &expected);
    }
}
