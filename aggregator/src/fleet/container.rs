//! One container as last heard.

use std::collections::VecDeque;

use vedette_proto::{Column, Observation, v1};

use super::{NodeId, compared::ComparedMetrics};

/// Process names kept per container; the oldest goes first.
pub const PROCESSES_KEPT: usize = 32;
/// Looks at peers kept per container; the oldest goes first.
pub const PEERS_KEPT: usize = 4;

/// What is known of a container when it is added.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// Its node.
    pub node_id: NodeId,
    /// Name of its node.
    pub node: &'a str,
    /// Its workload.
    pub workload: &'a v1::Workload,
    /// Pod name; empty where no identity is known.
    pub pod_name: &'a str,
    /// What the agent said.
    pub container: &'a v1::ContainerAdded,
}

#[derive(Debug)]
pub(super) struct ContainerRecord {
    pub node_id: NodeId,
    pub message: v1::Container,
    /// As announced, less what `message` holds already.
    announced: v1::ContainerAdded,
    pub processes: VecDeque<v1::ProcessSeen>,
    pub peers: VecDeque<v1::PeersSeen>,
    /// Its counters and those of its pod, compared with Prometheus's.
    pub compared: ComparedMetrics,
    last_unix_ms: i64,
}

impl ContainerRecord {
    pub fn new(added: &Added<'_>) -> Self {
        let container = added.container;
        let message = v1::Container {
            workload: Some(added.workload.clone()),
            node: added.node.into(),
            pod_uid: container.pod_uid.clone(),
            pod_name: added.pod_name.into(),
            container_id: container.container_id.clone(),
            cgroup: container.cgroup.clone(),
            first_seen_unix_ms: container.first_seen_unix_ms,
            restarts: container.restarts,
            baseline: v1::BaselineState::Learning.into(),
            ..v1::Container::default()
        };
        let announced = v1::ContainerAdded {
            container_ref: 0,
            pod_uid: String::new(),
            container_id: String::new(),
            cgroup: String::new(),
            recorded_workload: None,
            recorded_pod_name: String::new(),
            ..container.clone()
        };
        Self {
            node_id: added.node_id,
            message,
            announced,
            processes: VecDeque::new(),
            peers: VecDeque::new(),
            compared: ComparedMetrics::default(),
            last_unix_ms: 0,
        }
    }

    /// Everything that its agent told of it besides observations.
    pub fn told(&self) -> v1::Container {
        let message = &self.message;
        let announced = v1::ContainerAdded {
            pod_uid: message.pod_uid.clone(),
            container_id: message.container_id.clone(),
            cgroup: message.cgroup.clone(),
            ..self.announced.clone()
        };
        let processes = self.processes.iter().map(|seen| v1::ProcessSeen { container_ref: 0, ..seen.clone() });
        let peers = self.peers.iter().map(|seen| v1::PeersSeen { container_ref: 0, ..seen.clone() });
        v1::Container { announced: Some(announced), processes: processes.collect(), peers: peers.collect(), ..message.clone() }
    }

    pub fn renamed(&mut self, added: &Added<'_>) {
        self.message.workload = Some(added.workload.clone());
        self.message.pod_name = added.pod_name.into();
    }

    pub fn observed(&mut self, unix_ms: i64, row: &Observation, score: f32) {
        let message = &mut self.message;
        message.observations += 1;
        if unix_ms < self.last_unix_ms {
            return;
        }
        self.last_unix_ms = unix_ms;
        message.score = f64::from(score);
        // A value stays until the next observation of its column: not every tick reads every column.
        let level = |kept: &mut Option<u64>, value: Option<u64>| *kept = value.or(*kept);
        let rate = |column| row.per_second(column).map(|rate| rate as u64);
        level(&mut message.cpu_millicores, row.per_second(Column::CpuUsageUs).map(|us| (us / 1e3) as u64));
        level(&mut message.memory_bytes, row.get(Column::MemoryCurrentBytes));
        level(&mut message.rx_bytes_per_second, rate(Column::NetRxBytes));
        level(&mut message.tx_bytes_per_second, rate(Column::NetTxBytes));
    }

    /// Whether an older one was forgotten for it. The same name with the same privileges is kept once, with its newest time.
    pub fn process_seen(&mut self, seen: &v1::ProcessSeen) -> bool {
        let same = |kept: &v1::ProcessSeen| kept.comm == seen.comm && kept.uid == seen.uid && kept.cap_effective == seen.cap_effective;
        self.processes.retain(|kept| !same(kept));
        self.processes.push_back(seen.clone());
        self.processes.len() > PROCESSES_KEPT && self.processes.pop_front().is_some()
    }

    /// Whether an older one was forgotten for it.
    pub fn peers_seen(&mut self, seen: &v1::PeersSeen) -> bool {
        self.peers.push_back(seen.clone());
        self.peers.len() > PEERS_KEPT && self.peers.pop_front().is_some()
    }

    pub fn order(&self) -> (&str, &str, &str, &str, &str, &str) {
        let m = &self.message;
        let (cluster, namespace, name, container) = m.workload.as_ref().map_or(("", "", "", ""), |workload| {
            (&workload.cluster[..], &workload.namespace[..], &workload.owner_name[..], &workload.container_name[..])
        });
        (cluster, namespace, name, container, &m.container_id, &m.cgroup)
    }
}
