//! Which incidents a selector is about.

use tonic::Status;
use vedette_proto::v1::{Incident, Selector};

use crate::label::{check, selects_id};

/// A selector as asked for, with the own cluster where it names none.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field.
pub fn checked_selector(asked: Option<Selector>, own_cluster: &str) -> Result<Selector, Status> {
    let mut selector = asked.unwrap_or_default();
    check::selector("selector", &selector)?;
    if selector.cluster.is_empty() {
        selector.cluster = own_cluster.to_owned();
    }
    Ok(selector)
}

/// Whether an incident is about what the selector means. An incident keeps pods by name or uid, and containers by id.
pub fn about(selector: &Selector, incident: &Incident) -> bool {
    let Some(workload) = &incident.workload else { return false };
    let any_or = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    let one_of = |wanted: &str, list: &[String]| wanted.is_empty() || list.iter().any(|is| is == wanted);
    selector.cluster == workload.cluster
        && any_or(&selector.namespace, &workload.namespace)
        && any_or(&selector.owner_kind, &workload.owner_kind)
        && any_or(&selector.owner_name, &workload.owner_name)
        && any_or(&selector.container_name, &workload.container_name)
        && one_of(&selector.node, &incident.nodes)
        && one_of(&selector.pod_uid, &incident.pods)
        && (selector.container_id.is_empty() || incident.container_ids.iter().any(|id| selects_id(&selector.container_id, id)))
}
