//! Profiles of namespaces: the same attack, as loud as its namespace may speak.

use std::collections::BTreeMap;

use vedette_detect::{Config, Namespaces, Profile};
use vedette_proto::v1::{self, Severity};

use crate::world::{Load, World};

/// The loudest that mining with an unknown process is told in the namespace `shop`, during a hold-off or not, and the reasoning.
fn told(patterns: &[(&str, Profile)], rolled_out: bool) -> (Severity, String) {
    let all: BTreeMap<_, _> = patterns.iter().map(|(pattern, profile)| ((*pattern).to_owned(), *profile)).collect();
    let mut world = World::with_config(Config { namespaces: Namespaces(all), ..Config::default() });
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
