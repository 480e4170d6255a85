//! Nodes whose clocks differ, nodes that come back late or never, and clusters that are over.

use vedette_detect::{Change, Config, ContainerAt, Detector, SubjectKey};
use vedette_proto::{
    Column, Observation,
    v1::{self, IncidentChange, Origin},
};

const START_MS: i64 = 1_700_000_000_000;

/// A container on a node of its own; its key names all three.
fn add(detector: &mut Detector, key: u64) {
    let workload = v1::Workload { cluster: "test".into(), owner_name: format!("workload-{key}"), ..v1::Workload::default() };
    let at = ContainerAt {
        key: SubjectKey(key),
        cluster: "test",
        node: &format!("node-{key}"),
        workload: &workload,
        pod_uid: &format!("pod-{key}"),
        pod_name: "",
        container_id: &format!("{key:064x}"),
    };
    detector.container_added(at, &v1::ContainerAdded { first_seen_unix_ms: START_MS, ..Default::default() }, true);
}

/// One row, and what the pipeline does after it.
fn tick(detector: &mut Detector, key: u64, origin: Origin, second: i64, killed: bool) {
    let mut row = Observation::default();
    row.set(Column::IntervalUs, 1_000_000);
    row.set(Column::OomKills, u64::from(killed));
    detector.observe(SubjectKey(key), origin, START_MS + second * 1_000, &row);
    detector.advance("test", START_MS + second * 1_000);
}

/// Kind of change, of which incident, and when, in seconds.
fn told(changes: &[Change], change: IncidentChange) -> Vec<(u64, i64)> {
    let wanted = changes.iter().filter(|one| one.change == change);
    wanted.map(|one| (one.incident.id, (one.incident.updated_unix_ms - START_MS) / 1_000)).collect()
}

#[test]
fn a_node_whose_clock_is_ahead_resolves_nothing_of_others() {
    for ahead_s in [-300, 0, 40, 3_600] {
        let mut detector = Detector::new(Config::default(), 1);
        (1..=2).for_each(|key| add(&mut detector, key));
        // Killed every 20 s for two minutes, then calm.
        for second in 1..300 {
            tick(&mut detector, 1, Origin::Live, second, second % 20 == 0 && second <= 120);
            tick(&mut detector, 2, Origin::Live, second + ahead_s, false);
        }

        let changes = detector.changes();
        assert_eq!(told(&changes, IncidentChange::Opened), [(1, 20)], "{ahead_s} s ahead");
        assert_eq!(told(&changes, IncidentChange::Resolved), [(1, 150)], "{ahead_s} s ahead");
    }
}

#[test]
fn the_first_node_back_after_an_outage_resolves_nothing_of_others() {
    let mut detector = Detector::new(Config::default(), 1);
    (1..=2).for_each(|key| add(&mut detector, key));
    (1..=10).for_each(|second| tick(&mut detector, 1, Origin::Live, second, second == 10));
    // Twenty minutes later node 2 is heard first; then node 1 goes on where it was.
    (1_200..1_260).for_each(|second| tick(&mut detector, 2, Origin::Live, second, false));
    (11..=100).for_each(|second| tick(&mut detector, 1, Origin::Live, second, second == 30));

    let changes = detector.changes();
    assert_eq!(told(&changes, IncidentChange::Opened), [(1, 10)]);
    assert_eq!(told(&changes, IncidentChange::Resolved), [(1, 60)]);
}

#[test]
fn what_resolved_is_continued_by_its_own_nodes_clock() {
    let mut detector = Detector::new(Config::default(), 1);
    (1..=2).for_each(|key| add(&mut detector, key));
    for second in 1..=200 {
        // Quiet for 35 s: resolved after 30, and the same again 5 s later.
        tick(&mut detector, 1, Origin::Live, second, second == 10 || second == 45);
        tick(&mut detector, 2, Origin::Live, second + 3_600, false);
    }

    let changes = detector.changes();
    assert_eq!(told(&changes, IncidentChange::Opened), [(1, 10)]);
    assert_eq!(told(&changes, IncidentChange::Resolved), [(1, 40), (1, 75)]);
}

#[test]
fn a_node_that_is_gone_holds_its_incidents_open_for_ten_minutes() {
    let mut detector = Detector::new(Config::default(), 1);
    (1..=2).for_each(|key| add(&mut detector, key));
    tick(&mut detector, 1, Origin::Live, 1, true);
    (1..=600).for_each(|second| tick(&mut detector, 2, Origin::Live, second, false));
    assert_eq!(detector.stats().open_incidents, 1);

    tick(&mut detector, 2, Origin::Live, 601, false);

    assert_eq!(detector.stats().open_incidents, 0);
}

#[test]
fn a_node_that_is_not_expected_any_more_ends_what_only_it_could_end() {
    let mut detector = Detector::new(Config::default(), 1);
    (1..=2).for_each(|key| add(&mut detector, key));
    (1..=2).for_each(|key| tick(&mut detector, key, Origin::Live, 5, true));

    detector.node_over("test", "node-1");
    detector.node_over("test", "never heard of");

    let changes = detector.changes();
    assert_eq!(told(&changes, IncidentChange::Opened), [(1, 5), (2, 5)]);
    assert_eq!(told(&changes, IncidentChange::Resolved), [(1, 35)]);
}

#[test]
fn a_cluster_that_is_over_resolves_and_the_same_again_is_told_again() {
    let mut detector = Detector::new(Config::default(), 1);
    for round in 1..=2 {
        add(&mut detector, 1);
        (1..=10).for_each(|second| tick(&mut detector, 1, Origin::Replay, second, second == 8));
        detector.cluster_over("test");

        let changes = detector.changes();
        assert_eq!(told(&changes, IncidentChange::Opened), [(round, 8)]);
        assert_eq!(told(&changes, IncidentChange::Resolved), [(round, 10)]);
        let stats = detector.stats();
        assert_eq!((stats.open_incidents, stats.containers, stats.workloads), (0, 0, 0));
    }
}

#[test]
fn a_cluster_that_is_over_leaves_others_alone() {
    let mut detector = Detector::new(Config::default(), 1);
    add(&mut detector, 1);
    tick(&mut detector, 1, Origin::Live, 1, true);
    let other = v1::Workload { cluster: "replay".into(), owner_name: "other".into(), ..v1::Workload::default() };
    let at = ContainerAt {
        key: SubjectKey(2),
        cluster: "replay",
        node: "node-1",
        workload: &other,
        pod_uid: "pod-1",
        pod_name: "",
        container_id: "c",
    };
    detector.container_added(at, &v1::ContainerAdded::default(), false);

    detector.cluster_over("replay");

    let stats = detector.stats();
    assert_eq!((stats.open_incidents, stats.containers, stats.workloads), (1, 1, 1));
}
