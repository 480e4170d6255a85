//! Nodes and containers as last heard: written by ingest and pipeline, read by the services.

mod compared;
mod container;
mod living;
mod neighbours;
mod node;
mod pod;
mod room;
mod select;
mod sums;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::BuildHasherDefault,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use vedette_detect::KeyHasher;
use vedette_proto::{Observation, v1};

use crate::store::StoredNode;

use container::ContainerRecord;
pub use container::{Added, PEERS_KEPT, PROCESSES_KEPT};
pub use node::NodeId;
use node::NodeRecord;
pub use room::FleetFull;
pub use sums::Sums;

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nodes, replays included.
    pub max_nodes: usize,
    /// Replay clusters.
    pub max_replays: usize,
    /// Gone containers, all nodes together; the longest gone is forgotten first.
    pub max_gone_containers: usize,
    /// A node of the own cluster that is not heard for so long has been replaced, milliseconds.
    pub node_retention_ms: i64,
}

/// The counts that `GetStatus` and `/metrics` show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetStatus {
    /// Nodes with an open stream.
    pub nodes_connected: u32,
    /// Nodes remembered.
    pub nodes_known: u32,
    /// Containers alive on all of them.
    pub containers_alive: u64,
    /// Containers gone and remembered.
    pub containers_gone: u64,
    /// Gone containers, processes and peers forgotten because of a limit.
    pub forgotten: u64,
    /// Nodes forgotten because they were replaced: they said goodbye, or were not heard for too long.
    pub nodes_forgotten: u64,
}

/// Nodes and containers as last heard.
#[derive(Debug)]
pub struct Fleet {
    cluster: String,
    limits: Limits,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    next_node: u32,
    nodes: HashMap<NodeId, NodeRecord>,
    by_name: BTreeMap<(String, String), NodeId>,
    containers: HashMap<u64, ContainerRecord, BuildHasherDefault<KeyHasher>>,
    gone: VecDeque<u64>,
    forgotten: u64,
    nodes_forgotten: u64,
    /// Those of them that nobody was told of yet.
    untold: Vec<(NodeId, String)>,
    /// Nodes of the own cluster on which no agent was heard for minutes; as many as the API server's watch knows.
    without_agent: BTreeSet<String>,
}

impl Fleet {
    /// An empty fleet of the cluster with this name.
    #[must_use]
    pub fn new(cluster: &str, limits: Limits) -> Self {
        Self { cluster: cluster.into(), limits, state: RwLock::default() }
    }

    /// Every node, by cluster and name: those that were heard, and those of the own cluster that should have been.
    #[must_use]
    pub fn nodes(&self, now_unix_ms: i64) -> Vec<v1::Node> {
        let state = self.read();
        let mut nodes: Vec<v1::Node> =
            state.by_name.values().filter_map(|id| state.nodes.get(id)).map(|node| node.message(now_unix_ms)).collect();
        let mut unheard = state.without_agent.clone();
        for node in nodes.iter_mut().filter(|node| node.cluster == self.cluster) {
            // Silent says more; but a goodbye that nobody came back from is no stop any more.
            if unheard.remove(&node.name) && node.state() == v1::NodeState::Left {
                node.set_state(v1::NodeState::NoAgent);
            }
        }
        if !unheard.is_empty() {
            let state = v1::NodeState::NoAgent.into();
            nodes.extend(unheard.into_iter().map(|name| v1::Node { name, cluster: self.cluster.clone(), state, ..v1::Node::default() }));
            nodes.sort_by(|a, b| (&a.cluster, &a.name).cmp(&(&b.cluster, &b.name)));
        }
        nodes
    }

    /// The containers that match, by workload then id, and whether more than `limit` match.
    /// An absent cluster in the selector means the aggregator's own.
    #[must_use]
    pub fn containers(&self, selector: &v1::Selector, include_gone: bool, limit: usize) -> (Vec<v1::Container>, bool) {
        self.select(selector, include_gone, limit, |record| record.message.clone())
    }

    /// The same with everything that agents told of them besides observations.
    #[must_use]
    pub fn told(&self, selector: &v1::Selector, include_gone: bool, limit: usize) -> (Vec<v1::Container>, bool) {
        self.select(selector, include_gone, limit, ContainerRecord::told)
    }

