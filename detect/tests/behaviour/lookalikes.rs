//! Ordinary work that resembles an attack, and those who are only affected by one: nothing opens.

use vedette_proto::v1::Kind;

use crate::world::{Load, World};

/// One workload, watched from the start, does `load`; nothing may open.
#[track_caller]
fn ordinary(seconds: i64, load: &dyn Fn(f64) -> Load) {
    let mut world = World::new();
    let one = world.start("ordinary", "pod-a", 0);

    world.run(seconds, &[(one, load)]);

    world.none();
}

/// The same as a new workload in a cluster known for two minutes, and inside a warm idle one.
#[track_caller]
fn placebo(load: &dyn Fn(f64) -> Load) {
    let mut world = World::new();
    let host = world.start("host", "pod-a", 0);
    world.run(120, &[(host, &|_| Load::IDLE)]);
    let new = world.start("new", "pod-b", 0);

    world.run(45, &[(host, load), (new, load)]);

    world.none();
}

fn on(t: f64, period: f64, share: f64) -> bool {
    t % period < period * share
}

#[test]
fn a_batch_job_that_works_20_of_60_seconds_is_ordinary() {
    ordinary(1_800, &|t| if on(t, 60.0, 0.33) { Load::IDLE.mining(1.0) } else { Load::IDLE });
    ordinary(1_800, &|t| if on(t + 20.0, 60.0, 0.33) { Load::IDLE.mining(1.0) } else { Load::IDLE });
    ordinary(1_800, &|t| if on(t + 40.0, 60.0, 0.33) { Load::IDLE.mining(1.0) } else { Load::IDLE });
}

#[test]
fn a_day_that_rises_and_falls_is_ordinary() {
    // Twenty-fold between night and noon, in an hour instead of a day.
    ordinary(7_200, &|t| Load::web(5.0 * (1.5 * (1.0 - (t / 3_600.0 * std::f64::consts::TAU).cos())).exp()));
}

#[test]
fn bursts_each_minute_are_ordinary() {
    ordinary(1_800, &|t| Load::web(if on(t, 60.0, 0.1) { 150.0 } else { 10.0 }));
}

#[test]
fn short_bursts_of_cpu_are_no_mining() {
    placebo(&|t| if on(t, 15.0, 0.2) { Load::IDLE.mining(0.9) } else { Load::IDLE });
    placebo(&|_| Load::IDLE.mining(0.12));
}

#[test]
fn a_few_connections_per_second_are_no_scan() {
    placebo(&|_| Load { opens: 3.0, tx_bytes: 1_500.0, rx_bytes: 2_000.0, tx_packets: 18.0, rx_packets: 18.0, ..Load::IDLE });
    placebo(&|_| Load::client(5.0));
}

#[test]
fn small_uploads_are_no_exfiltration() {
    placebo(&|_| Load::IDLE.upload(20e3));
    placebo(&|t| if on(t, 15.0, 0.1) { Load::IDLE.upload(300e3) } else { Load::IDLE });
}

#[test]
fn twice_the_requests_are_no_flood() {
    let mut world = World::new();
    let web = world.start("web", "pod-a", 0);
    let client = world.start("client", "pod-b", 0);
    world.run(120, &[(web, &|_| Load::web(20.0)), (client, &|_| Load::client(20.0))]);

    world.run(120, &[(web, &|_| Load::web(50.0)), (client, &|_| Load::client(50.0))]);

    world.none();
}

#[test]
fn a_server_of_large_responses_under_more_load_exfiltrates_nothing() {
    let files = |requests: f64| Load { tx_bytes: requests * 100e3, rx_bytes: requests * 2e3, ..Load::web(requests) };
    let mut world = World::new();
    let web = world.start("web", "pod-a", 0);
    world.run(120, &[(web, &|_| files(10.0))]);

    world.run(120, &[(web, &|_| files(25.0))]);

    world.none();
}

#[test]
fn who_receives_an_upload_opens_nothing() {
    let mut world = World::new();
    let sink = world.start("sink", "pod-a", 0);
    world.run(120, &[(sink, &|_| Load::IDLE)]);

    world.run(60, &[(sink, &|_| Load { cpu: 0.05, accepts: 0.2, ..Load::IDLE.sink(5e6) })]);

    world.none();
}

#[test]
fn neighbours_of_a_flood_open_nothing() {
    let mut world = World::new();
    let web = world.start("web", "pod-a", 0);
    let client = world.start("client", "pod-b", 0);
    let batch = world.start("batch", "pod-c", 0);
    let work = |t: f64| if on(t, 60.0, 0.33) { Load::IDLE.mining(0.8) } else { Load::IDLE };
    world.run(180, &[(web, &|_| Load::web(20.0)), (client, &|_| Load::client(20.0)), (batch, &work)]);
    let onset_ms = world.now_ms;

    // The client gets fewer answers and some resets, the batch job half of its CPU.
    let flooded = Load { cpu: 0.9, established: 150.0, throttled: 0.9, ..Load::web(900.0) };
    let served_badly = Load { estab_resets: 1.0, fails: 1.0, ..Load::client(8.0) };
    let starved = |t: f64| if on(t, 60.0, 0.66) { Load::IDLE.mining(0.4) } else { Load::IDLE };
    world.run(60, &[(web, &|_| flooded), (client, &|_| served_badly), (batch, &starved)]);

    world.one("web", Kind::Flood, onset_ms);
}

#[test]
fn falling_values_open_nothing() {
    let mut world = World::new();
    let web = world.start("web", "pod-a", 0);
    world.run(180, &[(web, &|_| Load { cpu: 0.6, ..Load::web(200.0) })]);

    world.run(300, &[(web, &|_| Load { cpu: 0.0, ..Load::web(0.0) })]);

    world.none();
}

#[test]
fn a_start_that_burns_cpu_for_ten_seconds_is_no_mining() {
    let mut world = World::new();
    let other = world.start("other", "pod-a", 0);
    world.run(120, &[(other, &|_| Load::IDLE)]);
    let jvm = world.start("jvm", "pod-b", 0);

    world.run(120, &[(jvm, &|t| if t < 10.0 { Load::IDLE.mining(1.2) } else { Load::web(5.0) })]);

    world.none();
}

#[test]
fn a_sidecar_is_explained_by_its_pods_traffic() {
    let mut world = World::new();
    let web = world.start("web", "pod-a", 0);
    let sidecar = world.start("sidecar", "pod-a", 0);
    // Only the pod's first container reports the network; the harness gives both rows, the sidecar's says nothing.
    let silent = |requests: f64| Load { cpu: requests * 0.002, rx_packets: 0.0, tx_packets: 0.0, ..Load::IDLE };
    world.run(120, &[(sidecar, &|_| silent(10.0)), (web, &|_| Load::web(10.0))]);

    world.run(60, &[(sidecar, &|_| silent(40.0)), (web, &|_| Load::web(40.0))]);

    world.none();
}

#[test]
fn the_source_of_a_flood_is_not_taken_for_its_victim() {
    let requests = |rate: f64, reuse: f64| Load {
        opens: rate / reuse,
        established: 100.0,
        cpu: 0.6,
        tx_packets: rate * 1.5,
        rx_packets: rate * 1.5,
        rx_bytes: rate * 900.0,
        tx_bytes: rate * 200.0,
        ..Load::IDLE
    };

    placebo(&|_| requests(1_200.0, 20.0));
    placebo(&|_| requests(700.0, 5.0));
}
