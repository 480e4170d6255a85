//! A baseline that is moved by small steps, and workloads that move by themselves. A row per minute: weeks are cheap so.

use vedette_proto::v1::{IncidentChange, Severity};

use crate::world::{Handle, Load, START_MS, World};

const HOUR_S: f64 = 3_600.0;
const DAY_S: i64 = 86_400;

/// A world of which an agent tells every half a minute.
fn slow_world() -> World {
    World { tick_ms: 30_000, ..World::new() }
}

fn grown(load: Load, cpu: f64) -> Load {
    Load { cpu: load.cpu * cpu, ..load }
}

/// CPU of the working service.
const CPU: f64 = 0.2;

fn working() -> Load {
    Load { cpu: CPU, ..Load::web(60.0) }
}

/// CPU, in multiples of what it was, when the incident opened that `percent` more every ten minutes came to.
fn poisoned(percent: f64, warm_s: i64) -> f64 {
    let mut world = slow_world();
    let one = world.start("web", "pod-a", 0);
    world.run(warm_s, &[(one, &|_| working())]);
    world.none();
    let from_ms = world.now_ms;
    let times = |second: f64| (1.0 + percent / 100.0).powf(second / 600.0);
    let mut second = 0.0;
    while times(second) < 3.5 {
        let from = second;
        world.run(3_600, &[(one, &|of_hour| grown(working(), times(from + of_hour)))]);
        second += HOUR_S;
        if let Some(incident) = world.incidents().first() {
            assert_eq!(incident.severity, Severity::Ticket as i32);
            assert!(incident.effect.starts_with("slow drift"), "{}", incident.effect);
            assert!(incident.evidence[0].sentence.contains("times the reference"), "{:?}", incident.evidence);
            return times((incident.opened_unix_ms - from_ms) as f64 / 1e3);
        }
    }
    panic!("no incident at 3.5 times");
}

#[test]
fn cpu_that_is_raised_by_small_steps_is_told_before_three_times_the_reference() {
    for (percent, warm_s) in [(0.2, DAY_S), (1.0, DAY_S), (2.0, DAY_S), (2.0, 7_200)] {
        let times = poisoned(percent, warm_s);
        println!("{percent} % every ten minutes after {warm_s} s: told at {times:.2} times");

        assert!((2.0..3.0).contains(&times), "{percent} %: {times}");
    }
}

/// Requests of a day: at night a third of what noon has.
fn diurnal(second: f64) -> f64 {
    let hour = (START_MS as f64 / 1e3 + second) / HOUR_S;
    60.0 * ((hour / 24.0 * std::f64::consts::TAU).sin() * 0.55).exp()
}

#[test]
fn days_that_go_up_and_down_by_a_factor_of_three_are_no_drift() {
    let mut world = slow_world();
    let one = world.start("web", "pod-a", 0);

    world.run(9 * DAY_S, &[(one, &|second| Load { cpu: diurnal(second) * 0.004, ..Load::web(diurnal(second)) })]);

    world.none();
}

#[test]
fn growth_of_a_few_per_cent_a_day_is_asked_about_once_and_quiet_after_it_was_accepted() {
    let mut world = slow_world();
    let one = world.start("web", "pod-a", 0);
    let load = |second: f64| {
        let requests = diurnal(second) * 1.04f64.powf(second / DAY_S as f64);
        Load { cpu: requests * 0.004, ..Load::web(requests) }
    };

    world.run(14 * DAY_S, &[(one, &load)]);
    world.none();
    let mut days = 14.0;
    let mut a_day = |world: &mut World| {
        let from = days * DAY_S as f64;
        world.run(DAY_S, &[(one, &|second| load(from + second))]);
        days += 1.0;
        days
    };
    while world.incidents().is_empty() && a_day(&mut world) < 60.0 {}
    let id = world.incidents()[0].id;
    world.detector.accept(id).unwrap();
    for _ in 0..5 {
        a_day(&mut world);
    }

    assert_eq!((world.count(IncidentChange::Opened), world.count(IncidentChange::Resolved)), (1, 1));
}

