//! What the baseline learns, from whom, and what it must not learn.

use vedette_proto::v1::{BaselineState, IncidentChange, Kind, Origin, Severity};

use crate::world::{Load, World};

#[test]
fn an_attack_of_ten_minutes_does_not_become_normal() {
    let mut world = World::new();
    let one = world.start("one", "pod-a", 0);
    world.run(180, &[(one, &|_| Load::web(20.0))]);
    assert_eq!(world.baseline(one), BaselineState::Ready);
    let onset_ms = world.now_ms;

    world.run(600, &[(one, &|_| Load::web(20.0).mining(0.9))]);

    assert!(world.score(one) > 0.9);
    assert_eq!(world.baseline(one), BaselineState::Frozen);
    world.one("one", Kind::Mining, onset_ms);
    assert_eq!((world.count(IncidentChange::Opened), world.count(IncidentChange::Resolved)), (1, 0));
}

#[test]
fn an_attack_right_after_an_attack_is_still_seen() {
    let mut world = World::new();
    let one = world.start("one", "pod-a", 0);
    world.run(120, &[(one, &|_| Load::web(20.0))]);
    for _ in 0..3 {
        world.run(60, &[(one, &|_| Load::web(20.0).mining(0.9))]);
        world.run(200, &[(one, &|_| Load::web(20.0))]);
    }

    assert_eq!((world.count(IncidentChange::Opened), world.count(IncidentChange::Resolved)), (3, 3));
}

#[test]
fn an_attack_that_comes_back_soon_after_resolving_is_the_same_incident_and_later_another() {
    for (pause_s, incidents) in [(33, 1), (60, 3)] {
        let mut world = World::new();
        let one = world.start("one", "pod-a", 0);
        world.run(120, &[(one, &|_| Load::IDLE)]);
        for _ in 0..3 {
            world.run(30, &[(one, &|_| Load::IDLE.mining(0.9))]);
            world.run(pause_s, &[(one, &|_| Load::IDLE)]);
        }

        assert_eq!(world.incidents().len(), incidents, "after a pause of {pause_s} s");
    }
}

#[test]
fn another_kind_after_a_pause_is_another_incident() {
    let mut world = World::new();
    let one = world.start("one", "pod-a", 0);
    world.run(120, &[(one, &|_| Load::IDLE)]);
    world.run(40, &[(one, &|_| Load::IDLE.mining(0.9))]);
    world.run(20, &[(one, &|_| Load::IDLE)]);
    world.run(40, &[(one, &|_| Load::IDLE.scan(150.0))]);

    let kinds: Vec<_> = world.incidents().iter().map(|incident| incident.kind).collect();
    assert_eq!(kinds, [Kind::Mining as i32, Kind::Scan as i32]);
}

#[test]
fn replicas_share_a_baseline_and_an_incident() {
    let mut world = World::new();
    let first = world.start("web", "pod-a", 0);
    world.run(150, &[(first, &|_| Load::web(100.0))]);

    let second = world.start("web", "pod-b", 0);
    assert_eq!(world.baseline(second), BaselineState::Ready);
    world.run(60, &[(first, &|_| Load::web(100.0)), (second, &|_| Load::web(100.0))]);
    world.none();

    let onset_ms = world.now_ms;
    let bad = |_: f64| Load::web(100.0).mining(0.9);
    world.run(30, &[(first, &bad), (second, &bad)]);

    assert!(world.one("web", Kind::Mining, onset_ms) <= 12.0);
    assert_eq!(world.incidents()[0].pods.len(), 2);
}

#[test]
fn a_restart_keeps_the_workloads_baseline() {
    let mut world = World::new();
    let first = world.start("web", "pod-a", 0);
    world.run(150, &[(first, &|_| Load::web(50.0))]);
    world.stop(first);

    let second = world.start("web", "pod-a", 1);

    assert_eq!(world.baseline(second), BaselineState::Ready);
}

#[test]
fn a_gap_in_time_opens_nothing_and_teaches_nothing_twice() {
    let mut world = World::new();
    let one = world.start("web", "pod-a", 0);
    world.run(120, &[(one, &|_| Load::web(50.0))]);
    world.gap(900);
    world.run(120, &[(one, &|_| Load::web(50.0))]);
    world.none();

    let onset_ms = world.now_ms;
    world.run(30, &[(one, &|_| Load::web(50.0).mining(0.9))]);

    assert!(world.one("web", Kind::Mining, onset_ms) <= 12.0);
}

#[test]
fn the_tick_rate_does_not_decide() {
    let delays: Vec<f64> = [500, 1_000, 2_000, 5_000]
        .into_iter()
        .map(|tick_ms| {
            let mut world = World { tick_ms, ..World::new() };
            let one = world.start("one", "pod-a", 0);
            world.run(180, &[(one, &|_| Load::web(20.0))]);
            let onset_ms = world.now_ms;
            world.run(60, &[(one, &|_| Load::web(20.0).mining(0.9))]);
            world.one("one", Kind::Mining, onset_ms)
        })
        .collect();

    println!("delays at 0.5, 1, 2, 5 s: {delays:?}");
    assert!(delays.iter().all(|delay| (2.0..=15.0).contains(delay)), "{delays:?}");
}

#[test]
fn late_and_replayed_data_never_pages() {
    for origin in [Origin::Late, Origin::Replay] {
        let mut world = World { origin, ..World::new() };
        let one = world.start("web", "pod-a", 0);
        world.run(180, &[(one, &|_| Load::web(10.0))]);

        world.run(60, &[(one, &|_| Load { cpu: 0.9, established: 150.0, throttled: 0.9, ..Load::web(900.0) })]);

        assert_eq!(world.incidents().len(), 1);
        assert_eq!(world.incidents()[0].severity, Severity::Ticket as i32);
        assert_eq!(world.incidents()[0].origin, origin as i32);
    }
}

#[test]
fn the_same_input_gives_the_same_words() {
    let told = || {
        let mut world = World::new();
        let one = world.start("web", "pod-a", 0);
        world.run(120, &[(one, &|_| Load::web(10.0))]);
        world.run(60, &[(one, &|_| Load::web(900.0))]);
        world.run(60, &[(one, &|_| Load::web(10.0))]);
        world.changes.iter().map(|change| format!("{change:?}")).collect::<Vec<_>>()
    };

    assert!(!told().is_empty());
    assert_eq!(told(), told());
}
