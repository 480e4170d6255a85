//! Sums over what is alive, for `/metrics`: asked for at every scrape, so nothing is copied.

use std::collections::BTreeMap;

use vedette_proto::v1::{BaselineState, NodeState, Workload};

use super::Fleet;

/// What the own cluster comes to.
#[derive(Debug, Default, PartialEq)]
pub struct Sums {
    /// Nodes by how they stand; every state is there.
    pub nodes: BTreeMap<&'static str, i64>,
    /// Containers alive by what is known of their normal; every state is there.
    pub baselines: BTreeMap<&'static str, i64>,
    /// Batches that wait at agents.
    pub outbox_batches: u64,
}

impl Fleet {
    /// Sums over the own cluster.
    #[must_use]
    pub fn sums(&self, now_unix_ms: i64) -> Sums {
        let mut sums = Sums {
            nodes: NodeState::WORDS.iter().map(|state| (state.word(), 0)).collect(),
            baselines: BaselineState::WORDS.iter().map(|state| (state.word(), 0)).collect(),
            outbox_batches: 0,
        };
        let state = self.read();
        for node in state.nodes.values().filter(|node| node.message.cluster == self.cluster) {
            *sums.nodes.entry(node.state(now_unix_ms).word()).or_default() += 1;
            sums.outbox_batches += node.message.outbox_batches;
        }
        let alive = state.containers.values().map(|record| &record.message).filter(|container| container.gone_unix_ms == 0);
        for container in alive.filter(|container| container.workload.as_ref().is_some_and(|workload| workload.cluster == self.cluster)) {
            *sums.baselines.entry(container.baseline().word()).or_default() += 1;
        }
        sums
    }

    /// The highest score in each workload of the own cluster that has a living container, at most `limit` workloads by name, and how
    /// many more there are.
    #[must_use]
    pub fn scores(&self, limit: usize) -> (Vec<(Workload, f64)>, usize) {
        let state = self.read();
        let mut scores: BTreeMap<(&str, &str, &str, &str), (&Workload, f64)> = BTreeMap::new();
        for container in state.containers.values().map(|record| &record.message).filter(|container| container.gone_unix_ms == 0) {
            let Some(workload) = container.workload.as_ref().filter(|workload| workload.cluster == self.cluster) else { continue };
            let name =
                (workload.namespace.as_str(), workload.owner_kind.as_str(), workload.owner_name.as_str(), workload.container_name.as_str());
            let score = &mut scores.entry(name).or_insert((workload, 0.0)).1;
            *score = score.max(container.score);
        }
        let more = scores.len().saturating_sub(limit);
        (scores.into_values().take(limit).map(|(workload, score)| (workload.clone(), score)).collect(), more)
    }
}
