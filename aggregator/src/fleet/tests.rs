//! What the fleet remembers, and what it forgets at its limits.

use vedette_proto::{Column, Observation, v1};

use super::*;

const LIMITS: Limits = Limits { max_nodes: 3, max_replays: 1, max_gone_containers: 2, node_retention_ms: 3_600_000 };

fn hello(node: &str) -> v1::Hello {
    v1::Hello { node: node.into(), ..v1::Hello::default() }
}

fn workload(cluster: &str, name: &str) -> v1::Workload {
    v1::Workload { cluster: cluster.into(), owner_kind: "Pod".into(), owner_name: name.into(), ..v1::Workload::default() }
}

fn add(fleet: &Fleet, node_id: NodeId, key: u64, cluster: &str, id: &str) {
    let container = v1::ContainerAdded { container_id: id.into(), ..v1::ContainerAdded::default() };
    let workload = workload(cluster, id);
    fleet.container_added(key, &Added { node_id, node: "n", workload: &workload, pod_name: "", container: &container, facts: None });
}

#[test]
fn containers_are_filtered_sorted_and_cut() {
    let fleet = Fleet::new("own", LIMITS);
    let node = fleet.connected("own", &hello("n"), 1).unwrap();
    let replayed = fleet.connected("replayed", &hello("n"), 1).unwrap();
    for (key, id) in [(1, "cccccccccccccc"), (2, "aaaaaaaaaaaaaa"), (3, "bbbbbbbbbbbbbb")] {
        add(&fleet, node, key, "own", id);
    }
    add(&fleet, replayed, 4, "replayed", "dddddddddddddd");

    let (two, truncated) = fleet.containers(&v1::Selector::default(), false, 2);
    let by_prefix = v1::Selector { container_id: "cccccccccccc".into(), ..v1::Selector::default() };
    let (one, complete) = fleet.containers(&by_prefix, false, 2);

    assert_eq!(two.iter().map(|c| &c.container_id[..2]).collect::<Vec<_>>(), ["aa", "bb"]);
    assert!(truncated);
    assert_eq!((one.len(), complete), (1, false));
}

#[test]
fn the_longest_gone_container_is_forgotten_first_and_counted() {
    let fleet = Fleet::new("own", LIMITS);
    let node = fleet.connected("own", &hello("n"), 1).unwrap();
    for key in 0..4 {
        add(&fleet, node, key, "own", &format!("id-{key}"));
    }

    for key in 0..3 {
        fleet.container_removed(key, &v1::ContainerRemoved { unix_ms: 1_000 + key as i64, ..v1::ContainerRemoved::default() });
    }

    let (all, _) = fleet.containers(&v1::Selector::default(), true, 10);
    assert_eq!(all.iter().map(|c| &c.container_id[..]).collect::<Vec<_>>(), ["id-1", "id-2", "id-3"]);
    let status = fleet.status();
    assert_eq!((status.containers_alive, status.containers_gone, status.forgotten), (1, 2, 1));
    assert_eq!(fleet.nodes(1)[0].containers, 1);
}

#[test]
fn an_idle_replay_makes_room_for_a_new_one_and_a_connected_one_does_not() {
    let fleet = Fleet::new("own", LIMITS);
    let first = fleet.connected("replay-1", &hello("n"), 1).unwrap();
    add(&fleet, first, 1, "replay-1", "x");

    let while_connected = fleet.connected("replay-2", &hello("n"), 2);
    fleet.disconnected(first);
    let after = fleet.connected("replay-2", &hello("n"), 3);

    assert_eq!(while_connected, Err(FleetFull::Replays(1)));
    assert!(after.is_ok());
    let of_first = v1::Selector { cluster: "replay-1".into(), ..v1::Selector::default() };
    assert!(fleet.containers(&of_first, true, 10).0.is_empty());
}

#[test]
fn a_node_too_many_is_refused() {
    let fleet = Fleet::new("own", LIMITS);
    for name in ["a", "b", "c"] {
        fleet.connected("own", &hello(name), 1).unwrap();
    }

    let fourth = fleet.connected("own", &hello("d"), 1);
    let known = fleet.connected("own", &hello("a"), 1);

    assert_eq!(fourth, Err(FleetFull::Nodes(3)));
    assert!(known.is_ok());
}

#[test]
fn nodes_that_left_or_were_not_heard_for_long_make_room_and_are_counted() {
    let fleet = Fleet::new("own", LIMITS);
    let ids: Vec<_> = ["silent", "left", "here"].map(|name| fleet.connected("own", &hello(name), 1_000).unwrap()).into();
    add(&fleet, ids[1], 1, "own", "x");
    fleet.left(ids[1]);
    ids[..2].iter().for_each(|&id| fleet.disconnected(id));

    // Nobody was replaced yet: the goodbye is too fresh.
    let too_soon = fleet.connected("own", &hello("d"), 30_000);
    let after_goodbye = fleet.connected("own", &hello("d"), 61_000);
    let none_left = fleet.connected("own", &hello("e"), 70_000);
    let after_retention = fleet.connected("own", &hello("e"), 1_000 + LIMITS.node_retention_ms);

    assert_eq!((too_soon, none_left), (Err(FleetFull::Nodes(3)), Err(FleetFull::Nodes(3))));
    assert!(after_goodbye.is_ok() && after_retention.is_ok());
    let names: Vec<_> = fleet.nodes(70_000).into_iter().map(|node| node.name).collect();
    assert_eq!(names, ["d", "e", "here"]);
    assert_eq!(fleet.containers(&v1::Selector::default(), true, 10).0.len(), 0);
    assert_eq!(fleet.status().nodes_forgotten, 2);
    assert_eq!(fleet.forget_replaced(70_000), [(ids[1], "left".into()), (ids[0], "silent".into())]);
}

