//! One node as last heard.

use vedette_proto::v1::{self, NodeState};

use super::compared::ComparedMetrics;
use crate::store::StoredNode;

/// A node of the fleet; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

/// A connected node that says nothing for this long is shown as silent.
const SILENT_AFTER_MS: i64 = 30_000;

#[derive(Debug)]
pub(super) struct NodeRecord {
    pub message: v1::Node,
    /// Open streams: two for a moment while a new one takes over.
    pub streams: u32,
    pub left: bool,
    pub sensor_ready: bool,
    /// The node's own counters, compared with Prometheus's.
    pub compared: ComparedMetrics,
    /// The last round of comparisons, and why Prometheus could not be asked in it.
    pub round: Option<(i64, String)>,
}

impl NodeRecord {
    pub fn new(cluster: &str, name: &str) -> Self {
        let message = v1::Node { name: name.into(), cluster: cluster.into(), ..v1::Node::default() };
        Self { message, streams: 0, left: false, sensor_ready: true, compared: ComparedMetrics::default(), round: None }
    }

    /// A node of an earlier run that was not heard yet.
    pub fn restored(cluster: &str, stored: StoredNode) -> Self {
        let StoredNode { name, last_heard_unix_ms, left, agent_version } = stored;
        let mut node = Self::new(cluster, &name);
        node.message = v1::Node { last_heard_unix_ms, agent_version, ..node.message };
        node.left = left;
        node
    }

    /// What the next run should know.
    pub fn stored(&self) -> StoredNode {
        let v1::Node { name, last_heard_unix_ms, agent_version, .. } = &self.message;
        let (name, agent_version) = (name.clone(), agent_version.clone());
        StoredNode { name, last_heard_unix_ms: *last_heard_unix_ms, left: self.left, agent_version }
    }

    pub fn connected(&mut self, hello: &v1::Hello, now_unix_ms: i64) {
        self.streams += 1;
        self.sensor_ready = true;
        self.message.sensor_error.clear();
        self.message.agent_version.clone_from(&hello.agent_version);
        self.heard(now_unix_ms);
    }

    pub fn heard(&mut self, now_unix_ms: i64) {
        self.left = false;
        self.message.last_heard_unix_ms = now_unix_ms;
    }

    pub fn heartbeat(&mut self, heartbeat: &v1::Heartbeat, now_unix_ms: i64) {
        self.heard(now_unix_ms);
        self.sensor_ready = heartbeat.sensor_ready;
        self.message.outbox_batches = heartbeat.outbox_batches;
        self.message.sensor_error.clone_from(&heartbeat.sensor_error);
    }

    pub fn message(&self, now_unix_ms: i64) -> v1::Node {
        v1::Node { state: self.state(now_unix_ms).into(), ..self.message.clone() }
    }

    /// How it stands.
    pub fn state(&self, now_unix_ms: i64) -> NodeState {
        let heard = now_unix_ms - self.message.last_heard_unix_ms < SILENT_AFTER_MS;
        match (self.left, self.streams > 0 && heard, self.sensor_ready) {
            (true, ..) => NodeState::Left,
            (_, false, _) => NodeState::Silent,
            (_, _, false) => NodeState::Blind,
            _ => NodeState::Live,
        }
    }
}
