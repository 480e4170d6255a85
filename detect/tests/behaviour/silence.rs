//! Silence, as a table: what was heard, and what is said of it.

use vedette_detect::{Config, Detector, NodeHeard};
use vedette_proto::v1::{IncidentChange, Severity};

const NOW_MS: i64 = 1_700_000_000_000;

fn heard(name: &str, silent_s: i64) -> NodeHeard<'_> {
    NodeHeard {
        cluster: "test",
        name,
        last_heard_unix_ms: NOW_MS - silent_s * 1_000,
        connected: false,
        left: false,
        blind: false,
        cordoned_or_deleted: false,
        aggregator_started_unix_ms: NOW_MS - 3_600_000,
    }
}

/// The severities of what is open after one look at these nodes.
fn check(nodes: &[NodeHeard<'_>]) -> Vec<Severity> {
    let mut detector = Detector::new(Config::default(), 1);
    detector.nodes(NOW_MS, nodes);
    let changes = detector.changes();
    changes.iter().map(|change| Severity::try_from(change.incident.severity).unwrap()).collect()
}

#[test]
fn silence_that_is_not_meant_is_a_ticket_and_then_a_page() {
    assert_eq!(check(&[heard("a", 1), heard("b", 19)]), []);
    assert_eq!(check(&[heard("a", 1), heard("b", 30)]), [Severity::Ticket]);
    assert_eq!(check(&[heard("a", 1), heard("b", 95)]), [Severity::Page]);
}

#[test]
fn silence_that_is_meant_says_nothing() {
    assert_eq!(check(&[NodeHeard { left: true, ..heard("a", 95) }]), []);
    assert_eq!(check(&[NodeHeard { cordoned_or_deleted: true, ..heard("a", 95) }]), []);
    assert_eq!(check(&[NodeHeard { aggregator_started_unix_ms: NOW_MS - 59_000, ..heard("a", 95) }]), []);
}

#[test]
fn many_silent_nodes_are_one_incident_about_ourselves() {
    let nodes = [heard("a", 30), heard("b", 31), heard("c", 32), heard("d", 1)];

    assert_eq!(check(&nodes), [Severity::Ticket]);
}

#[test]
fn a_few_silent_nodes_of_many_stand_for_themselves() {
    let mut nodes = vec![heard("a", 30), heard("b", 31), heard("c", 32)];
    nodes.resize(40, heard("z", 1));

    assert_eq!(check(&nodes).len(), 3);
}

#[test]
fn a_ticket_becomes_a_page_and_ends_when_heard() {
    let mut detector = Detector::new(Config::default(), 1);
    for second in 0..120 {
        let silent = NodeHeard { last_heard_unix_ms: NOW_MS, ..heard("a", 0) };
        detector.nodes(NOW_MS + second * 1_000, &[silent]);
    }
    let at = NOW_MS + 121_000;
    detector.nodes(at, &[NodeHeard { last_heard_unix_ms: at, ..heard("a", 0) }]);

    let changes = detector.changes();
    let opened: Vec<_> = changes.iter().filter(|change| change.change == IncidentChange::Opened).collect();
    assert_eq!(opened.len(), 1);
    let delay_ms = opened[0].incident.opened_unix_ms - NOW_MS;
    assert!((20_000..=30_000).contains(&delay_ms), "{delay_ms}");
    let paged = changes.iter().find(|change| change.incident.severity == Severity::Page as i32).unwrap();
    assert!((90_000..=95_000).contains(&(paged.incident.updated_unix_ms - NOW_MS)));
    assert_eq!(changes.last().unwrap().change, IncidentChange::Resolved);
    assert_eq!(detector.stats().open_incidents, 0);
}

#[test]
fn a_node_that_left_the_list_is_no_longer_silent() {
    let mut detector = Detector::new(Config::default(), 1);
    detector.nodes(NOW_MS, &[heard("a", 30), heard("b", 1)]);
    detector.nodes(NOW_MS + 1_000, &[heard("b", 1)]);

    assert_eq!(detector.changes().last().unwrap().change, IncidentChange::Resolved);
}

#[test]
fn a_blind_sensor_is_a_ticket_after_ten_seconds() {
    let mut detector = Detector::new(Config::default(), 1);
    for second in 0..20 {
        let blind = NodeHeard { blind: true, last_heard_unix_ms: NOW_MS + second * 1_000, ..heard("a", 0) };
        detector.nodes(NOW_MS + second * 1_000, &[blind]);
    }

    let changes = detector.changes();
    assert_eq!(changes[0].incident.effect, "blind sensor");
    assert_eq!(changes[0].incident.severity, Severity::Ticket as i32);
    assert_eq!(changes[0].incident.opened_unix_ms - NOW_MS, 10_000);
}
