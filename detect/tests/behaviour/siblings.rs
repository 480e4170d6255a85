//! Replicas beside each other, relatives after each other, and the hours of a workload.

use vedette_proto::v1::{BaselineState, Kind};

use crate::world::{Handle, Load, World};

/// Four replicas that are busy in bursts, for a while.
fn bursty() -> (World, Vec<Handle>) {
    let mut world = World::new();
    let replicas: Vec<Handle> = ["pod-a", "pod-b", "pod-c", "pod-d"].iter().map(|pod| world.start("batch", pod, 0)).collect();
    run(&mut world, &replicas, 900, &burst);
    world.none();
    (world, replicas)
}

/// Twenty seconds of a whole core in every two minutes.
fn burst(second: f64) -> Load {
    if second % 120.0 < 20.0 { Load::IDLE.mining(1.0) } else { Load::IDLE }
}

fn run(world: &mut World, replicas: &[Handle], seconds: i64, first: &dyn Fn(f64) -> Load) {
    let mut loads: Vec<(Handle, &dyn Fn(f64) -> Load)> = vec![(replicas[0], first)];
    loads.extend(replicas[1..].iter().map(|one| (*one, &burst as &dyn Fn(f64) -> Load)));
    world.run(seconds, &loads);
}

#[test]
fn a_miner_in_one_replica_is_seen_against_its_siblings_though_the_band_is_wide() {
    let (mut world, replicas) = bursty();
    let onset_ms = world.now_ms;

    run(&mut world, &replicas, 420, &|_| Load::IDLE.mining(1.0));

    let delay_s = world.one("batch", Kind::Mining, onset_ms);
    assert!((150.0..=330.0).contains(&delay_s), "{delay_s}");
    let evidence = &world.incidents()[0].evidence;
    assert!(evidence.iter().any(|one| one.sentence.contains("in one replica, while its 3 siblings")), "{evidence:?}");
    assert_eq!(world.incidents()[0].pods, ["pod-a"]);
}

#[test]
fn a_replica_that_serves_more_traffic_than_its_siblings_is_no_outlier() {
    let mut world = World::new();
    let replicas: Vec<Handle> = ["pod-a", "pod-b", "pod-c"].iter().map(|pod| world.start("web", pod, 0)).collect();
    let (little, much) = (|_: f64| Load::web(40.0), |_: f64| Load::web(400.0));

    world.run(900, &[(replicas[0], &much), (replicas[1], &little), (replicas[2], &little)]);

    world.none();
}

#[test]
fn a_new_replica_set_begins_with_what_the_one_before_it_knew() {
    let mut world = World::new();
    world.owner_kind = "ReplicaSet";
    let first = world.start("web-6d4cf56db6", "pod-a", 0);
    world.run(300, &[(first, &|_| Load::web(50.0))]);

    let second = world.start("web-7f9c5b8d4f", "pod-b", 0);
    let other = world.start("cart-7f9c5b8d4f", "pod-c", 0);

    assert_eq!((world.baseline(second), world.baseline(other)), (BaselineState::Ready, BaselineState::Learning));
    world.run(120, &[(second, &|_| Load::web(50.0)), (other, &|_| Load::IDLE)]);
    world.none();
    let onset_ms = world.now_ms;
    world.run(60, &[(second, &|_| Load::web(50.0).mining(0.9)), (other, &|_| Load::IDLE)]);
    assert!(world.one("web-7f9c5b8d4f", Kind::Mining, onset_ms) <= 20.0);
}
