//! The API server as a source of names: a watch fills a store, the pipeline asks it.
//!
//! `watch` is the only part that talks; `store` is pure. A server that cannot be reached leaves what is known.

mod names;
mod pod;
mod quantity;
mod store;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

pub use pod::Facts;
pub use store::{Claim, Found, Limits, Rollout, Sizes, Store};
pub use watch::{KubernetesError, client, start};

/// What is watched, each by a watch of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// Pods, whole.
    Pods,
    /// Nodes, whole.
    Nodes,
    /// ReplicaSets, metadata only.
    ReplicaSets,
    /// Jobs, metadata only.
    Jobs,
}

impl Watched {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pods, Self::Nodes, Self::ReplicaSets, Self::Jobs];

    /// Its plural as the API says it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Nodes => "nodes",
            Self::ReplicaSets => "replicasets",
            Self::Jobs => "jobs",
        }
    }
}

/// What is known, and how well.
#[derive(Debug)]
pub struct Kubernetes {
    cluster: Arc<str>,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    store: Store,
    /// Listed completely at least once.
    synced: HashSet<Watched>,
    /// Why a watch does not work now.
    failing: BTreeMap<Watched, String>,
    /// Since when everything is listed and no watch fails, Unix milliseconds.
    healthy_unix_ms: Option<i64>,
}

impl Kubernetes {
    /// Nothing known yet of this cluster.
    #[must_use]
    pub fn new(cluster: Arc<str>, limits: Limits) -> Self {
        let state = State { store: Store::new(limits), synced: HashSet::new(), failing: BTreeMap::new(), healthy_unix_ms: None };
        Self { cluster, state: RwLock::new(state) }
    }

    /// The cluster that the API server is of: nothing is said of containers of another, such as a replay's.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Whom a container of a node belongs to; `None` before the pods were listed, and before their owners were or cannot be.
    #[must_use]
    pub fn find(&self, pod_uid: &str, container_id: &str, slot: u32, node: &str) -> Option<Found> {
        let state = self.read();
        let settled = |what: &Watched| state.synced.contains(what) || *what != Watched::Pods && state.failing.contains_key(what);
        Watched::ALL.iter().all(settled).then(|| state.store.find(pod_uid, container_id, slot, node))
    }

    /// Uids (as cgroups have them) of the pods that changed since this was last asked.
    pub fn take_changed(&self) -> HashSet<Arc<str>> {
        if !self.read().store.has_changed() {
            return HashSet::new();
        }
        self.write().store.take_changed()
    }

    /// New templates of owners since this was last asked.
    pub fn take_rollouts(&self) -> Vec<Rollout> {
        if !self.read().store.has_rollouts() {
            return Vec::new();
        }
        self.write().store.take_rollouts()
    }

    /// Forgets pods that are gone for long.
    pub fn expire(&self, now_unix_ms: i64) {
        self.write().store.expire(now_unix_ms);
    }

    /// Which of these nodes are cordoned, or gone from the API server. Gone counts only where it knows at least one of them: agents may be named
    /// otherwise than their nodes.
    #[must_use]
    pub fn away(&self, names: &[&str]) -> Vec<bool> {
        let state = self.read();
        if !state.synced.contains(&Watched::Nodes) {
            return vec![false; names.len()];
        }
        let known: Vec<Option<bool>> = names.iter().map(|name| state.store.cordoned(name)).collect();
        let agree = known.iter().any(Option::is_some);
        known.into_iter().map(|cordoned| cordoned.unwrap_or(agree)).collect()
    }

    /// Nodes that are there since before this, by name; `None` before the nodes were listed.
    #[must_use]
    pub fn nodes_before(&self, unix_ms: i64) -> Option<Vec<Arc<str>>> {
        let state = self.read();
        state.synced.contains(&Watched::Nodes).then(|| state.store.nodes_before(unix_ms))
    }

    /// The uid of the pod of this name that is there now.
    #[must_use]
    pub fn pod_object(&self, namespace: &str, name: &str) -> Option<String> {
        self.read().store.pod_object(namespace, name).map(str::to_owned)
    }

    /// Since when everything is listed and no watch fails, Unix milliseconds.
    #[must_use]
    pub fn healthy_unix_ms(&self) -> Option<i64> {
        self.read().healthy_unix_ms
    }

    /// How much is known.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.read().store.sizes()
    }

    /// Why names may be out of date, one line; `None` while they are not.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let state = self.read();
        let (what, error) = state.failing.first_key_value()?;
        let others = state.failing.len() - 1;
        let more = if others > 0 { format!(" (and {others} more)") } else { String::new() };
        Some(format!("API server: cannot watch {}{more}: {error}; names are as last known", what.word()))
    }

    /// A watch works; `listed` once everything was listed.
    fn works(&self, what: Watched, listed: bool, now_unix_ms: i64) -> bool {
        let mut state = self.write();
        let recovered = state.failing.remove(&what).is_some();
        if listed {
            state.synced.insert(what);
        }
        if state.healthy_unix_ms.is_none() && state.failing.is_empty() && state.synced.len() == Watched::ALL.len() {
            state.healthy_unix_ms = Some(now_unix_ms);
        }
        recovered
    }

    /// A watch does not work.
    fn fails(&self, what: Watched, error: String) {
        let mut state = self.write();
        state.failing.insert(what, error);
        state.healthy_unix_ms = None;
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.write().store);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Kubernetes {
    /// A pod as the watch tells it.
    pub(crate) fn tell(&self, pod: serde_json::Value, now_unix_ms: i64) {
        self.change(|store| store.pod(&serde_json::from_value(pod).unwrap(), now_unix_ms));
    }

    /// The same when it is deleted.
    pub(crate) fn end(&self, pod: serde_json::Value, now_unix_ms: i64) {
        self.change(|store| store.pod_deleted(&serde_json::from_value(pod).unwrap(), now_unix_ms));
    }

    /// A node as the watch tells it.
    pub(crate) fn node(&self, name: &str, cordoned: bool) {
        let node = serde_json::json!({"metadata": {"name": name}, "spec": {"unschedulable": cordoned}});
        self.change(|store| store.node(&serde_json::from_value(node).unwrap()));
    }

    /// The same when it is deleted.
    pub(crate) fn node_gone(&self, name: &str) {
        let node = serde_json::json!({"metadata": {"name": name}});
        self.change(|store| store.node_deleted(&serde_json::from_value(node).unwrap()));
    }

    /// A list begins: what is told until it ends is all there is.
    pub(crate) fn lists(&self, what: Watched) {
        self.change(|store| store.begin(what));
    }

    /// A list ended.
    pub(crate) fn listed(&self, what: Watched, now_unix_ms: i64) {
        self.change(|store| store.end(what, now_unix_ms));
        self.works(what, true, now_unix_ms);
    }

    /// A watch fails.
    pub(crate) fn broken(&self, what: Watched) {
        self.fails(what, "broken".into());
    }
}
