//! Containers that fail: the third time is a crash loop, the second is not.

use vedette_proto::v1::{IncidentChange, Kind, Origin, Severity};

use crate::world::{Load, World};

/// Containers of one place that live `lived_s` seconds each with `pauses_s` between them.
fn fail(world: &mut World, lived_s: i64, pauses_s: &[i64]) {
    for (place, &pause_s) in pauses_s.iter().enumerate() {
        let one = world.start("crashing", "pod-a", place as u32);
        if lived_s > 0 {
            world.run(lived_s, &[(one, &|_| Load::IDLE)]);
        }
        world.stop(one);
        world.run(pause_s, &[]);
    }
}

#[test]
fn the_third_failure_is_a_crash_loop_at_once() {
    let mut world = World::new();
    fail(&mut world, 2, &[1, 5]);
    world.none();
    let third_ms = world.now_ms + 2_000;

    fail(&mut world, 2, &[1]);
    // Restarts go on counting where they were.
    assert_eq!(world.incidents().len(), 0, "restart 0 again is a container already counted");
    let one = world.start("crashing", "pod-a", 2);
    world.run(2, &[(one, &|_| Load::IDLE)]);
    world.stop(one);

    assert!(world.one("crashing", Kind::CrashLoop, third_ms) <= 5.0);
}

#[test]
fn containers_that_live_milliseconds_and_have_no_row_count() {
    let mut world = World::new();
    fail(&mut world, 0, &[1, 2, 4, 8]);

    world.one("crashing", Kind::CrashLoop, 0);
    assert_eq!(world.count(IncidentChange::Opened), 1);
}

#[test]
fn failures_that_nobody_saw_are_counted_by_their_successor() {
    let mut world = World::new();
    let first = world.start("crashing", "pod-a", 0);
    world.run(5, &[(first, &|_| Load::IDLE)]);
    world.stop(first);

    // Two came and went between two looks.
    world.start("crashing", "pod-a", 3);

    world.one("crashing", Kind::CrashLoop, 0);
}

#[test]
fn two_restarts_are_no_crash_loop() {
    let mut world = World::new();
    fail(&mut world, 10, &[5, 10]);
    let third = world.start("crashing", "pod-a", 2);
    world.run(300, &[(third, &|_| Load::IDLE)]);

    world.none();
}

#[test]
fn a_container_that_lived_long_did_not_fail() {
    let mut world = World::new();
    fail(&mut world, 700, &[1, 1, 1, 1]);

    world.none();
}

#[test]
fn a_crash_loop_is_one_incident_through_its_back_off() {
    let mut world = World::new();
    fail(&mut world, 2, &[1, 10, 20, 40, 80, 160, 300]);

    assert_eq!(world.count(IncidentChange::Opened), 1);
    world.run(1_000, &[]);
    assert_ne!(world.incidents()[0].resolved_unix_ms, 0);
}

#[test]
fn failures_told_late_or_replayed_in_a_live_cluster_do_not_page() {
    for origin in [Origin::Live, Origin::Late, Origin::Replay] {
        let mut world = World::new();
        fail(&mut world, 2, &[1, 5]);
        let third = world.start("crashing", "pod-a", 2);
        world.run(30, &[(third, &|_| Load::IDLE)]);
        // The cluster has been live until now.
        world.origin = origin;
        world.process(third, "sh");
        world.stop(third);

        let told: Vec<_> = world.incidents().iter().map(|incident| (incident.kind, incident.origin, incident.severity)).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].0, told[0].1), (Kind::CrashLoop as i32, origin as i32));
        assert!(origin == Origin::Live || told[0].2 < Severity::Page as i32, "{told:?}");
    }
}
