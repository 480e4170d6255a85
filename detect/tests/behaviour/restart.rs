//! The aggregator starts anew while incidents are open: each goes on under its id, and ends when it is over.

use vedette_detect::{Config, Detector, NodeHeard};
use vedette_proto::v1::{Incident, IncidentChange, Kind, Origin, Severity};

use crate::world::{Load, World};

/// A web service in which somebody mines from second 200 on; the incident is open at the end.
fn mined() -> (World, crate::world::Handle) {
    let mut world = World::new();
    let web = world.start("web", "pod-a", 0);
    world.run(200, &[(web, &|_| Load::web(20.0))]);
    world.run(60, &[(web, &|_| Load::web(20.0).mining(0.9))]);
    assert_eq!(world.detector.stats().open_incidents, 1);
    (world, web)
}

#[test]
fn an_attack_that_goes_on_stays_the_same_incident_and_resolves_when_it_ends() {
    let (mut world, web) = mined();

    world.restart();
    world.run(120, &[(web, &|_| Load::web(20.0).mining(0.9))]);
    let during = world.incidents()[0].resolved_unix_ms;
    let over_ms = world.now_ms;
    world.run(60, &[(web, &|_| Load::web(20.0))]);

    world.one("web", Kind::Mining, 0);
    assert_eq!((during, world.count(IncidentChange::Opened)), (0, 1));
    let resolved_s = (world.incidents()[0].resolved_unix_ms - over_ms) / 1_000;
    assert!((25..=45).contains(&resolved_s), "resolved {resolved_s} s after the end");
}

#[test]
fn an_attack_that_ended_with_the_aggregator_down_resolves_and_leaves_nothing_open() {
    let (mut world, web) = mined();

    world.restart();
    let back_ms = world.now_ms;
    world.run(60, &[(web, &|_| Load::web(20.0))]);

    assert_eq!(world.count(IncidentChange::Opened), 1);
    let resolved_s = (world.incidents()[0].resolved_unix_ms - back_ms) / 1_000;
    assert!((25..=35).contains(&resolved_s), "resolved after {resolved_s} s");
    assert_eq!(world.detector.stats().open_incidents, 0);
}

