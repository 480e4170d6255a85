//! Whom a row is about: one container as the aggregator knew it when the row was stored.

use vedette_proto::v1::Workload;

/// One container, or the node itself (`container_id` empty, the workload's `owner_kind` "Node"). Shared as `Arc<Subject>`.
///
/// A container whose identity becomes known later gets a new `Subject`; rows already stored keep what was known then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Cluster or replay name; the `cluster` column. `workload.cluster` is taken to be the same.
    pub cluster: String,
    /// Node name.
    pub node: String,
    /// The workload it belongs to.
    pub workload: Workload,
    /// Container id; empty for the node.
    pub container_id: String,
    /// Pod uid; empty outside a pod.
    pub pod_uid: String,
    /// Pod name; empty where no identity is known.
    pub pod_name: String,
    /// Path below the cgroup root; empty for the node.
    pub cgroup: String,
}
