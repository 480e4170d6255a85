//! Whom the detector is told about: containers, the node itself, and when a node was last heard.

use vedette_proto::v1;

/// A container (or a node) as the caller numbers it: a dense index into the aggregator's fleet, never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey(pub u64);

/// Where a container is, and which workload it belongs to.
///
/// A node is registered the same way, with an empty `container_id` and a workload of owner kind `Node`.
#[derive(Clone, Copy, Debug)]
pub struct ContainerAt<'a> {
    /// The number by which later calls name it.
    pub key: SubjectKey,
    /// Cluster, or the name of a replay.
    pub cluster: &'a str,
    /// Node name.
    pub node: &'a str,
    /// The workload; baselines hang on it.
    pub workload: &'a v1::Workload,
    /// Pod uid; empty outside a pod.
    pub pod_uid: &'a str,
    /// Pod name; empty where no identity is known.
    pub pod_name: &'a str,
    /// Container id; empty for the node itself.
    pub container_id: &'a str,
}

/// What the aggregator knows of a node's presence.
#[derive(Clone, Copy, Debug)]
pub struct NodeHeard<'a> {
    /// Cluster of the node.
    pub cluster: &'a str,
    /// Node name.
    pub name: &'a str,
    /// When its agent was last heard (batch or heartbeat), on the aggregator's clock, Unix milliseconds.
    pub last_heard_unix_ms: i64,
    /// A stream is open.
    pub connected: bool,
    /// The agent said goodbye and was not heard since: silence is meant.
    pub left: bool,
    /// The agent is heard but says that its sensor does not work.
    pub blind: bool,
    /// The API server says that the node is cordoned or gone: silence is meant.
    pub cordoned_or_deleted: bool,
    /// When this aggregator started, Unix milliseconds: agents need a while to find it again.
    pub aggregator_started_unix_ms: i64,
}
