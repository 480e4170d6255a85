//! Batches that look like a small node's, and rows read back through SQL.

use std::{path::Path, sync::Arc};

use arrow::{array::AsArray, datatypes::Int64Type};
use vedette_history::{Config, History, QueryLimits, StoredBatch, StoredVerdict, Subject};
use vedette_proto::{
    Block, Column, Observation,
    v1::{Kind, Origin, Workload},
};

pub const START: i64 = 1_760_000_400_000;
pub const SPOOL: [u8; 16] = [7; 16];

pub fn config(dir: &Path) -> Config {
    Config { dir: dir.to_owned(), seal_after_seconds: 0, commit_interval_ms: 0, ..Config::default() }
}

pub fn subject(name: &str) -> Arc<Subject> {
    let workload = Workload {
        cluster: "lab".into(),
        namespace: "shop".into(),
        owner_kind: "Deployment".into(),
        owner_name: name.into(),
        container_name: "main".into(),
    };
    Arc::new(Subject {
        cluster: "lab".into(),
        node: "node-a".into(),
        workload,
        container_id: format!("{name}-0123456789ab"),
        pod_uid: format!("uid-{name}"),
        pod_name: format!("{name}-0"),
        cgroup: format!("/kubepods/{name}"),
    })
}

/// A tick in which each container used `sequence * 1000 + its place` microseconds of CPU.
pub fn batch(subjects: &[Arc<Subject>], sequence: u64, unix_ms: i64) -> StoredBatch {
    let row = |place: usize| {
        let mut row = Observation::default();
        row.set(Column::IntervalUs, 1_000_000);
        row.set(Column::CpuUsageUs, sequence * 1_000 + place as u64);
        row.set_if(Column::PidsCurrent, sequence.is_multiple_of(5).then_some(3));
        row
    };
    StoredBatch {
        subjects: subjects.to_vec(),
        node: "node-a".into(),
        spool_id: SPOOL,
        sequence,
        origin: Origin::Live,
        block: Block { unix_ms, container_refs: (1..=subjects.len() as u32).collect(), rows: (0..subjects.len()).map(row).collect() },
        verdicts: vec![StoredVerdict { score: 0.25, kind: Kind::Normal }; subjects.len()],
        gap: None,
    }
}

pub async fn ask(history: &History, sql: &str) -> Result<Vec<Vec<Option<i64>>>, String> {
    let session = history.session().map_err(|error| error.to_string())?;
    let mut answer = history.query(&session, sql, QueryLimits::default()).await.map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for batch in answer.collect().await.map_err(|error| error.to_string())? {
        let columns: Vec<_> = batch.columns().iter().map(|column| column.as_primitive::<Int64Type>().clone()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| arrow::array::Array::is_valid(column, row).then(|| column.value(row))).collect());
        }
    }
    Ok(rows)
}

pub async fn count(history: &History) -> i64 {
    ask(history, "SELECT count(*) FROM observations").await.unwrap()[0][0].unwrap()
}
