//! Each kind in a warm workload and as a new one: it opens once, is named, and in time.

use vedette_proto::v1::{self, Kind, Severity};

use crate::world::{Load, World};

/// Seconds of ordinary life before an attack.
const WARM_S: i64 = 120;

/// An attack inside a workload that did `before` for two minutes; gives the delay.
#[track_caller]
fn warm(kind: Kind, before: Load, attack: Load) -> f64 {
    let mut world = World::new();
    let victim = world.start("victim", "pod-a", 0);
    let other = world.start("other", "pod-b", 0);
    let ordinary = |_: f64| Load::web(20.0);
    world.run(WARM_S, &[(victim, &|_| before), (other, &ordinary)]);
    world.none();
    let onset_ms = world.now_ms;

    world.run(40, &[(victim, &|_| attack), (other, &ordinary)]);
    world.run(60, &[(victim, &|_| before), (other, &ordinary)]);

    let delay = world.one("victim", kind, onset_ms);
    assert_ne!(world.incidents()[0].resolved_unix_ms, 0, "still open");
    println!("warm {} {delay} s: {:#?}", kind.word(), world.incidents()[0].evidence.iter().map(|e| &e.sentence).collect::<Vec<_>>());
    delay
}

/// A container that does nothing but attack from its first second, in a cluster that has been watched for a while.
#[track_caller]
fn cold(kind: Kind, attack: Load) -> f64 {
    let mut world = World::new();
    let others: Vec<_> = (0..3).map(|place| world.start(&format!("other-{place}"), &format!("pod-{place}"), 0)).collect();
    let ordinary = |_: f64| Load::web(20.0);
    let loads = |others: &[_]| others.iter().map(|&other| (other, &ordinary as &dyn Fn(f64) -> Load)).collect::<Vec<_>>();
    world.run(WARM_S, &loads(&others));
    let onset_ms = world.now_ms;
    let attacker = world.start("attacker", "pod-x", 0);

    let mut during = loads(&others);
    let bad = |_: f64| attack;
    during.push((attacker, &bad));
    world.run(40, &during);
    world.stop(attacker);
    world.run(60, &loads(&others));

    let delay = world.one("attacker", kind, onset_ms);
    assert_ne!(world.incidents()[0].resolved_unix_ms, 0, "still open");
    println!("cold {} {delay} s: {:#?}", kind.word(), world.incidents()[0].evidence.iter().map(|e| &e.sentence).collect::<Vec<_>>());
    delay
}

#[test]
fn mining_opens_within_ten_seconds_in_a_warm_workload() {
    assert!(warm(Kind::Mining, Load::web(20.0), Load::web(20.0).mining(0.9)) <= 10.0);
    assert!(warm(Kind::Mining, Load::IDLE, Load::IDLE.mining(0.5)) <= 12.0);
    assert!(warm(Kind::Mining, Load::web(200.0), Load::web(200.0).mining(1.0)) <= 12.0);
}

#[test]
fn mining_opens_within_25_seconds_in_a_new_workload() {
    assert!(cold(Kind::Mining, Load::IDLE.mining(0.9)) <= 20.0);
    assert!(cold(Kind::Mining, Load::IDLE.mining(0.65)) <= 25.0);
    assert!(cold(Kind::Mining, Load { throttled: 0.9, ..Load::IDLE.mining(0.3) }) <= 25.0);
}

#[test]
fn a_scan_opens_within_fifteen_seconds_in_a_warm_workload() {
    assert!(warm(Kind::Scan, Load::web(20.0), Load::web(20.0).scan(200.0)) <= 15.0);
    assert!(warm(Kind::Scan, Load::IDLE, Load::IDLE.scan(20.0)) <= 15.0);
}

#[test]
fn a_scan_opens_within_25_seconds_in_a_new_workload() {
    assert!(cold(Kind::Scan, Load::IDLE.scan(200.0)) <= 25.0);
    assert!(cold(Kind::Scan, Load::IDLE.scan(40.0)) <= 25.0);
}

