//! The door: all state of detection, owned by one task.

use std::collections::HashMap;

use vedette_proto::{
    Feature, Features, Observation,
    v1::{self, Kind},
};

use crate::{Change, Config, ContainerAt, ContainerState, NodeHeard, Stats, SubjectKey, Verdict};

struct Container {
    last_unix_ms: i64,
    cpu_cores: f32,
    score: f32,
}

/// All classifier and incident state.
pub struct Detector {
    config: Config,
    containers: HashMap<SubjectKey, Container>,
    changes: Vec<Change>,
    stats: Stats,
}

impl Detector {
    /// An empty detector; incidents count up from `next_incident_id`.
    #[must_use]
    pub fn new(config: Config, _next_incident_id: u64) -> Self {
        Self { config, containers: HashMap::new(), changes: Vec::new(), stats: Stats::default() }
    }

    /// A container (or a node) exists. Telling it again is harmless; with another workload, it moves there.
    ///
    /// `live` is false for what a late or replayed stream says.
    pub fn container_added(&mut self, at: ContainerAt<'_>, added: &v1::ContainerAdded, _live: bool) {
        if self.containers.len() >= self.config.max_containers && !self.containers.contains_key(&at.key) {
            self.stats.containers_refused += 1;
            return;
        }
        let fresh = Container { last_unix_ms: added.first_seen_unix_ms, cpu_cores: 0.0, score: 0.0 };
        self.containers.entry(at.key).or_insert(fresh);
    }

    /// A container's cgroup is gone.
    pub fn container_removed(&mut self, key: SubjectKey, _removed: &v1::ContainerRemoved) {
        self.containers.remove(&key);
    }

    /// A process name with its privileges was seen.
    pub fn process_seen(&mut self, _key: SubjectKey, _seen: &v1::ProcessSeen) {}

    /// Scores one observation and learns from it.
    pub fn observe(&mut self, key: SubjectKey, _origin: v1::Origin, unix_ms: i64, row: &Observation) -> Verdict {
        self.stats.observations += 1;
        let Some(container) = self.containers.get_mut(&key) else {
            self.stats.unknown_containers += 1;
            return Verdict::NORMAL;
        };
        if let Some(cpu) = Features::of(row).get(Feature::CpuCores) {
            let dt = (unix_ms - container.last_unix_ms).clamp(1, 10_000) as f32 / 1e3;
            container.cpu_cores += (cpu - container.cpu_cores) * (1.0 - (-dt / 10.0).exp());
            container.score = (container.cpu_cores - 0.3).clamp(0.0, 1.0);
        }
        container.last_unix_ms = unix_ms;
        let kind = if container.score > 0.5 { Kind::Mining } else { Kind::Normal };
        Verdict { score: container.score, kind }
    }

    /// Judges the silence of nodes; `now_unix_ms` is the aggregator's clock. Give all nodes, about once a second.
    pub fn nodes(&mut self, _now_unix_ms: i64, _nodes: &[NodeHeard<'_>]) {}

    /// Event time of a cluster moved on: resolves what is over.
    pub fn advance(&mut self, _cluster: &str, _unix_ms: i64) {}

    /// What changed since the last call, in order.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What is known of a container.
    #[must_use]
    pub fn container_state(&self, key: SubjectKey) -> Option<ContainerState> {
        let container = self.containers.get(&key)?;
        Some(ContainerState { score: container.score, baseline: v1::BaselineState::Learning })
    }

    /// Sizes and counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { containers: self.containers.len(), ..self.stats }
    }
}