    fn select(
        &self,
        selector: &v1::Selector,
        include_gone: bool,
        limit: usize,
        message: impl Fn(&ContainerRecord) -> v1::Container,
    ) -> (Vec<v1::Container>, bool) {
        let state = self.read();
        let wanted = |record: &&ContainerRecord| {
            (include_gone || record.message.gone_unix_ms == 0) && select::matches(selector, &self.cluster, &record.message)
        };
        let mut found: Vec<&ContainerRecord> = state.containers.values().filter(wanted).collect();
        let order = |a: &&ContainerRecord, b: &&ContainerRecord| a.order().cmp(&b.order());
        let truncated = found.len() > limit;
        if truncated {
            found.select_nth_unstable_by(limit, order);
            found.truncate(limit);
        }
        found.sort_unstable_by(order);
        (found.into_iter().map(message).collect(), truncated)
    }

    /// Process names seen in the containers with this id (on any node; a watched cgroup's id may not be unique), oldest first.
    #[must_use]
    pub fn processes(&self, container_id: &str) -> Vec<v1::ProcessSeen> {
        let mut seen: Vec<_> = self.with_id(container_id, |record| record.processes.iter().cloned().collect());
        seen.sort_by_key(|process: &v1::ProcessSeen| process.unix_ms);
        seen
    }

    /// With whom the pods of the containers with this id were talking, oldest first.
    #[must_use]
    pub fn peers(&self, container_id: &str) -> Vec<v1::PeersSeen> {
        let mut seen: Vec<_> = self.with_id(container_id, |record| record.peers.iter().cloned().collect());
        seen.sort_by_key(|peers: &v1::PeersSeen| peers.unix_ms);
        seen
    }

    /// The counts.
    #[must_use]
    pub fn status(&self) -> FleetStatus {
        let state = self.read();
        FleetStatus {
            nodes_connected: state.nodes.values().filter(|node| node.streams > 0).count() as u32,
            nodes_known: state.nodes.len() as u32,
            containers_alive: (state.containers.len() - state.gone.len()) as u64,
            containers_gone: state.gone.len() as u64,
            forgotten: state.forgotten,
            nodes_forgotten: state.nodes_forgotten,
        }
    }

    /// A stream of this node opened.
    ///
    /// # Errors
    /// [`FleetFull`] when the node is new and there is no room. Nodes that were replaced make room, and so does the longest unheard
    /// replay for a new one.
    pub fn connected(&self, cluster: &str, hello: &v1::Hello, now_unix_ms: i64) -> Result<NodeId, FleetFull> {
        let mut state = self.write();
        let name = (cluster.to_owned(), hello.node.clone());
        let id = match state.by_name.get(&name) {
            Some(&id) => id,
            None => {
                self.make_room(&mut state, cluster, now_unix_ms)?;
                let id = NodeId(state.next_node);
                state.next_node += 1;
                state.nodes.insert(id, NodeRecord::new(cluster, &hello.node));
                state.by_name.insert(name, id);
                id
            }
        };
        if let Some(node) = state.nodes.get_mut(&id) {
            node.connected(hello, now_unix_ms);
        }
        Ok(id)
    }

    /// Knows the nodes of an earlier run again, as many as there is room for.
    pub fn restore(&self, nodes: Vec<StoredNode>) {
        let mut state = self.write();
        for node in nodes.into_iter().take(self.limits.max_nodes) {
            let id = NodeId(state.next_node);
            state.next_node += 1;
            state.by_name.insert((self.cluster.clone(), node.name.clone()), id);
            state.nodes.insert(id, NodeRecord::restored(&self.cluster, node));
        }
    }

    /// The nodes of the own cluster, as the next run should know them.
    #[must_use]
    pub fn own_nodes(&self) -> Vec<StoredNode> {
        self.read().nodes.values().filter(|node| node.message.cluster == self.cluster).map(NodeRecord::stored).collect()
    }

    /// Nodes of the own cluster on which no agent was heard for minutes.
    pub fn set_without_agent(&self, names: BTreeSet<String>) {
        self.write().without_agent = names;
    }

    /// A stream of this node ended.
    pub fn disconnected(&self, id: NodeId) {
        if let Some(node) = self.write().nodes.get_mut(&id) {
            node.streams = node.streams.saturating_sub(1);
        }
    }

    /// Nodes of the own cluster without an open stream that were last heard before this.
    #[must_use]
    pub fn unheard(&self, before_unix_ms: i64) -> Vec<NodeId> {
        let state = self.read();
        let unheard = |node: &NodeRecord| {
            node.streams == 0 && node.message.cluster == self.cluster && node.message.last_heard_unix_ms < before_unix_ms
        };
        state.nodes.iter().filter(|(_, node)| unheard(node)).map(|(id, _)| *id).collect()
    }