#[test]
fn a_scan_into_silence_shows_by_its_syn_retransmits() {
    let silent = Load { opens: 15.0, syn_retransmits: 12.0, tx_packets: 25.0, tx_bytes: 25_000.0, ..Load::IDLE };

    assert!(warm(Kind::Scan, Load::IDLE, silent) <= 20.0);
}

#[test]
fn a_flood_opens_on_its_victim() {
    let flooded = Load { cpu: 0.9, established: 120.0, throttled: 0.8, ..Load::web(900.0) };
    assert!(warm(Kind::Flood, Load::web(10.0), flooded) <= 12.0);

    let keep_alive = Load { accepts: 10.0, established: 30.0, cpu: 0.8, ..Load::web(600.0) };
    assert!(warm(Kind::Flood, Load::web(10.0), keep_alive) <= 12.0);

    let syn = Load { fails: 865.0, rx_packets: 900.0, tx_packets: 900.0, rx_bytes: 54e3, tx_bytes: 54e3, ..Load::web(10.0) };
    assert!(warm(Kind::Flood, Load::web(10.0), syn) <= 15.0);
}

#[test]
fn an_exfiltration_opens_in_a_warm_workload() {
    assert!(warm(Kind::Exfiltration, Load::web(20.0), Load::web(20.0).upload(3e6)) <= 10.0);
    assert!(warm(Kind::Exfiltration, Load::IDLE, Load::IDLE.upload(600e3)) <= 12.0);
}

#[test]
fn an_exfiltration_opens_in_a_new_workload() {
    assert!(cold(Kind::Exfiltration, Load::IDLE.upload(3e6)) <= 20.0);
    assert!(cold(Kind::Exfiltration, Load::IDLE.upload(500e3)) <= 25.0);
}

#[test]
fn an_api_storm_is_recon_and_not_a_scan() {
    let storm = Load {
        opens: 105.0,
        estab_resets: 51.0,
        out_resets: 116.0,
        tx_bytes: 105.0 * 1_500.0,
        rx_bytes: 105.0 * 4_000.0,
        rx_packets: 105.0 * 9.0,
        tx_packets: 105.0 * 9.0,
        cpu: 0.4,
        ..Load::IDLE
    };

    assert!(warm(Kind::Recon, Load::IDLE, storm) <= 15.0);
    assert!(cold(Kind::Recon, storm) <= 25.0);
}

#[test]
fn a_fork_bomb_opens() {
    let bomb = Load { pids: 600.0, child_faults: 60e3, cpu: 1.5, ..Load::IDLE };

    assert!(warm(Kind::ForkBomb, Load::IDLE, bomb) <= 15.0);
    assert!(cold(Kind::ForkBomb, bomb) <= 25.0);
}

#[test]
fn a_process_near_the_pids_limit_is_a_fact_within_a_slow_tick() {
    let near = Load { pids: 950.0, ..Load::IDLE };

    assert!(warm(Kind::ForkBomb, Load::IDLE, near) <= 5.0);
}

#[test]
fn an_oom_kill_is_a_ticket_within_a_slow_tick() {
    let mut world = World::new();
    let victim = world.start("victim", "pod-a", 0);
    world.run(60, &[(victim, &|_| Load::IDLE)]);
    let onset_ms = world.now_ms;

    world.run(5, &[(victim, &|t| Load { oom_kills: if t <= 1.0 { 1.0 } else { 0.0 }, ..Load::IDLE })]);

    assert!(world.one("victim", Kind::MemoryLeak, onset_ms) <= 5.0);
    assert_eq!(world.incidents()[0].severity, Severity::Ticket as i32);
}

#[test]
fn the_first_raw_socket_of_a_known_workload_is_a_ticket() {
    assert!(warm(Kind::Scan, Load::IDLE, Load { raw_sockets: 2.0, ..Load::IDLE }) <= 5.0);
}

