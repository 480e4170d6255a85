//! What is shown, at one instant.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vedette_proto::v1::{
    BaselineState, Container, GetStatusRequest, GetStatusResponse, Incident, ListContainersRequest, ListIncidentsRequest, ListNodesRequest,
    Node, Selector, Workload,
};

use crate::cell::harmless;
use crate::client::Client;
use crate::containers::place;
use crate::exit::Stop;
use crate::when;

/// Most containers looked at: the largest node has some hundreds, a large cluster ten thousand.
const MAX_CONTAINERS: u32 = 20_000;
/// Most incidents looked at.
const MAX_INCIDENTS: u32 = 200;

/// Everything at one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The aggregator.
    pub status: GetStatusResponse,
    /// Nodes, by name.
    pub nodes: Vec<Node>,
    /// Workloads, the highest score first, then the busiest.
    pub workloads: Vec<Busy>,
    /// Open incidents, the most severe first, then the newest.
    pub incidents: Vec<Incident>,
    /// There are more containers than were looked at.
    pub truncated: bool,
}

/// A workload and what its containers use together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Busy {
    /// Which.
    pub workload: Workload,
    /// Its containers.
    pub containers: u32,
    /// The highest score among them.
    pub score: f64,
    /// CPU, millicores. `None` where nothing was observed.
    pub cpu_millicores: Option<u64>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Received bytes per second.
    pub rx: Option<u64>,
    /// Sent bytes per second.
    pub tx: Option<u64>,
    /// What is known of the normal of the one with the highest score.
    pub baseline: BaselineState,
}

impl Snapshot {
    /// Asks for all of it.
    pub async fn take(client: &mut Client, selector: Option<Selector>) -> anyhow::Result<Self> {
        let status = client.query.get_status(GetStatusRequest {}).await.map_err(Stop::from)?.into_inner();
        let nodes = client.query.list_nodes(ListNodesRequest {}).await.map_err(Stop::from)?.into_inner().nodes;
        let request = ListContainersRequest { selector: selector.clone(), limit: MAX_CONTAINERS, ..ListContainersRequest::default() };
        let containers = client.query.list_containers(request).await.map_err(Stop::from)?.into_inner();
        let request = ListIncidentsRequest { selector, open_only: true, limit: MAX_INCIDENTS, ..ListIncidentsRequest::default() };
        let mut incidents = client.query.list_incidents(request).await.map_err(Stop::from)?.into_inner().incidents;
        incidents.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), std::cmp::Reverse(incident.id)));
        Ok(Self { status, nodes, workloads: busy(containers.containers), incidents, truncated: containers.truncated })
    }

    /// One JSON object, of which a terminal obeys nothing.
    pub fn json(&self, now_unix_ms: i64) -> String {
        let workload = |workload: &Workload| {
            json!({
                "namespace": workload.namespace,
                "owner_kind": workload.owner_kind,
                "owner_name": workload.owner_name,
                "container_name": workload.container_name,
            })
        };
        let node = |node: &Node| {
            json!({
                "name": node.name,
                "state": node.state().word(),
                "containers": node.containers,
                "outbox_batches": node.outbox_batches,
            })
        };
        let one = |busy: &Busy| {
            json!({
                "workload": workload(&busy.workload),
                "containers": busy.containers,
                "score": busy.score,
                "cpu_millicores": busy.cpu_millicores,
                "memory_bytes": busy.memory_bytes,
                "rx_bytes_per_second": busy.rx,
                "tx_bytes_per_second": busy.tx,
                "baseline": busy.baseline.word(),
            })
        };
        let incident = |incident: &Incident| {
            json!({
                "id": incident.id,
                "severity": incident.severity().word(),
                "kind": incident.kind().word(),
                "effect": incident.effect,
                "workload": workload(&incident.workload.clone().unwrap_or_default()),
                "onset": when::utc(incident.onset_unix_ms),
                "summary": incident.summary,
            })
        };
        let all: Value = json!({
            "time": when::utc(now_unix_ms),
            "cluster": self.status.cluster,
            "problems": self.status.problems,
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
            "workloads": self.workloads.iter().map(one).collect::<Vec<_>>(),
            "incidents": self.incidents.iter().map(incident).collect::<Vec<_>>(),
            "truncated": self.truncated,
        });
        harmless(&all.to_string())
    }
}

/// Containers as workloads.
fn busy(containers: Vec<Container>) -> Vec<Busy> {
    let mut workloads: BTreeMap<String, Busy> = BTreeMap::new();
    for container in containers {
        let workload = container.workload.clone().unwrap_or_default();
        let one = workloads.entry(place(&workload)).or_insert_with(|| Busy { workload, score: -1.0, ..Busy::default() });
        one.containers += 1;
        if container.score > one.score {
            one.score = container.score;
            one.baseline = container.baseline();
        }
        let sums = [
            (&mut one.cpu_millicores, container.cpu_millicores),
            (&mut one.memory_bytes, container.memory_bytes),
            (&mut one.rx, container.rx_bytes_per_second),
            (&mut one.tx, container.tx_bytes_per_second),
        ];
        for (sum, value) in sums {
            // What nobody observed stays absent.
            *sum = sum.map_or(value, |sum| Some(sum + value.unwrap_or(0)));
        }
    }
    let mut workloads: Vec<_> = workloads.into_values().map(|one| Busy { score: one.score.max(0.0), ..one }).collect();
    // Scores that people cannot tell apart are ordered by what they use.
    workloads.sort_by_key(|one| std::cmp::Reverse(((one.score * 100.0) as u64, one.cpu_millicores, one.memory_bytes)));
    workloads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(owner: &str, score: f64, cpu: Option<u64>) -> Container {
        let workload =
            Workload { namespace: "shop".into(), owner_kind: "Deployment".into(), owner_name: owner.into(), ..Workload::default() };
        Container { workload: Some(workload), score, cpu_millicores: cpu, ..Container::default() }
    }

    #[test]
    fn replicas_are_one_line_with_the_worst_score_and_the_sum_of_what_they_use() {
        let seen = busy(vec![
            container("web", 0.1, Some(100)),
            container("db", 0.5, None),
            container("web", 0.9, Some(50)),
            container("web", 0.0, None),
        ]);

        let shown: Vec<_> =
            seen.iter().map(|one| (one.workload.owner_name.as_str(), one.containers, one.score, one.cpu_millicores)).collect();
        assert_eq!(shown, [("web", 3, 0.9, Some(150)), ("db", 1, 0.5, None)]);
    }

    #[test]
    fn among_equals_the_busiest_is_first() {
        let seen = busy(vec![container("a", 0.001, Some(5)), container("b", 0.0, Some(900)), container("c", 0.0, None)]);

        assert_eq!(seen.iter().map(|one| one.workload.owner_name.as_str()).collect::<Vec<_>>(), ["b", "a", "c"]);
    }
}