    /// The node said something.
    pub fn heard(&self, id: NodeId, now_unix_ms: i64) {
        if let Some(node) = self.write().nodes.get_mut(&id) {
            node.heard(now_unix_ms);
        }
    }

    /// The node said how it is.
    pub fn heartbeat(&self, id: NodeId, heartbeat: &v1::Heartbeat, now_unix_ms: i64) {
        if let Some(node) = self.write().nodes.get_mut(&id) {
            node.heartbeat(heartbeat, now_unix_ms);
        }
    }

    /// The node said goodbye.
    pub fn left(&self, id: NodeId) {
        if let Some(node) = self.write().nodes.get_mut(&id) {
            node.left = true;
        }
    }

    /// A container exists, or has another workload now.
    pub fn container_added(&self, key: u64, added: &Added<'_>) {
        let mut state = self.write();
        let State { containers, nodes, .. } = &mut *state;
        match containers.get_mut(&key) {
            Some(record) => record.renamed(added),
            None => {
                containers.insert(key, ContainerRecord::new(added));
                if let Some(node) = nodes.get_mut(&added.node_id) {
                    node.message.containers += 1;
                }
            }
        }
    }

    /// A container is gone; it is remembered until there are too many.
    pub fn container_removed(&self, key: u64, removed: &v1::ContainerRemoved) {
        let mut state = self.write();
        let State { containers, nodes, gone, forgotten, .. } = &mut *state;
        let Some(record) = containers.get_mut(&key).filter(|record| record.message.gone_unix_ms == 0) else { return };
        record.message.gone_unix_ms = removed.unix_ms.max(1);
        record.message.pod_remained = removed.pod_remains;
        if let Some(node) = nodes.get_mut(&record.node_id) {
            node.message.containers = node.message.containers.saturating_sub(1);
        }
        gone.push_back(key);
        while gone.len() > self.limits.max_gone_containers {
            if let Some(oldest) = gone.pop_front() {
                containers.remove(&oldest);
                *forgotten += 1;
            }
        }
    }

    /// A process name was seen.
    pub fn process_seen(&self, key: u64, seen: &v1::ProcessSeen) {
        let mut state = self.write();
        let dropped = state.containers.get_mut(&key).is_some_and(|record| record.process_seen(seen));
        state.forgotten += u64::from(dropped);
    }

    /// Peers were seen.
    pub fn peers_seen(&self, key: u64, seen: &v1::PeersSeen) {
        let mut state = self.write();
        let dropped = state.containers.get_mut(&key).is_some_and(|record| record.peers_seen(seen));
        state.forgotten += u64::from(dropped);
    }

    /// The rows of one block: `(key, row, score)` each.
    pub fn observed<'a>(&self, node: NodeId, unix_ms: i64, rows: impl Iterator<Item = (u64, &'a Observation, f32)>) {
        let mut state = self.write();
        let State { containers, nodes, .. } = &mut *state;
        let mut count = 0;
        for (key, row, score) in rows {
            count += 1;
            if let Some(record) = containers.get_mut(&key) {
                record.observed(unix_ms, row, score);
            }
        }
        if let Some(node) = nodes.get_mut(&node) {
            node.message.last_observation_unix_ms = node.message.last_observation_unix_ms.max(unix_ms);
            node.message.observations += count;
        }
    }

    /// Agents of this node had to drop observations.
    pub fn dropped(&self, id: NodeId, observations: u64) {
        if let Some(node) = self.write().nodes.get_mut(&id) {
            node.message.dropped = node.message.dropped.saturating_add(observations);
        }
    }

    /// What is known of a container's normal.
    pub fn baseline(&self, states: impl Iterator<Item = (u64, v1::BaselineState)>) {
        let mut state = self.write();
        for (key, baseline) in states {
            if let Some(record) = state.containers.get_mut(&key) {
                record.message.set_baseline(baseline);
            }
        }
    }

    /// Names of the clusters that are remembered: the own one and replays.
    #[must_use]
    pub fn clusters(&self) -> HashSet<String> {
        self.read().by_name.keys().map(|(cluster, _)| cluster.clone()).collect()
    }

    /// What the detector needs to judge silence; the closure runs under the lock.
    pub fn presence<T>(&self, mut each: impl FnMut(&v1::Node, bool, bool, bool) -> T) -> Vec<T> {
        self.read().nodes.values().map(|node| each(&node.message, node.streams > 0, node.left, !node.sensor_ready)).collect()
    }

    fn with_id<T>(&self, container_id: &str, each: impl Fn(&ContainerRecord) -> Vec<T>) -> Vec<T> {
        self.read().containers.values().filter(|record| record.message.container_id == container_id).flat_map(each).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