#[test]
fn memory_that_only_grows_towards_its_limit_is_a_leak() {
    let mut world = World::new();
    let victim = world.start("victim", "pod-a", 0);
    world.run(120, &[(victim, &|_| Load::IDLE)]);

    world.run(1_000, &[(victim, &|t| Load { anon: 20e6 + t * 2e6, ..Load::IDLE })]);

    assert!(world.one("victim", Kind::MemoryLeak, world.now_ms) <= 0.0);
}

#[test]
fn one_family_is_a_ticket_and_two_page() {
    let mut world = World::new();
    let victim = world.start("victim", "pod-a", 0);
    world.run(120, &[(victim, &|_| Load::IDLE)]);

    world.run(25, &[(victim, &|_| Load::IDLE.mining(0.9))]);
    assert_eq!(world.incidents()[0].severity, Severity::Ticket as i32);

    world.process(victim, "kworkerds");
    world.run(15, &[(victim, &|_| Load::IDLE.mining(0.9))]);
    assert_eq!(world.incidents()[0].severity, Severity::Page as i32);
}

/// A miner in a warmed workload, in the middle of which a process is seen; `usual` was seen while the baseline was learnt.
fn mined_while_seen(usual: v1::ProcessSeen, seen: v1::ProcessSeen) -> v1::Incident {
    let mut world = World::new();
    let victim = world.start("victim", "pod-a", 0);
    world.saw(victim, usual);
    world.run(120, &[(victim, &|_| Load::IDLE)]);
    world.run(25, &[(victim, &|_| Load::IDLE.mining(0.9))]);
    assert_eq!(world.incidents()[0].severity, Severity::Ticket as i32);

    world.saw(victim, seen);
    world.run(15, &[(victim, &|_| Load::IDLE.mining(0.9))]);

    (*world.incidents()[0]).clone()
}

#[test]
fn more_process_names_than_are_told_and_processes_outside_the_pods_network_are_evidence() {
    let sh = || v1::ProcessSeen { comm: "sh".into(), ..Default::default() };
    let crowd = v1::ProcessSeen { left_out: 9, ..sh() };
    let abroad = v1::ProcessSeen { foreign_network_namespace: true, ..sh() };
    for (seen, sentence) in
        [(crowd, "9 more processes than are told by name"), (abroad, "process \"sh\" in another network namespace than its pod")]
    {
        let incident = mined_while_seen(sh(), seen.clone());
        assert_eq!(incident.severity, Severity::Page as i32, "a second family: {incident:?}");
        assert!(incident.evidence.iter().any(|one| one.sentence.starts_with(sentence)), "{incident:?}");

        let usual = mined_while_seen(seen.clone(), seen);
        assert_eq!(usual.severity, Severity::Ticket as i32, "no evidence where it is normal: {usual:?}");
    }
}

#[test]
fn a_disk_that_fills_shows_by_what_stays_in_the_page_cache() {
    let filling = |t: f64| Load { written: 3e6, files: 2e6 + 3e6 * t, ..Load::IDLE };
    let mut world = World::new();
    let victim = world.start("victim", "pod-a", 0);
    world.run(WARM_S, &[(victim, &|_| Load::IDLE)]);
    world.none();
    let onset_ms = world.now_ms;

    world.run(50, &[(victim, &filling)]);

    assert!(world.one("victim", Kind::DiskFill, onset_ms) <= 30.0);
}

#[test]
fn a_merge_that_deletes_what_it_read_fills_no_disk() {
    // Twelve seconds of writing, then the old segments go.
    let merging = |t: f64| Load { written: 3e6, files: 2e6 + 2e6 * (t % 12.0), ..Load::IDLE };
    let mut world = World::new();
    let store = world.start("store", "pod-a", 0);
    world.run(WARM_S, &[(store, &|_| Load::IDLE)]);

    world.run(60, &[(store, &merging)]);

    world.none();
}
