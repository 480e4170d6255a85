//! Which label stands for a container at an instant: the pure rule, said as plainly as possible.

use vedette_proto::v1::{Kind, Label, LabelSource, Selector};

/// What tells one container from another, as history has it. A selector can be read as one, too: then empty means any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity<'a> {
    /// Cluster or replay.
    pub cluster: &'a str,
    /// Node name.
    pub node: &'a str,
    /// Kubernetes namespace.
    pub namespace: &'a str,
    /// Owner kind.
    pub owner_kind: &'a str,
    /// Owner name.
    pub owner_name: &'a str,
    /// Container name.
    pub container_name: &'a str,
    /// Pod uid.
    pub pod_uid: &'a str,
    /// Container id.
    pub container_id: &'a str,
}

impl<'a> From<&'a Selector> for Identity<'a> {
    fn from(selector: &'a Selector) -> Self {
        Self {
            cluster: &selector.cluster,
            node: &selector.node,
            namespace: &selector.namespace,
            owner_kind: &selector.owner_kind,
            owner_name: &selector.owner_name,
            container_name: &selector.container_name,
            pod_uid: &selector.pod_uid,
            container_id: &selector.container_id,
        }
    }
}

/// What the winning label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What it was.
    pub kind: Kind,
    /// Touched by the event without being its target.
    pub affected: bool,
    /// Who says so.
    pub source: LabelSource,
    /// The label.
    pub id: u64,
}

/// Shortest prefix of a container id that stands for it, as the runtimes' tools show them.
pub(super) const ID_PREFIX: usize = 12;

/// Whether every field that the selector sets is the container's. Both name their cluster.
#[must_use]
pub fn selects(selector: &Selector, container: &Identity<'_>) -> bool {
    let any_or = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    selector.cluster == container.cluster
        && any_or(&selector.node, container.node)
        && any_or(&selector.namespace, container.namespace)
        && any_or(&selector.owner_kind, container.owner_kind)
        && any_or(&selector.owner_name, container.owner_name)
        && any_or(&selector.container_name, container.container_name)
        && any_or(&selector.pod_uid, container.pod_uid)
        && selects_id(&selector.container_id, container.container_id)
}

/// Whether a selector's container id, possibly empty or a prefix, is this one.
pub(crate) fn selects_id(wanted: &str, id: &str) -> bool {
    wanted.is_empty() || wanted == id || (wanted.len() >= ID_PREFIX && id.starts_with(wanted))
}

/// The place in the order of sources; the lowest wins.
pub(super) const fn rank(source: LabelSource) -> u8 {
    match source {
        LabelSource::Operator => 0,
        LabelSource::Simulation => 1,
        LabelSource::Import => 2,
        LabelSource::Alertmanager => 3,
        LabelSource::Unspecified => 4,
    }
}

/// The label that stands for a container at an instant (Unix milliseconds): of those that select it and whose range holds the
/// instant, the one of the first source in the order operator, simulation, import, alertmanager; among equals the newest.
/// Labels taken back do not count.
#[must_use]
pub fn label_at(labels: &[Label], container: &Identity<'_>, unix_ms: i64) -> Option<Said> {
    labels
        .iter()
        .filter(|label| label.retracted_by == 0)
        .filter(|label| label.range.is_some_and(|range| range.start_unix_ms <= unix_ms && unix_ms < range.end_unix_ms))
        .filter(|label| label.selector.as_ref().is_some_and(|selector| selects(selector, container)))
        .min_by_key(|label| (rank(label.source()), std::cmp::Reverse(label.id)))
        .map(|label| Said { kind: label.kind(), affected: label.affected, source: label.source(), id: label.id })
}