#[test]
fn a_node_beyond_its_retention_is_forgotten_without_need_and_a_connected_one_never() {
    let fleet = Fleet::new("own", LIMITS);
    let silent = fleet.connected("own", &hello("silent"), 1_000).unwrap();
    fleet.connected("own", &hello("connected"), 1_000).unwrap();
    fleet.disconnected(silent);

    let before = fleet.forget_replaced(999 + LIMITS.node_retention_ms);
    let after = fleet.forget_replaced(1_000 + LIMITS.node_retention_ms);

    assert_eq!((before, after), (vec![], vec![(silent, "silent".into())]));
    assert_eq!(fleet.status().nodes_known, 1);
}

#[test]
fn nodes_of_a_replay_that_is_over_make_room_for_living_ones() {
    let fleet = Fleet::new("own", LIMITS);
    let replayed: Vec<_> = ["a", "b", "c"].map(|name| fleet.connected("again", &hello(name), 1).unwrap()).into();

    let while_replayed = fleet.connected("own", &hello("n"), 2);
    replayed.iter().for_each(|&id| fleet.disconnected(id));
    let after = fleet.connected("own", &hello("n"), 3);

    assert_eq!(while_replayed, Err(FleetFull::Nodes(3)));
    assert!(after.is_ok());
    assert_eq!(fleet.status().nodes_known, 1);
}

#[test]
fn rates_are_per_second_and_what_was_not_read_stays() {
    let fleet = Fleet::new("own", LIMITS);
    let node = fleet.connected("own", &hello("n"), 1).unwrap();
    add(&fleet, node, 1, "own", "x");
    let mut first = Observation::default();
    first.set(Column::IntervalUs, 2_000_000);
    first.set(Column::CpuUsageUs, 500_000);
    first.set(Column::NetTxBytes, 3_000);
    let mut second = Observation::default();
    second.set(Column::MemoryCurrentBytes, 7);

    fleet.observed(node, 10, [(1, &first, 0.25)].into_iter());
    fleet.observed(node, 20, [(1, &second, 0.5)].into_iter());

    let container = &fleet.containers(&v1::Selector::default(), false, 1).0[0];
    assert_eq!((container.cpu_millicores, container.tx_bytes_per_second), (Some(250), Some(1_500)));
    assert_eq!((container.memory_bytes, container.rx_bytes_per_second), (Some(7), None));
    assert_eq!((container.observations, container.score), (2, 0.5));
}

#[test]
fn a_node_is_live_blind_silent_or_left() {
    let fleet = Fleet::new("own", LIMITS);
    let node = fleet.connected("own", &hello("n"), 1_000).unwrap();
    let state = |now| fleet.nodes(now)[0].state();

    assert_eq!(state(2_000), v1::NodeState::Live);
    fleet.heartbeat(node, &v1::Heartbeat { sensor_error: "no /proc".into(), ..v1::Heartbeat::default() }, 3_000);
    assert_eq!(state(4_000), v1::NodeState::Blind);
    assert_eq!(state(60_000), v1::NodeState::Silent);
    fleet.left(node);
    fleet.disconnected(node);
    assert_eq!(state(60_000), v1::NodeState::Left);
}

#[test]
fn processes_and_peers_are_bounded() {
    let fleet = Fleet::new("own", LIMITS);
    let node = fleet.connected("own", &hello("n"), 1).unwrap();
    add(&fleet, node, 1, "own", "x");

    for place in 0..PROCESSES_KEPT + 3 {
        let seen = v1::ProcessSeen { comm: format!("p{place}"), unix_ms: place as i64, ..v1::ProcessSeen::default() };
        fleet.process_seen(1, &seen);
        fleet.process_seen(1, &seen);
        fleet.peers_seen(1, &v1::PeersSeen { unix_ms: place as i64, ..v1::PeersSeen::default() });
    }

    assert_eq!(fleet.processes("x").len(), PROCESSES_KEPT);
    assert_eq!(fleet.processes("x")[0].comm, "p3");
    assert_eq!(fleet.peers("x").len(), PEERS_KEPT);
}

#[test]
fn what_an_agent_told_is_given_only_to_those_who_ask() {
    let fleet = Fleet::new("own", LIMITS);
    let node = fleet.connected("own", &hello("n"), 1).unwrap();
    let container = v1::ContainerAdded {
        container_ref: 7,
        container_id: "c".repeat(64),
        pod_uid: "p".into(),
        cgroup: "/p/c".into(),
        slot: 1,
        pids_limit: Some(512),
        ..v1::ContainerAdded::default()
    };
    let workload = workload("own", "web");
    fleet.container_added(1, &Added { node_id: node, node: "n", workload: &workload, pod_name: "", container: &container, facts: None });
    fleet.process_seen(1, &v1::ProcessSeen { container_ref: 7, comm: "sh".into(), ..v1::ProcessSeen::default() });
    fleet.container_removed(1, &v1::ContainerRemoved { container_ref: 7, unix_ms: 9, pod_remains: true });

    let (plain, _) = fleet.containers(&v1::Selector::default(), true, 10);
    let (told, _) = fleet.told(&v1::Selector::default(), true, 10);

    assert_eq!((plain[0].announced.as_ref(), plain[0].processes.len()), (None, 0));
    assert_eq!(told[0].announced, Some(v1::ContainerAdded { container_ref: 0, ..container }));
    assert_eq!((&told[0].processes[0].comm[..], told[0].processes[0].container_ref), ("sh", 0));
    assert_eq!((told[0].gone_unix_ms, told[0].pod_remained), (9, true));
}
