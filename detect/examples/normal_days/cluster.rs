//! The made-up cluster: who lives on which node, what is rolled out and started when, and what the detector said.

use std::collections::BTreeMap;

use vedette_detect::{Config, ContainerAt, Detector, SubjectKey};
use vedette_proto::{
    Column, Observation,
    v1::{ContainerAdded, ContainerRemoved, Origin, Severity, Workload},
};

use crate::load::{Chance, Work, Worker};

const CLUSTER: &str = "made-up";
const NODES: u64 = 3;
/// CPUs of a node.
const CORES: u64 = 16;
/// Midnight of some day.
const START_S: i64 = 1_700_006_400;
/// Between two pods of a rollout.
const ROLLOUT_STEP_S: i64 = 25;

/// An owner: what its pods do, and how many there are.
struct Owner {
    kind: &'static str,
    name: String,
    work: Work,
    size: f64,
    replicas: usize,
    /// Seconds between rollouts; 0: never.
    rollout_s: i64,
    /// Pods that are still to be replaced, and when the next one is.
    replacing: (usize, i64),
    next_rollout: i64,
    /// Jobs: when the next one starts.
    next_job: i64,
    alive: Vec<Alive>,
}

struct Alive {
    key: u64,
    worker: Worker,
    ends: i64,
}

/// All of it.
pub struct Cluster {
    detector: Detector,
    owners: Vec<Owner>,
    chance: Chance,
    seed: u64,
    second: i64,
    next_key: u64,
    container_seconds: u64,
    /// Rows of containers and nodes that were judged.
    pub rows: u64,
    /// Incidents by number: the highest severity, and what people are shown without its numbers.
    pub told: BTreeMap<u64, (Severity, String)>,
}

