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

/// Ten nodes last heard at their own instants and again from their own instants on; everything that was said of them.
fn outage(lost_ms: impl Fn(usize) -> i64, back_s: impl Fn(usize) -> i64, seconds: i64) -> Vec<vedette_detect::Change> {
    let mut detector = Detector::new(Config::default(), 1);
    let names: Vec<String> = (0..10).map(|place| format!("node-{place}")).collect();
    for second in 0..seconds {
        let at = NOW_MS + second * 1_000;
        let node = |(place, name): (usize, &'_ String)| {
            let last_heard_unix_ms = if second >= back_s(place) { at } else { (NOW_MS + lost_ms(place)).min(at) };
            (name.clone(), last_heard_unix_ms)
        };
        let heard_at: Vec<(String, i64)> = names.iter().enumerate().map(node).collect();
        let nodes: Vec<_> = heard_at
            .iter()
            .map(|(name, last_heard_unix_ms)| NodeHeard { last_heard_unix_ms: *last_heard_unix_ms, ..heard(name, 0) })
            .collect();
        detector.nodes(at, &nodes);
    }
    detector.changes()
}

/// What was opened: second, effect's first word, highest severity.
fn opened(changes: &[vedette_detect::Change]) -> Vec<(i64, String, i32)> {
    let first = changes.iter().filter(|change| change.change == IncidentChange::Opened).map(|change| &change.incident);
    first
        .map(|incident| {
            let of_it = changes.iter().filter(|change| change.incident.id == incident.id);
            let most = of_it.map(|change| change.incident.severity).max().unwrap_or_default();
            ((incident.opened_unix_ms - NOW_MS) / 1_000, incident.effect.split(' ').next().unwrap().to_owned(), most)
        })
        .collect()
}

#[test]
fn nodes_that_return_last_stay_part_of_the_outage() {
    // Lost within 4 s, heard again one after the other, the last 70 s after the first.
    let changes = outage(|place| place as i64 * 400, |place| 100 + place as i64 * 8, 200);

    assert_eq!(opened(&changes), [(25, "many".to_owned(), Severity::Page as i32)]);
    let last = changes.last().unwrap();
    assert_eq!(last.change, IncidentChange::Resolved);
    assert_eq!((last.incident.resolved_unix_ms - NOW_MS) / 1_000, 172);
}

#[test]
fn a_node_that_never_returns_gets_its_own_page_after_the_outage() {
    let changes = outage(|_| 0, |place| if place == 3 { i64::MAX } else { 60 }, 300);

    let page = Severity::Page as i32;
    assert_eq!(opened(&changes), [(25, "many".to_owned(), Severity::Ticket as i32), (180, "silent".to_owned(), page)]);
    let resolved: Vec<_> = changes.iter().filter(|change| change.change == IncidentChange::Resolved).collect();
    assert_eq!(resolved.len(), 1);
    assert!(resolved[0].incident.effect.starts_with("many"));
}
