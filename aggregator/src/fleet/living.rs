//! A look at every living container at once, without copying them.

use std::collections::HashSet;

use vedette_proto::v1::{self, NodeState};

use super::{Fleet, NodeId, select};

impl Fleet {
    /// Shows each living container that matches, and whether its node is blind or silent.
    pub fn each_living(&self, selector: &v1::Selector, now_unix_ms: i64, mut show: impl FnMut(&v1::Container, bool)) {
        let state = self.read();
        let unseen: HashSet<NodeId> = state
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node.message(now_unix_ms).state(), NodeState::Blind | NodeState::Silent))
            .map(|(id, _)| *id)
            .collect();
        for record in state.containers.values() {
            if record.message.gone_unix_ms == 0 && select::matches(selector, &self.cluster, &record.message) {
                show(&record.message, unseen.contains(&record.node_id));
            }
        }
    }
}
