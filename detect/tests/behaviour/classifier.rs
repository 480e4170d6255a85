//! With a classifier it is the one that decides: what it knows opens, what it holds to be ordinary stays quiet, and facts stay facts.

use std::sync::Arc;

use vedette_detect::{Classifier, Config, Detector, PAGE_FROM, TICKET_FROM};
use vedette_forest::{Curve, Description, Forest, Model, Node, Tree};
use vedette_proto::v1::{IncidentChange, Kind};

use crate::world::{Load, World};

const WARM_S: i64 = 120;

/// Calls a window this kind whose column is above the threshold, and everything else normal; 9 of 10 sure.
fn classifier(column: &str, threshold: f32, kind: Kind) -> Arc<Classifier> {
    let split = Node::Split { column: 0, threshold, missing_right: false, left: 1 };
    let tree = Tree { nodes: vec![split, Node::Leaf(vec![0.9, 0.1]), Node::Leaf(vec![0.1, 0.9])] };
    let description = Description {
        columns: vec![column.into()],
        classes: vec![Kind::Normal.word().into(), kind.word().into()],
        curves: vec![Curve::STRAIGHT; 2],
        unknown_below: 0.4,
        card: [(TICKET_FROM, "0.6"), (PAGE_FROM, "0.8")].map(|(key, value)| (key.into(), value.into())).into(),
    };
    Arc::new(Classifier::new(Model::new(description, Forest::new(1, 2, &[tree]).unwrap()).unwrap()).unwrap().named("test"))
}

/// A web service that mines after two minutes, in a world with a classifier.
fn mined(classifier: Arc<Classifier>) -> World {
    let mut world = World::new();
    world.detector = Detector::new(Config::default(), 1).with_classifier(classifier);
    let victim = world.start("victim", "pod-a", 0);
    world.run(WARM_S, &[(victim, &|_| Load::web(20.0))]);
    world.none();
    world.run(40, &[(victim, &|_| Load::web(20.0).mining(0.9))]);
    world
}

#[test]
fn what_the_classifier_knows_opens_in_time_is_named_and_resolves() {
    let mut world = mined(classifier("beyond_cpu_cores_mean", 0.5, Kind::Mining));
    let onset_ms = world.now_ms - 40_000;
    let victim = world.handle("victim");
    world.run(90, &[(victim, &|_| Load::web(20.0))]);

    let delay = world.one("victim", Kind::Mining, onset_ms);
    assert!(delay <= 12.0, "{delay}");
    let opened = world.changes.iter().find(|change| change.change == IncidentChange::Opened).unwrap();
    assert!(opened.reasoning.starts_with("classifier test: attack 0.") && opened.reasoning.contains("mining"), "{}", opened.reasoning);
    assert!(!opened.incident.evidence.is_empty());
    assert_ne!(world.incidents()[0].resolved_unix_ms, 0, "still open");
}

#[test]
fn what_the_classifier_holds_to_be_ordinary_stays_quiet_whatever_a_signature_says() {
    let world = mined(classifier("beyond_cpu_cores_mean", 9.0, Kind::Mining));

    world.none();
}

#[test]
fn the_classifier_names_what_it_sees_and_not_what_a_signature_would() {
    let world = mined(classifier("beyond_cpu_cores_mean", 0.5, Kind::MemoryLeak));

    world.one("victim", Kind::MemoryLeak, world.now_ms);
}

#[test]
fn verdicts_are_the_classifiers_word() {
    let mut world = World::new();
    world.detector.set_classifier(Some(classifier("beyond_cpu_cores_mean", 0.5, Kind::Mining)));
    let victim = world.start("victim", "pod-a", 0);
    world.run(WARM_S, &[(victim, &|_| Load::web(20.0))]);
    let before = world.last;

    world.run(30, &[(victim, &|_| Load::web(20.0).mining(0.9))]);

    assert_eq!((before.kind, before.score), (Kind::Normal, 0.0));
    assert_eq!(world.last.kind, Kind::Mining);
    assert!((0.8..=0.9001).contains(&world.last.score), "{}", world.last.score);
}

#[test]
fn a_fact_needs_no_classifier() {
    let mut world = World::new();
    world.detector.set_classifier(Some(classifier("beyond_cpu_cores_mean", 9.0, Kind::Mining)));
    let victim = world.start("victim", "pod-a", 0);
    world.run(WARM_S, &[(victim, &|_| Load::web(20.0))]);

    world.run(10, &[(victim, &|_| Load { oom_kills: 1.0, ..Load::web(20.0) })]);

    world.one("victim", Kind::MemoryLeak, world.now_ms);
}

#[test]
fn without_its_classifier_the_signatures_decide_again() {
    let mut world = World::new();
    world.detector.set_classifier(Some(classifier("beyond_cpu_cores_mean", 9.0, Kind::Mining)));
    let victim = world.start("victim", "pod-a", 0);
    world.run(WARM_S, &[(victim, &|_| Load::web(20.0))]);
    world.run(30, &[(victim, &|_| Load::web(20.0).mining(0.9))]);
    world.none();

    world.detector.set_classifier(None);
    world.run(15, &[(victim, &|_| Load::web(20.0).mining(0.9))]);

    world.one("victim", Kind::Mining, world.now_ms);
}
