//! A rollout: new work of a new version is not called bad at once, and what is bad is told all the same.

use vedette_proto::v1::{self, Severity};

use crate::world::{Handle, Load, World};

fn owner(name: &str) -> v1::Workload {
    v1::Workload {
        cluster: "test".into(),
        namespace: "shop".into(),
        owner_kind: "Deployment".into(),
        owner_name: name.into(),
        container_name: String::new(),
    }
}

/// A workload whose baseline is old, and a client of its.
fn warmed() -> (World, Handle) {
    let mut world = World::new();
    let shop = world.start("shop", "pod-a", 0);
    world.run(300, &[(shop, &|_| Load::client(10.0))]);
    world.none();
    (world, shop)
}

/// The severity of the one incident, as it was last told.
fn severity(world: &World) -> Severity {
    let incidents = world.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    Severity::try_from(incidents[0].severity).unwrap()
}

#[test]
fn what_would_page_is_a_ticket_until_the_hold_off_ends() {
    let (mut world, shop) = warmed();
    let mining = |_| Load::client(10.0).mining(0.9);
    assert_eq!(world.detector.rolled_out(&owner("shop"), world.now_ms), 1);

    world.run(25, &[(shop, &mining)]);
    world.process(shop, "kworkerds");
    world.run(240, &[(shop, &mining)]);
    assert_eq!(severity(&world), Severity::Ticket);
    let change = world.changes.iter().find(|change| change.incident.severity == Severity::Ticket as i32).unwrap();
    assert!(change.reasoning.contains("it rolls out, and this is a ticket at most"), "{}", change.reasoning);

    world.run(60, &[(shop, &mining)]);
    assert_eq!(severity(&world), Severity::Page);
}

#[test]
fn another_owners_rollout_holds_nothing_off() {
    let (mut world, shop) = warmed();
    let elsewhere = v1::Workload { namespace: "other".into(), ..owner("shop") };
    for other in [owner("cart"), elsewhere] {
        assert_eq!(world.detector.rolled_out(&other, world.now_ms), 0);
    }

    world.run(25, &[(shop, &|_| Load::client(10.0).mining(0.9))]);
    world.process(shop, "kworkerds");
    world.run(15, &[(shop, &|_| Load::client(10.0).mining(0.9))]);

    assert_eq!(severity(&world), Severity::Page);
}

#[test]
fn an_attack_during_a_rollout_storm_is_at_least_a_ticket() {
    let mut world = World::new();
    let steady = world.start("shop", "pod-0", 0);
    world.run(300, &[(steady, &|_| Load::client(10.0))]);

    // Somebody rolls out every minute for an hour: replicas come and go, and from minute 20 on the newest of them mines.
    let mut newest = steady;
    for minute in 1..=60 {
        world.detector.rolled_out(&owner("shop"), world.now_ms);
        if newest.key() != steady.key() {
            world.stop(newest);
        }
        newest = world.start("shop", &format!("pod-{minute}"), 0);
        let bad = move |_: f64| if minute >= 20 { Load::client(10.0).mining(0.9) } else { Load::client(10.0) };
        world.run(60, &[(steady, &|_| Load::client(10.0)), (newest, &bad)]);
        if minute == 19 {
            world.none();
        }
    }

    assert!(severity(&world) >= Severity::Ticket);
    assert_eq!(world.incidents()[0].kind, v1::Kind::Mining as i32);
}

/// The highest score over a minute of a version that opens more connections, some of which fail.
fn of_a_new_version(rolled_out: bool) -> f32 {
    let (mut world, shop) = warmed();
    if rolled_out {
        world.detector.rolled_out(&owner("shop"), world.now_ms);
    }
    let mut most = 0.0f32;
    for _ in 0..60 {
        world.run(1, &[(shop, &|_| Load::client(10.0).scan(12.0))]);
        most = most.max(world.score(shop));
    }
    most
}

#[test]
fn a_rollout_widens_the_band() {
    let (held, judged) = (of_a_new_version(true), of_a_new_version(false));

    assert!(judged > 0.2 && held < judged / 2.0, "{held} during the hold-off, {judged} without");
}

#[test]
fn what_was_learnt_outlives_a_rollout() {
    let (mut world, shop) = warmed();

    world.detector.rolled_out(&owner("shop"), world.now_ms);

    assert_eq!(world.baseline(shop), v1::BaselineState::Ready);
}