/// An incident of a new steady level, hours later.
fn new_level(hours: i64) -> (World, Handle, u64) {
    let mut world = slow_world();
    let one = world.start("web", "pod-a", 0);
    world.run(DAY_S, &[(one, &|_| working())]);
    world.run(hours * 3_600, &[(one, &|_| grown(working(), 5.0))]);
    let id = world.incidents()[0].id;
    (world, one, id)
}

#[test]
fn a_restart_every_three_hours_hides_no_drift() {
    let mut world = slow_world();
    let one = world.start("web", "pod-a", 0);
    world.run(DAY_S, &[(one, &|_| working())]);
    let mut times = 1.0;
    while world.incidents().is_empty() && times < 3.5 {
        let from = times;
        world.run(3 * 3_600, &[(one, &|second| grown(working(), from * 1.01f64.powf(second / 600.0)))]);
        times = from * 1.01f64.powf(18.0);
        world.restart_remembering();
    }

    let incident = world.incidents()[0];
    assert!(incident.effect.starts_with("slow drift") && times < 3.4, "{times}: {}", incident.summary);
    assert!(incident.evidence[0].observed.unwrap() < 3.0 * CPU, "{}", incident.summary);
}

#[test]
fn an_incident_that_goes_through_a_restart_asks_when_it_would_have() {
    let (mut world, one, _) = new_level(12);

    world.restart_remembering();
    world.run(11 * 3_600, &[(one, &|_| grown(working(), 5.0))]);
    let before = asks(&world);
    world.run(3 * 3_600, &[(one, &|_| grown(working(), 5.0))]);

    assert!(!before && asks(&world));
    assert_eq!(world.count(IncidentChange::Opened), 1);
}

fn asks(world: &World) -> bool {
    let last = world.incidents()[0];
    let sentence = format!("accept it with `vedette accept {}`", last.id);
    last.summary.contains(&sentence) && last.evidence.iter().any(|one| one.sentence.contains(&sentence))
}

#[test]
fn an_incident_of_a_day_asks_whether_that_is_normal_now() {
    let (before, ..) = new_level(23);
    let (after, ..) = new_level(26);

    assert!(!asks(&before) && asks(&after));
    assert_eq!(after.incidents().len(), 1);
}

#[test]
fn what_an_operator_accepts_serves_and_an_attack_on_top_of_it_is_seen() {
    let (mut world, one, id) = new_level(2);

    let accepted = world.detector.accept(id).unwrap();
    world.run(3_600, &[(one, &|_| grown(working(), 5.0))]);

    assert!(!accepted.by_timer);
    assert_ne!(world.incidents()[0].resolved_unix_ms, 0);
    let onset_ms = world.now_ms;
    world.tick_ms = 1_000;
    world.run(60, &[(one, &|_| grown(working(), 5.0).mining(2.0))]);
    let incidents = world.incidents();
    assert_eq!(incidents.len(), 2);
    assert!(incidents[1].opened_unix_ms - onset_ms < 15_000);
}

#[test]
fn nobody_can_accept_what_is_not_open_or_was_hardly_seen() {
    let (mut world, _, id) = new_level(1);
    let mut fresh = World::new();
    let one = fresh.start("web", "pod-a", 0);
    fresh.run(300, &[(one, &|_| working())]);
    fresh.run(60, &[(one, &|_| grown(working(), 5.0))]);
    let young = fresh.incidents()[0].id;

    assert_eq!(world.detector.accept(id + 1).unwrap_err().to_string(), format!("no incident {} is open", id + 1));
    assert!(fresh.detector.accept(young).unwrap_err().to_string().contains("accepted after 300 s"));
}

#[test]
fn a_timer_accepts_a_ticket_that_nobody_answered_and_no_attack() {
    for (answer, by_timer) in [(None, 1), (Some(vedette_proto::v1::Answer::Attack), 0)] {
        let (mut world, one, id) = new_level(2);
        if let Some(answer) = answer {
            world.detector.answered(id, answer);
        }

        world.run(50 * 3_600, &[(one, &|_| grown(working(), 5.0))]);

        let accepted = world.detector.accepted();
        assert_eq!(accepted.iter().filter(|one| one.by_timer && one.incident_id == id).count(), by_timer, "{answer:?}");
        assert_eq!(world.incidents()[0].resolved_unix_ms != 0, by_timer == 1);
    }
}
