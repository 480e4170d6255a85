//! Room for new nodes: who was replaced is forgotten, and so is a replay that is over.

use std::collections::{BTreeMap, HashSet};

use super::{Fleet, NodeId, State, node::NodeRecord};

/// A node that said goodbye makes room for others only after so long: what it sent is stored by then.
const LEFT_MS: i64 = 60_000;

/// A node that cannot be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetFull {
    /// Too many nodes.
    #[error("{0} nodes are known already, the limit of ingest.max_nodes")]
    Nodes(usize),
    /// Too many replays connected at once.
    #[error("{0} replays are connected already, the limit of ingest.max_replays")]
    Replays(usize),
}

impl Fleet {
    /// Room for one more node of this cluster.
    pub(super) fn make_room(&self, state: &mut State, cluster: &str, now_unix_ms: i64) -> Result<(), FleetFull> {
        if cluster != self.cluster && !state.by_name.keys().any(|(known, _)| known == cluster) {
            let replays = self.replays(state);
            if replays.len() >= self.limits.max_replays {
                let oldest = longest_idle(&replays).ok_or(FleetFull::Replays(replays.len()))?;
                state.forget_cluster(&oldest);
            }
        }
        if state.nodes.len() >= self.limits.max_nodes {
            let mut replaced = self.replaced(state, now_unix_ms, true);
            // A hundredth at once: the containers are looked through for every time.
            replaced.truncate((self.limits.max_nodes / 100).max(1));
            state.forget_nodes(&replaced);
        }
        if state.nodes.len() >= self.limits.max_nodes {
            let mut replays = self.replays(state);
            replays.remove(cluster);
            let oldest = longest_idle(&replays).ok_or(FleetFull::Nodes(state.nodes.len()))?;
            state.forget_cluster(&oldest);
        }
        Ok(())
    }

    /// The replays, each with its open streams and when it was last heard.
    fn replays(&self, state: &State) -> BTreeMap<String, (u32, i64)> {
        let mut replays = BTreeMap::new();
        for node in state.nodes.values().filter(|node| node.message.cluster != self.cluster) {
            let (streams, heard) = replays.entry(node.message.cluster.clone()).or_insert((0, 0));
            *streams += node.streams;
            *heard = node.message.last_heard_unix_ms.max(*heard);
        }
        replays
    }

    /// Nodes of the own cluster without an open stream that were not heard for as long as nodes are remembered, or, with `left`, that
    /// said goodbye; the longest silent first. Nodes of a replay go with it.
    fn replaced(&self, state: &State, now_unix_ms: i64, left: bool) -> Vec<NodeId> {
        let is_replaced = |node: &NodeRecord| {
            let unheard_ms = now_unix_ms - node.message.last_heard_unix_ms;
            node.streams == 0
                && node.message.cluster == self.cluster
                && (unheard_ms >= self.limits.node_retention_ms || left && node.left && unheard_ms >= LEFT_MS)
        };
        let mut replaced: Vec<_> = state.nodes.iter().filter(|(_, node)| is_replaced(node)).collect();
        replaced.sort_by_key(|(id, node)| (node.message.last_heard_unix_ms, **id));
        replaced.into_iter().map(|(id, _)| *id).collect()
    }

    /// Forgets the nodes that were not heard for as long as nodes are remembered. Gives all that were forgotten since the last call, also
    /// to make room, with their names: whoever keeps something of them forgets it as well.
    pub fn forget_replaced(&self, now_unix_ms: i64) -> Vec<(NodeId, String)> {
        let mut state = self.write();
        let replaced = self.replaced(&state, now_unix_ms, false);
        state.forget_nodes(&replaced);
        std::mem::take(&mut state.untold)
    }
}

/// The replay without a stream that was heard longest ago.
fn longest_idle(replays: &BTreeMap<String, (u32, i64)>) -> Option<String> {
    let idle = replays.iter().filter(|(_, (streams, _))| *streams == 0);
    idle.min_by_key(|(_, (_, heard))| *heard).map(|(name, _)| name.clone())
}

impl State {
    fn forget_nodes(&mut self, ids: &[NodeId]) {
        if ids.is_empty() {
            return;
        }
        self.untold.extend(ids.iter().filter_map(|id| Some((*id, self.nodes.get(id)?.message.name.clone()))));
        let ids: HashSet<NodeId> = ids.iter().copied().collect();
        self.nodes.retain(|id, _| !ids.contains(id));
        self.by_name.retain(|_, id| !ids.contains(id));
        let State { containers, gone, .. } = self;
        containers.retain(|_, record| !ids.contains(&record.node_id));
        gone.retain(|key| containers.contains_key(key));
        self.nodes_forgotten += ids.len() as u64;
    }

    fn forget_cluster(&mut self, cluster: &str) {
        self.nodes.retain(|_, node| node.message.cluster != cluster);
        self.by_name.retain(|(known, _), _| known != cluster);
        let before = self.containers.len();
        self.containers.retain(|_, record| record.message.workload.as_ref().is_none_or(|workload| workload.cluster != cluster));
        self.forgotten += (before - self.containers.len()) as u64;
        let State { gone, containers, .. } = self;
        gone.retain(|key| containers.contains_key(key));
    }
}
