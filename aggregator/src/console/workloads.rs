//! Workloads with their living containers summed up.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use vedette_proto::v1::{BaselineState, Container, Incident, ListWorkloadsResponse, Selector, Workload, WorkloadSummary};

use crate::fleet::Fleet;

/// Most nodes named of one workload.
const MAX_NODES: usize = 16;

/// What tells one workload from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key(String, String, String, String, String);

impl Key {
    fn of(workload: &Workload) -> Self {
        let Workload { cluster, namespace, owner_kind, owner_name, container_name } = workload.clone();
        Self(cluster, namespace, owner_kind, owner_name, container_name)
    }
}

/// A workload as it is being summed up.
#[derive(Default)]
struct Sum {
    summary: WorkloadSummary,
    nodes: BTreeSet<String>,
}

/// Which workloads, and how many of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Of which containers.
    pub selector: &'a Selector,
    /// A text in lower case that must occur. Empty means: any.
    pub contains: &'a str,
    /// Most that are given.
    pub limit: usize,
}

/// Sums up what is alive, with the incidents that are open.
pub(super) fn summarise(fleet: &Fleet, open: &[Incident], wanted: &Wanted<'_>, now_unix_ms: i64) -> ListWorkloadsResponse {
    let mut sums: HashMap<Key, Sum> = HashMap::new();
    fleet.each_living(wanted.selector, now_unix_ms, |container, unseen| {
        let Some(workload) = &container.workload else { return };
        if holds(workload, &container.node, wanted.contains) {
            let sum = sums.entry(Key::of(workload)).or_default();
            sum.summary.workload.get_or_insert_with(|| workload.clone());
            add(sum, container, unseen);
        }
    });
    for incident in open {
        let Some(sum) = incident.workload.as_ref().and_then(|workload| sums.get_mut(&Key::of(workload))) else { continue };
        sum.summary.incidents_open += 1;
        sum.summary.severity = sum.summary.severity.max(incident.severity);
    }
    let mut answer = ListWorkloadsResponse { matching: sums.len() as u64, ..ListWorkloadsResponse::default() };
    let mut workloads: Vec<WorkloadSummary> = sums.into_values().map(finish).collect();
    for one in &workloads {
        answer.containers += u64::from(one.containers);
        answer.learning += u64::from(one.learning);
        answer.ready += u64::from(one.ready);
        answer.frozen += u64::from(one.frozen);
        answer.blind += u64::from(one.blind);
    }
    workloads.sort_by(|a, b| {
        let rank = |one: &WorkloadSummary| (one.severity() as i32, one.incidents_open > 0);
        rank(b).cmp(&rank(a)).then(b.score.total_cmp(&a.score)).then_with(|| place(a).cmp(&place(b)))
    });
    workloads.truncate(wanted.limit);
    answer.workloads = workloads;
    answer
}

/// By name, where nothing else tells which comes first.
fn place(one: &WorkloadSummary) -> Option<[&str; 4]> {
    let workload = one.workload.as_ref()?;
    Some([&workload.namespace, &workload.owner_name, &workload.container_name, &workload.owner_kind])
}

/// Whether a text occurs in what a person would look for.
fn holds(workload: &Workload, node: &str, text: &str) -> bool {
    text.is_empty()
        || [&workload.namespace, &workload.owner_name, &workload.owner_kind, &workload.container_name, node]
            .into_iter()
            .any(|part| part.to_lowercase().contains(text))
}

fn add(sum: &mut Sum, container: &Container, unseen: bool) {
    let summary = &mut sum.summary;
    summary.containers += 1;
    match container.baseline() {
        BaselineState::Ready => summary.ready += 1,
        BaselineState::Frozen => summary.frozen += 1,
        BaselineState::Learning | BaselineState::Unspecified => summary.learning += 1,
    }
    summary.blind += u32::from(unseen);
    summary.score = summary.score.max(container.score);
    summary.restarts += u64::from(container.restarts);
    let more = |sum: &mut Option<u64>, value: Option<u64>| {
        if let Some(value) = value {
            *sum = Some(sum.unwrap_or(0).saturating_add(value));
        }
    };
    more(&mut summary.cpu_millicores, container.cpu_millicores);
    more(&mut summary.memory_bytes, container.memory_bytes);
    more(&mut summary.rx_bytes_per_second, container.rx_bytes_per_second);
    more(&mut summary.tx_bytes_per_second, container.tx_bytes_per_second);
    if sum.nodes.len() < MAX_NODES && !sum.nodes.contains(&container.node) {
        sum.nodes.insert(container.node.clone());
    }
}

fn finish(sum: Sum) -> WorkloadSummary {
    WorkloadSummary { nodes: sum.nodes.into_iter().collect(), ..sum.summary }
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::{ContainerAdded, Severity};

    use super::*;
    use crate::{
        fleet::{Added, Limits},
        query::world::{T0, incident, workload},
    };

    fn fleet() -> Fleet {
        let limits = Limits { max_nodes: 10, max_replays: 2, max_gone_containers: 10, node_retention_ms: 86_400_000 };
        let fleet = Fleet::new("prod", limits);
        let hello = vedette_proto::v1::Hello { node: "n1".into(), ..Default::default() };
        let node_id = fleet.connected("prod", &hello, T0).unwrap();
        for (id, name) in [(1, "web"), (2, "web"), (3, "cart")] {
            let container = ContainerAdded { container_id: format!("{id:064x}"), restarts: 2, ..ContainerAdded::default() };
            let added = Added { node_id, node: "n1", workload: &workload(name), pod_name: name, container: &container, facts: None };
            fleet.container_added(id, &added);
        }
        fleet
    }

    fn ask(fleet: &Fleet, contains: &str, limit: usize) -> ListWorkloadsResponse {
        let wanted = Wanted { selector: &Selector::default(), contains, limit };
        summarise(fleet, &[incident(1, "web", T0), incident(2, "gone", T0)], &wanted, T0)
    }

    #[test]
    fn replicas_are_summed_up_and_open_incidents_come_first() {
        let answer = ask(&fleet(), "", 10);

        let shown: Vec<_> = answer.workloads.iter().map(|one| (one.containers, one.restarts, one.incidents_open)).collect();
        assert_eq!(shown, [(2, 4, 1), (1, 2, 0)]);
        assert_eq!((answer.matching, answer.containers, answer.learning), (2, 3, 3));
        assert_eq!(answer.workloads[0].severity(), Severity::Ticket);
        assert_eq!(answer.workloads[0].cpu_millicores, None);
    }

    #[test]
    fn a_text_narrows_and_a_limit_says_how_many_match() {
        assert_eq!(ask(&fleet(), "car", 10).workloads.len(), 1);
        let limited = ask(&fleet(), "", 1);
        assert_eq!((limited.workloads.len(), limited.matching), (1, 2));
    }
}
