//! Keeps the nodes of the own cluster in the database, so that the next run knows whom to expect.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    fleet::Fleet,
    problems::{Problems, Source},
    store::{Store, StoredNode},
};

/// How often it is looked at what changed.
const LOOK: Duration = Duration::from_secs(1);
/// A node that goes on is written again only when it was heard this much later, in milliseconds: silence counts from the next start
/// anyway, and what is written says only since when.
const STALE_MS: i64 = 60_000;

/// The nodes as the database has them; as many as the fleet remembers.
pub struct Roll {
    cluster: Arc<str>,
    fleet: Arc<Fleet>,
    store: Store,
    problems: Arc<Problems>,
    saved: HashMap<String, StoredNode>,
}

impl Roll {
    /// A roll whose database holds `saved`.
    #[must_use]
    pub fn new(cluster: Arc<str>, fleet: Arc<Fleet>, store: Store, problems: Arc<Problems>, saved: &[StoredNode]) -> Self {
        let saved = saved.iter().map(|node| (node.name.clone(), node.clone())).collect();
        Self { cluster, fleet, store, problems, saved }
    }

    /// Saves what changed, every second, until told to stop; gives itself back for the last time.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Self {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = async { let _ = stop.wait_for(|stop| *stop).await; } => return self,
                _ = tick.tick() => self.save(STALE_MS).await,
            }
        }
    }

    /// Saves nodes that are new, left, came back, have another agent, or were heard so much later than it is written; and removes those
    /// that the fleet forgot. What cannot be saved is a problem, and is tried again.
    pub async fn save(&mut self, stale_ms: i64) {
        let nodes: HashMap<String, StoredNode> = self.fleet.own_nodes().into_iter().map(|node| (node.name.clone(), node)).collect();
        let differs = |node: &&StoredNode| {
            self.saved.get(&node.name).is_none_or(|saved| {
                let aged_ms = node.last_heard_unix_ms - saved.last_heard_unix_ms;
                (node.left, &node.agent_version) != (saved.left, &saved.agent_version) || aged_ms >= stale_ms.max(1)
            })
        };
        let changed: Vec<StoredNode> = nodes.values().filter(differs).cloned().collect();
        let forgotten: Vec<String> = self.saved.keys().filter(|name| !nodes.contains_key(*name)).cloned().collect();
        if changed.is_empty() && forgotten.is_empty() {
            return;
        }
        match self.store.save_nodes(&self.cluster, &changed, &forgotten).await {
            Ok(()) => {
                forgotten.iter().for_each(|name| drop(self.saved.remove(name)));
                self.saved.extend(changed.into_iter().map(|node| (node.name.clone(), node)));
                self.problems.clear(Source::Roll);
            }
            Err(error) => self.problems.state(Source::Roll, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::Hello;

    use super::*;
    use crate::fleet::Limits;

    const LIMITS: Limits = Limits { max_nodes: 3, max_replays: 1, max_gone_containers: 2, node_retention_ms: 1_000_000 };

    fn hello(node: &str) -> Hello {
        Hello { node: node.into(), agent_version: "1".into(), ..Hello::default() }
    }

    #[tokio::test]
    async fn the_next_run_knows_the_nodes_of_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("meta.db")).await.unwrap();
        let fleet = Arc::new(Fleet::new("own", LIMITS));
        let mut roll = Roll::new("own".into(), Arc::clone(&fleet), store.clone(), Arc::default(), &[]);
        fleet.connected("own", &hello("a"), 1_000).unwrap();
        let b = fleet.connected("own", &hello("b"), 2_000).unwrap();
        fleet.connected("again", &hello("replayed"), 3_000).unwrap();
        fleet.left(b);

        roll.save(STALE_MS).await;
        let heard_a_little_later = fleet.connected("own", &hello("a"), 30_000).unwrap();
        roll.save(STALE_MS).await;
        let stored = store.nodes("own").await.unwrap();
        roll.save(0).await;
        let next = Fleet::new("own", LIMITS);
        next.restore(store.nodes("own").await.unwrap());

        let seen: Vec<_> = stored.iter().map(|node| (&node.name[..], node.last_heard_unix_ms, node.left)).collect();
        assert_eq!(seen, [("b", 2_000, true), ("a", 1_000, false)]);
        let known: Vec<_> = next.nodes(40_000).iter().map(|node| (node.name.clone(), node.last_heard_unix_ms, node.state())).collect();
        assert_eq!(
            known,
            [("a".into(), 30_000, vedette_proto::v1::NodeState::Silent), ("b".into(), 2_000, vedette_proto::v1::NodeState::Left)]
        );
        let again = next.connected("own", &hello("a"), 50_000).unwrap();
        assert_eq!((next.status().nodes_known, next.status().nodes_connected), (2, 1), "{again:?} {heard_a_little_later:?}");
    }

    #[tokio::test]
    async fn a_node_that_the_fleet_forgot_is_not_expected_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("meta.db")).await.unwrap();
        let fleet = Arc::new(Fleet::new("own", LIMITS));
        let mut roll = Roll::new("own".into(), Arc::clone(&fleet), store.clone(), Arc::default(), &[]);
        let node = fleet.connected("own", &hello("a"), 1_000).unwrap();
        fleet.disconnected(node);
        roll.save(STALE_MS).await;
        let before = store.nodes("own").await.unwrap().len();

        fleet.forget_replaced(2_000_000);
        roll.save(STALE_MS).await;

        assert_eq!((before, store.nodes("own").await.unwrap()), (1, vec![]));
    }
}