#[test]
fn new_incidents_never_take_the_id_of_a_restored_one() {
    let (mut world, web) = mined();

    world.restart();
    let other = world.start("other", "pod-b", 0);
    let killed = |_: f64| Load { oom_kills: 1.0, ..Load::IDLE };
    world.run(30, &[(web, &|_| Load::web(20.0).mining(0.9)), (other, &killed)]);

    let ids: Vec<_> = world.incidents().iter().map(|incident| incident.id).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn what_nodes_send_late_keeps_their_live_incident_open() {
    let (mut world, web) = mined();

    world.restart();
    // The aggregator was down for three minutes: the node sends them all, as late.
    world.origin = Origin::Late;
    world.run(180, &[(web, &|_| Load::web(20.0).mining(0.9))]);
    world.origin = Origin::Live;
    world.run(60, &[(web, &|_| Load::web(20.0).mining(0.9))]);

    world.one("web", Kind::Mining, 0);
    assert_eq!((world.count(IncidentChange::Opened), world.incidents()[0].resolved_unix_ms), (1, 0));
}

#[test]
fn a_crash_loop_goes_on_with_its_next_failure() {
    let mut world = World::new();
    let fail = |world: &mut World, restarts: u32, pause_s: i64| {
        let one = world.start("crashing", "pod-a", restarts);
        world.run(2, &[(one, &|_| Load::IDLE)]);
        world.stop(one);
        world.run(pause_s, &[]);
    };
    for restarts in 0..5 {
        fail(&mut world, restarts, 10);
    }

    world.restart();
    let witness = world.start("witness", "pod-b", 0);
    world.run(10, &[(witness, &|_| Load::IDLE)]);
    for restarts in 5..9 {
        fail(&mut world, restarts, 300);
    }
    let open = world.incidents()[0].resolved_unix_ms;
    world.run(700, &[(witness, &|_| Load::IDLE)]);

    world.one("crashing", Kind::CrashLoop, 0);
    assert_eq!((world.count(IncidentChange::Opened), open), (1, 0));
    assert_ne!(world.incidents()[0].resolved_unix_ms, 0);
}

/// When the aggregator began again.
const START_MS: i64 = 1_700_000_000_000;

/// Everything said while nodes are judged every second; `silent_s` gives for a node and a second how long it was not heard then.
fn judge(
    detector: &mut Detector,
    nodes: &[&str],
    seconds: std::ops::RangeInclusive<i64>,
    silent_s: impl Fn(&str, i64) -> i64,
) -> Vec<Told> {
    let mut told = Vec::new();
    for second in seconds {
        let heard = |name| NodeHeard {
            cluster: "test",
            name,
            last_heard_unix_ms: START_MS + (second - silent_s(name, second)) * 1_000,
            connected: false,
            left: false,
            blind: false,
            cordoned_or_deleted: false,
            aggregator_started_unix_ms: START_MS,
        };
        detector.nodes(START_MS + second * 1_000, &nodes.iter().copied().map(heard).collect::<Vec<_>>());
        let change = |change: vedette_detect::Change| (second, change.change, change.incident.severity(), change.incident);
        told.extend(detector.changes().into_iter().map(change));
    }
    told
}

type Told = (i64, IncidentChange, Severity, Incident);

/// Node b died five minutes before the aggregator began again; the others are heard.
fn b_is_dead(name: &str, second: i64) -> i64 {
    if name == "b" { 300 + second } else { 0 }
}

fn when(told: &[Told], severity: Severity) -> i64 {
    told.iter().find(|one| one.2 == severity).unwrap().0
}

#[test]
fn a_node_that_died_with_the_aggregator_down_is_silent_once_that_has_listened_long_enough() {
    let mut detector = Detector::new(Config::default(), 1);

    let told = judge(&mut detector, &["a", "b", "c", "d"], 0..=200, b_is_dead);

    let opened: Vec<_> = told.iter().filter(|one| one.1 == IncidentChange::Opened).collect();
    assert_eq!(opened.len(), 1);
    assert_eq!((opened[0].0, opened[0].2, &opened[0].3.nodes[..]), (60, Severity::Ticket, &["b".to_owned()][..]));
    assert_eq!((START_MS - opened[0].3.onset_unix_ms) / 1_000, 300);
    assert_eq!(when(&told, Severity::Page), 90);
    assert!(opened[0].3.summary.contains("nothing heard for 360 s"), "{}", opened[0].3.summary);
}

#[test]
fn many_that_died_with_the_aggregator_down_are_one_incident_about_ourselves() {
    let mut detector = Detector::new(Config::default(), 1);

    let told = judge(&mut detector, &["a", "b", "c", "d"], 0..=200, |name, second| if name == "d" { 0 } else { 300 + second });

    let opened: Vec<_> = told.iter().filter(|one| one.1 == IncidentChange::Opened).collect();
    assert_eq!(opened.len(), 1);
    assert!(opened[0].3.effect.starts_with("many silent nodes"), "{}", opened[0].3.effect);
    assert_eq!((opened[0].0, when(&told, Severity::Page)), (60, 90));
}

#[test]
fn a_silence_that_was_open_stays_the_same_incident_until_its_node_is_heard() {
    let mut before = Detector::new(Config::default(), 7);
    let open = judge(&mut before, &["a", "b", "c", "d"], 60..=120, b_is_dead).pop().unwrap().3;

    for (heard_after_s, resolved_s) in [(20, 20), (150, 150)] {
        let mut detector = Detector::new(Config::default(), 1);
        assert!(detector.restore(open.clone(), String::new()));
        let silent = |name: &str, second: i64| if second < heard_after_s { b_is_dead(name, second) } else { 0 };
        let told = judge(&mut detector, &["a", "b", "c", "d"], 0..=200, silent);

        assert!(told.iter().all(|one| one.3.id == 7 && one.1 != IncidentChange::Opened), "{told:?}");
        let last = told.last().unwrap();
        assert_eq!((last.0, last.1), (resolved_s, IncidentChange::Resolved));
        assert_eq!(detector.stats().open_incidents, 0);
    }
}

#[test]
fn a_stall_ends_no_silence_and_begins_none() {
    let mut detector = Detector::new(Config::default(), 1);
    let nodes = ["a", "b", "c", "d"];
    let first = judge(&mut detector, &nodes, 60..=120, b_is_dead);

    // As after a stall of the aggregator: it listens anew from START_MS + 200 s on.
    let heard = |name, second: i64, silent_s: i64| NodeHeard {
        cluster: "test",
        name,
        last_heard_unix_ms: START_MS + (second - silent_s) * 1_000,
        connected: false,
        left: false,
        blind: false,
        cordoned_or_deleted: false,
        aggregator_started_unix_ms: START_MS + 200_000,
    };
    for second in 200..=220 {
        let silent: Vec<_> = nodes.iter().map(|&name| heard(name, second, b_is_dead(name, second).max(80))).collect();
        detector.nodes(START_MS + second * 1_000, &silent);
    }

    assert_eq!(first.iter().filter(|one| one.1 == IncidentChange::Opened).count(), 1);
    assert!(detector.changes().is_empty());
    assert_eq!(detector.stats().open_incidents, 1);
}
