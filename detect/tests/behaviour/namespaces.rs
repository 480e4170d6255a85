//! Profiles of namespaces: the same attack, as loud as its namespace may speak.

use std::collections::BTreeMap;

use vedette_detect::{Config, ConfigError, Namespaces, Profile};
use vedette_proto::v1::{self, Severity};

use crate::world::{Handle, Load, World};

fn namespaces(patterns: &[(&str, Profile)]) -> Namespaces {
    Namespaces(patterns.iter().map(|(pattern, profile)| ((*pattern).to_owned(), *profile)).collect::<BTreeMap<_, _>>())
}

/// Lets a workload mine with an unknown process until it is quiet again; the loudest that is told of it.
fn mined(world: &mut World, handle: Handle) -> Severity {
    let before = world.changes.len();
    let mining = |_| Load::client(10.0).mining(0.9);
    world.run(25, &[(handle, &mining)]);
    // New each time.
    world.process(handle, &format!("kworker{before}"));
    world.run(60, &[(handle, &mining)]);
    world.run(120, &[(handle, &|_| Load::client(10.0))]);
    world.changes[before..].iter().map(|change| change.incident.severity()).max().unwrap()
}

/// The loudest that mining with an unknown process is told in the namespace `shop`, during a hold-off or not, and the reasoning.
fn told(patterns: &[(&str, Profile)], rolled_out: bool) -> (Severity, String) {
    let mut world = World::with_config(Config { namespaces: namespaces(patterns), ..Config::default() });
    let shop = world.start("shop", "pod-a", 0);
    world.run(300, &[(shop, &|_| Load::client(10.0))]);
    if rolled_out {
        let owner = v1::Workload {
            cluster: "test".into(),
            namespace: "shop".into(),
            owner_kind: "Deployment".into(),
            owner_name: "shop".into(),
            container_name: String::new(),
        };
        assert_eq!(world.detector.rolled_out(&owner, world.now_ms), 1);
    }
    let mining = |_| Load::client(10.0).mining(0.9);
    world.run(25, &[(shop, &mining)]);
    world.process(shop, "kworkerds");
    world.run(60, &[(shop, &mining)]);
    let loudest = world.changes.iter().max_by_key(|change| change.incident.severity).unwrap();
    (loudest.incident.severity(), loudest.reasoning.clone())
}

#[test]
fn the_profile_caps_what_an_incident_may_be() {
    assert_eq!(told(&[], false).0, Severity::Page);
    assert_eq!(told(&[("cart", Profile::Ignore)], false).0, Severity::Page, "another namespace's");
    let (severity, reasoning) = told(&[("*", Profile::Quiet)], false);
    assert_eq!(severity, Severity::Ticket);
    assert!(reasoning.contains("its namespace is quiet: a ticket at most"), "{reasoning}");
    assert_eq!(told(&[("*", Profile::Quiet), ("sh*", Profile::Normal)], false).0, Severity::Page);
}

#[test]
fn an_ignored_namespace_is_still_watched() {
    let (severity, reasoning) = told(&[("shop", Profile::Ignore)], false);

    assert_eq!(severity, Severity::Note);
    assert!(reasoning.contains("a note at most"), "{reasoning}");
}

#[test]
fn in_a_strict_namespace_a_rollout_is_no_excuse() {
    assert_eq!(told(&[], true).0, Severity::Ticket);

    let (severity, reasoning) = told(&[("shop", Profile::Strict)], true);

    assert_eq!(severity, Severity::Page);
    assert!(!reasoning.contains("at most"), "{reasoning}");
}

#[test]
fn a_changed_profile_holds_for_workloads_that_are_known() {
    let mut world = World::new();
    let shop = world.start("shop", "pod-a", 0);
    world.run(300, &[(shop, &|_| Load::client(10.0))]);

    let as_everywhere = mined(&mut world, shop);
    let others = world.detector.set_namespaces(namespaces(&[("other", Profile::Ignore)]));
    let ignored = world.detector.set_namespaces(namespaces(&[("sh*", Profile::Ignore)]));
    let under_ignore = mined(&mut world, shop);

    assert_eq!((others, ignored), (Ok(0), Ok(1)));
    assert_eq!((as_everywhere, under_ignore), (Severity::Page, Severity::Note));
}

#[test]
fn while_an_incident_is_open_a_quieter_profile_takes_nothing_back_and_a_louder_one_raises_it() {
    let mut world = World::with_config(Config { namespaces: namespaces(&[("*", Profile::Quiet)]), ..Config::default() });
    let shop = world.start("shop", "pod-a", 0);
    world.run(300, &[(shop, &|_| Load::client(10.0))]);
    let mining = |_| Load::client(10.0).mining(0.9);
    world.run(25, &[(shop, &mining)]);
    world.process(shop, "kworkerds");
    world.run(30, &[(shop, &mining)]);
    let severity = |world: &World| world.incidents().iter().map(|incident| incident.severity()).max();
    let capped = severity(&world);

    world.detector.set_namespaces(namespaces(&[])).unwrap();
    world.run(20, &[(shop, &mining)]);
    let raised = severity(&world);
    world.detector.set_namespaces(namespaces(&[("*", Profile::Quiet)])).unwrap();
    world.run(20, &[(shop, &mining)]);

    assert_eq!((capped, raised, severity(&world)), (Some(Severity::Ticket), Some(Severity::Page), Some(Severity::Page)));
}

#[test]
fn a_container_whose_namespace_is_seen_late_speaks_as_its_namespace() {
    let mut world = World::with_config(Config { namespaces: namespaces(&[("shop", Profile::Ignore)]), ..Config::default() });
    world.namespace = "";
    let shop = world.start("shop", "pod-a", 0);
    world.run(300, &[(shop, &|_| Load::client(10.0))]);

    world.named("shop");

    assert_eq!(mined(&mut world, shop), Severity::Note);
}

#[test]
fn a_pattern_that_no_namespace_can_match_changes_nothing() {
    let mut world = World::with_config(Config { namespaces: namespaces(&[("shop", Profile::Ignore)]), ..Config::default() });
    let shop = world.start("shop", "pod-a", 0);
    world.run(300, &[(shop, &|_| Load::client(10.0))]);

    let refused = world.detector.set_namespaces(namespaces(&[("Shop", Profile::Strict)]));

    assert_eq!(refused, Err(ConfigError::Namespace("Shop".to_owned())));
    assert_eq!(mined(&mut world, shop), Severity::Note);
}
