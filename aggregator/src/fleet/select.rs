//! Whether a selector matches a container.

use vedette_proto::v1::{Container, Selector};

/// Every field of the selector that is set must match; an unset cluster means `own_cluster`.
pub(super) fn matches(selector: &Selector, own_cluster: &str, container: &Container) -> bool {
    let Some(workload) = &container.workload else { return false };
    let any_or = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    let cluster = if selector.cluster.is_empty() { own_cluster } else { &selector.cluster };
    cluster == workload.cluster
        && any_or(&selector.node, &container.node)
        && any_or(&selector.namespace, &workload.namespace)
        && any_or(&selector.owner_kind, &workload.owner_kind)
        && any_or(&selector.owner_name, &workload.owner_name)
        && any_or(&selector.container_name, &workload.container_name)
        && any_or(&selector.pod_uid, &container.pod_uid)
        && (any_or(&selector.container_id, &container.container_id) || is_prefix(&selector.container_id, &container.container_id))
}

/// Ids may be shortened to 12 characters, as the runtimes' tools show them.
fn is_prefix(wanted: &str, id: &str) -> bool {
    wanted.len() >= 12 && id.starts_with(wanted)
}
