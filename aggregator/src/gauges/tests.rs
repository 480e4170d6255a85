//! How many series there are, and when they end.

use prometheus_client::registry::Registry;
use vedette_proto::v1::{self, Kind, Workload};

use super::*;
use crate::{
    counters::Counters,
    fleet::{Added, Limits},
};

fn gauges(config: Metrics) -> (Gauges, Registry) {
    let limits = Limits { max_nodes: 1_000, max_replays: 4, max_gone_containers: 1_000, node_retention_ms: 1_000_000 };
    let gauges = || Gauges {
        fleet: Arc::new(Fleet::new("own", limits)),
        open: Arc::default(),
        problems: Arc::default(),
        queues: [("pipeline", 256), ("durable", 512)],
        config: config.clone(),
    };
    let one = gauges();
    let mut registry = Registry::with_prefix("vedette_aggregator");
    Counters::default().register(&mut registry);
    let copy = Gauges { fleet: Arc::clone(&one.fleet), open: Arc::clone(&one.open), problems: Arc::clone(&one.problems), ..gauges() };
    registry.register_collector(Box::new(copy));
    (one, registry)
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// So many containers, ten to a workload, twenty workloads to a namespace.
fn fill(fleet: &Fleet, containers: u64) {
    let node = fleet.connected("own", &v1::Hello { node: "n".into(), ..v1::Hello::default() }, 1).unwrap();
    for key in 1..=containers {
        let workload = Workload {
            cluster: "own".into(),
            namespace: format!("namespace-{}", key / 200),
            owner_kind: "Deployment".into(),
            owner_name: format!("owner-{}", key / 10),
            container_name: "a\"\\\n{}".into(),
        };
        let container = v1::ContainerAdded { container_id: format!("{key:064x}"), ..v1::ContainerAdded::default() };
        fleet.container_added(
            key,
            &Added { node_id: node, node: "n", workload: &workload, pod_name: "", container: &container, facts: None },
        );
    }
}

fn incident(id: u64, namespace: &str) -> Incident {
    let workload = Workload { cluster: "own".into(), namespace: namespace.into(), ..Workload::default() };
    Incident { id, workload: Some(workload), severity: Severity::Page.into(), kind: Kind::Scan.into(), ..Incident::default() }
}

#[test]
fn ten_thousand_containers_are_less_than_five_thousand_series() {
    let (gauges, registry) = gauges(Metrics::default());
    fill(&gauges.fleet, 10_000);
    for id in 1..=10_000 {
        gauges.open.note(&incident(id, &format!("namespace-{}", id % 500)));
    }

    let text = text(&registry);

    assert!(series(&text) < 5_000, "{} series", series(&text));
    assert!(text.contains("vedette_aggregator_containers_by_baseline{baseline=\"learning\"} 10000"), "{text}");
    assert!(text.contains("vedette_aggregator_namespace_incidents{namespace=\"_others\",severity=\"page\"} 6000"), "{text}");
    assert!(!text.contains("workload_score"));
}

#[test]
fn the_scores_of_workloads_are_opt_in_and_end_with_their_containers() {
    let (gauges, registry) = gauges(Metrics { workloads: true });
    fill(&gauges.fleet, 100);

    let alive = text(&registry);
    for key in 1..=100 {
        gauges.fleet.container_removed(key, &v1::ContainerRemoved { unix_ms: 5, ..v1::ContainerRemoved::default() });
    }
    let gone = text(&registry);

    assert_eq!(alive.matches("\nvedette_aggregator_workload_score{").count(), 11, "{alive}");
    assert!(alive.contains("owner=\"owner-3\",container=\"a\\\"\\\\\\n{}\"} 0"), "{alive}");
    assert_eq!(gone.matches("workload_score{").count(), 0, "{gone}");
}

#[test]
fn a_namespaces_series_ends_with_its_last_incident() {
    let (gauges, registry) = gauges(Metrics::default());
    gauges.open.note(&incident(1, "shop"));

    let open = text(&registry);
    gauges.open.note(&Incident { resolved_unix_ms: 9, ..incident(1, "shop") });
    let resolved = text(&registry);

    assert!(open.contains("vedette_aggregator_namespace_incidents{namespace=\"shop\",severity=\"page\"} 1"), "{open}");
    assert!(!resolved.contains("namespace=\"shop\""), "{resolved}");
}