impl Cluster {
    /// Everybody starts within the first minutes, as with an agent that is installed in a running cluster.
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, 0);
        let mut owners = Vec::new();
        let mut add = |kind, name: String, work, size: f64, replicas, rollout_h: f64| {
            let rollout_s = (rollout_h * 3_600.0) as i64;
            let next_rollout = if rollout_s == 0 { i64::MAX } else { START_S + (chance.between(0.3, 1.3) * rollout_s as f64) as i64 };
            let next_job = if work == Work::Job { START_S + chance.between(300.0, 3_900.0) as i64 } else { i64::MAX };
            let alive = Vec::new();
            owners.push(Owner { kind, name, work, size, replicas, rollout_s, replacing: (0, 0), next_rollout, next_job, alive });
        };
        for (place, size) in [15.0, 30.0, 50.0, 80.0, 120.0, 20.0, 200.0, 40.0].into_iter().enumerate() {
            add("Deployment", format!("web-{place}"), Work::Web, size, 3, 8.0);
        }
        for (place, size) in [5.0, 12.0, 20.0, 40.0].into_iter().enumerate() {
            add("Deployment", format!("client-{place}"), Work::Client, size, 2, 11.0);
        }
        (0..3).for_each(|place| add("StatefulSet", format!("cache-{place}"), Work::Cache, 60.0, 1, 0.0));
        (0..2).for_each(|place| add("StatefulSet", format!("database-{place}"), Work::Database, 40.0, 1, 0.0));
        for (place, size) in [0.3, 0.5, 0.7, 0.9, 0.95].into_iter().enumerate() {
            add("CronJob", format!("job-{place}"), Work::Job, size, 0, 0.0);
        }
        (0..2).for_each(|place| add("Deployment", format!("batch-{place}"), Work::Batch, 0.9, 1, 0.0));
        add("DaemonSet", "shipper".to_owned(), Work::Shipper, 1.0, 3, 24.0);
        add("Deployment", "scraper".to_owned(), Work::Scraper, 15.0, 1, 24.0);
        let detector = Detector::new(Config::default(), 1);
        let mut cluster =
            Self { detector, owners, chance, seed, second: START_S, next_key: NODES, container_seconds: 0, rows: 0, told: BTreeMap::new() };
        (0..NODES).for_each(|node| cluster.add_node(node));
        for place in 0..cluster.owners.len() {
            (0..cluster.owners[place].replicas).for_each(|_| cluster.start(place, i64::MAX, true));
        }
        cluster
    }

    /// Time that containers were observed.
    pub fn container_seconds(&self) -> f64 {
        self.container_seconds as f64
    }

    /// A second goes by.
    pub fn tick(&mut self) {
        self.second += 1;
        (0..self.owners.len()).for_each(|place| self.manage(place));
        let unix_ms = self.second * 1_000;
        let mut busy_us = [200_000u64; NODES as usize];
        let Self { detector, owners, rows, container_seconds, .. } = self;
        for alive in owners.iter_mut().flat_map(|owner| &mut owner.alive) {
            let row = alive.worker.row(self.second);
            busy_us[(alive.key % NODES) as usize] += row.get(Column::CpuUsageUs).unwrap_or(0);
            detector.observe(SubjectKey(alive.key), Origin::Live, unix_ms, &row);
            *rows += 1;
            *container_seconds += 1;
        }
        for (node, busy_us) in (0..).zip(busy_us) {
            let mut row = Observation::default();
            row.set(Column::IntervalUs, 1_000_000);
            row.set(Column::NodeCpuBusyUs, busy_us);
            row.set(Column::NodeCpuIdleUs, (CORES * 1_000_000).saturating_sub(busy_us));
            row.set(Column::NodeFsSizeBytes, 100 << 30);
            row.set(Column::NodeFsAvailableBytes, 60 << 30);
            detector.observe(SubjectKey(node), Origin::Live, unix_ms, &row);
            *rows += 1;
        }
        self.detector.advance(CLUSTER, unix_ms);
        for change in self.detector.changes() {
            let incident = change.incident;
            let severity = Severity::try_from(incident.severity).unwrap_or(Severity::Note);
            let owner = incident.workload.map_or_else(String::new, |workload| workload.owner_name);
            let kind = owner.split('-').next().unwrap_or_default().to_owned();
            let told = self.told.entry(incident.id).or_insert_with(|| (severity, format!("{} in a {kind}", incident.effect)));
            told.0 = told.0.max(severity);
        }
    }

    /// Jobs start and end, rollouts go on.
    fn manage(&mut self, place: usize) {
        let second = self.second;
        let ended: Vec<u64> = self.owners[place].alive.iter().filter(|alive| alive.ends <= second).map(|alive| alive.key).collect();
        ended.into_iter().for_each(|key| self.stop(place, key));
        if second >= self.owners[place].next_job {
            self.owners[place].next_job = second + 3_600;
            let lasts = self.chance.between(120.0, 600.0) as i64;
            self.start(place, second + lasts, false);
        }
        if second >= self.owners[place].next_rollout {
            let owner = &mut self.owners[place];
            owner.next_rollout = second + owner.rollout_s;
            owner.replacing = (owner.replicas, second);
            let rolled = Workload { container_name: String::new(), ..workload(owner) };
            self.detector.rolled_out(&rolled, second * 1_000);
        }
        let (left, next) = self.owners[place].replacing;
        if left > 0 && second >= next {
            self.owners[place].replacing = (left - 1, second + ROLLOUT_STEP_S);
            let oldest = self.owners[place].alive[0].key;
            self.start(place, i64::MAX, false);
            self.stop(place, oldest);
        }
    }

    fn start(&mut self, place: usize, ends: i64, already_running: bool) {
        let key = self.next_key;
        self.next_key += 1;
        let owner = &mut self.owners[place];
        // What ran before the agent is long past its start.
        let born = if already_running { self.second - 100_000 } else { self.second };
        let size = owner.size;
        owner.alive.push(Alive { key, worker: Worker::new(owner.work, size, Chance::new(self.seed, key), born), ends });
        let (workload, pod, node) = (workload(owner), format!("{}-{key}", owner.name), format!("node-{}", key % NODES));
        let at = ContainerAt {
            key: SubjectKey(key),
            cluster: CLUSTER,
            node: &node,
            workload: &workload,
            pod_uid: &pod,
            pod_name: &pod,
            container_id: &format!("{key:064x}"),
        };
        let added = ContainerAdded { first_seen_unix_ms: self.second * 1_000, already_running, ..ContainerAdded::default() };
        self.detector.container_added(at, &added, true);
    }

    fn stop(&mut self, place: usize, key: u64) {
        self.owners[place].alive.retain(|alive| alive.key != key);
        let removed = ContainerRemoved { unix_ms: self.second * 1_000, pod_remains: false, ..ContainerRemoved::default() };
        self.detector.container_removed(SubjectKey(key), &removed, Origin::Live);
    }

    fn add_node(&mut self, node: u64) {
        let name = format!("node-{node}");
        let workload = Workload { cluster: CLUSTER.into(), owner_kind: "Node".into(), owner_name: name.clone(), ..Workload::default() };
        let at = ContainerAt {
            key: SubjectKey(node),
            cluster: CLUSTER,
            node: &name,
            workload: &workload,
            pod_uid: "",
            pod_name: "",
            container_id: "",
        };
        let added = ContainerAdded { first_seen_unix_ms: self.second * 1_000, already_running: true, ..ContainerAdded::default() };
        self.detector.container_added(at, &added, true);
    }
}

fn workload(owner: &Owner) -> Workload {
    Workload {
        cluster: CLUSTER.into(),
        namespace: "shop".into(),
        owner_kind: owner.kind.into(),
        owner_name: owner.name.clone(),
        container_name: "main".into(),
    }
}
