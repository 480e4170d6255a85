//! A small aggregator without network for the tests of its services: a real history and a real store in a directory of their own.

use std::sync::Arc;

use tokio::sync::broadcast;
use vedette_history::{History, StoredBatch, StoredVerdict, Subject};
use vedette_proto::{
    Block, Column, Observation,
    v1::{Evidence, Incident, Kind, Label, LabelSource, Origin, Selector, Severity, TimeRange, Workload},
};

use crate::{
    CHANGES_KEPT, Shared,
    counters::Counters,
    fleet::{Fleet, Limits},
    policy::Desk,
    problems::Problems,
    store::{Store, now_unix_ms},
};

/// 2023-11-14T22:13:20Z, a multiple of ten seconds.
pub const T0: i64 = 1_700_000_000_000;

pub struct World {
    pub shared: Shared,
    _dir: tempfile::TempDir,
}

pub fn workload(name: &str) -> Workload {
    Workload {
        cluster: "prod".into(),
        namespace: "shop".into(),
        owner_kind: "Deployment".into(),
        owner_name: name.into(),
        container_name: "main".into(),
    }
}

/// The id of the container of a workload: 64 digits.
pub fn container_id(name: &str) -> String {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<64}")
}

pub fn label(name: &str, range: (i64, i64), kind: Kind, source: LabelSource) -> Label {
    Label {
        selector: Some(Selector { owner_name: name.into(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms: range.0, end_unix_ms: range.1 }),
        kind: kind.into(),
        source: source.into(),
        author: "anna".into(),
        ..Label::default()
    }
}

pub fn incident(id: u64, name: &str, onset: i64) -> Incident {
    Incident {
        id,
        workload: Some(workload(name)),
        kind: Kind::Mining.into(),
        severity: Severity::Ticket.into(),
        onset_unix_ms: onset,
        opened_unix_ms: onset + 5_000,
        updated_unix_ms: onset + 5_000,
        container_ids: vec![container_id(name)],
        nodes: vec!["n1".into()],
        evidence: vec![Evidence { feature: "cpu_cores".into(), ..Evidence::default() }],
        origin: Origin::Late.into(),
        ..Incident::default()
    }
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = vedette_history::Config { dir: dir.path().join("history"), ..vedette_history::Config::default() };
        let limits = Limits { max_nodes: 10, max_replays: 2, max_gone_containers: 10, node_retention_ms: 86_400_000 };
        let store = Store::open(&dir.path().join("meta.db")).await.unwrap();
        let fleet = Arc::new(Fleet::new("prod", limits));
        let policy = vedette_detect::policy::Config::default();
        let policy = Desk::open("prod".into(), policy, store.clone(), Arc::clone(&fleet), now_unix_ms()).await.unwrap();
        let shared = Shared {
            cluster: "prod".into(),
            history: History::open(config).await.unwrap(),
            store,
            fleet,
            policy: Arc::new(policy),
            counters: Arc::new(Counters::default()),
            problems: Arc::new(Problems::default()),
            changes: broadcast::channel(CHANGES_KEPT).0,
            started_unix_ms: T0,
        };
        Self { shared, _dir: dir }
    }

    /// A row per second and workload from `T0 + 1 s` on: half a core, 100 bytes sent, 200 received, 1,000 bytes of memory; and the node's.
    pub async fn observe(&self, workloads: &[&str], seconds: i64) {
        let subject = |name: &str| {
            Arc::new(Subject {
                cluster: "prod".into(),
                node: "n1".into(),
                workload: workload(name),
                container_id: container_id(name),
                pod_uid: String::new(),
                pod_name: format!("{name}-0"),
                cgroup: format!("/kubepods/{name}"),
            })
        };
        let mut subjects: Vec<Arc<Subject>> = workloads.iter().map(|name| subject(name)).collect();
        subjects.push(Arc::new(Subject {
            cluster: "prod".into(),
            node: "n1".into(),
            workload: Workload { cluster: "prod".into(), owner_kind: "Node".into(), owner_name: "n1".into(), ..Workload::default() },
            ..Subject::default()
        }));
        let mut row = Observation::default();
        for (column, value) in [
            (Column::IntervalUs, 1_000_000),
            (Column::CpuUsageUs, 500_000),
            (Column::MemoryCurrentBytes, 1_000),
            (Column::NetTxBytes, 100),
            (Column::NetRxBytes, 200),
        ] {
            row.set(column, value);
        }
        for second in 1..=seconds {
            let rows = vec![row; subjects.len()];
            let block = Block { unix_ms: T0 + second * 1000, container_refs: (0..rows.len() as u32).collect(), rows };
            let batch = StoredBatch {
                verdicts: vec![StoredVerdict { score: 0.25, kind: Kind::Normal }; subjects.len()],
                subjects: subjects.clone(),
                node: "n1".into(),
                spool_id: [1; 16],
                sequence: second as u64,
                origin: Origin::Live,
                block,
                gap: None,
            };
            self.shared.history.append(batch).await.unwrap();
        }
    }

    pub async fn label(&self, labels: Vec<Label>) -> Vec<u64> {
        let labels = crate::label::check::labels(labels, "prod").unwrap();
        self.shared.store.add_labels(&labels).await.unwrap()
    }
}
