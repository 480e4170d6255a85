//! The index against the plain rule, and the rule on examples.

use proptest::prelude::*;
use vedette_proto::v1::{Selector, TimeRange};

use super::super::label_at;
use super::*;

fn label(id: u64, selector: Selector, range: (i64, i64), kind: Kind, source: LabelSource) -> Label {
    Label {
        id,
        selector: Some(selector),
        range: Some(TimeRange { start_unix_ms: range.0, end_unix_ms: range.1 }),
        kind: kind.into(),
        source: source.into(),
        ..Label::default()
    }
}

fn owner(name: &str) -> Selector {
    Selector { cluster: "c".into(), owner_name: name.into(), ..Selector::default() }
}

fn container<'a>(owner_name: &'a str, container_id: &'a str) -> Identity<'a> {
    Identity {
        cluster: "c",
        node: "n",
        namespace: "shop",
        owner_kind: "Deployment",
        owner_name,
        container_name: "main",
        pod_uid: "p",
        container_id,
    }
}

fn index(labels: &[Label]) -> LabelIndex {
    let mut index = LabelIndex::default();
    labels.iter().for_each(|label| index.add(label));
    index
}

#[test]
fn an_operator_overrules_a_simulation_where_both_speak() {
    let labels = [
        label(1, owner("cart"), (10, 20), Kind::Normal, LabelSource::Operator),
        label(2, owner("cart"), (0, 30), Kind::Mining, LabelSource::Simulation),
        label(3, owner("cart"), (0, 40), Kind::Scan, LabelSource::Alertmanager),
    ];

    let said = [5, 15, 25, 35, 40].map(|t| label_at(&labels, &container("cart", "x"), t).map(|said| said.kind));

    assert_eq!(said, [Some(Kind::Mining), Some(Kind::Normal), Some(Kind::Mining), Some(Kind::Scan), None]);
}

#[test]
fn of_two_labels_of_one_source_the_newer_stands() {
    let labels = [
        label(7, owner("cart"), (0, 10), Kind::Flood, LabelSource::Import),
        label(3, owner("cart"), (0, 10), Kind::Scan, LabelSource::Import),
    ];

    assert_eq!(label_at(&labels, &container("cart", "x"), 5).unwrap().kind, Kind::Flood);
}

#[test]
fn a_label_that_was_taken_back_does_not_count() {
    let mut taken_back = label(1, owner("cart"), (0, 10), Kind::Flood, LabelSource::Operator);
    taken_back.retracted_by = 2;
    let labels = [taken_back];

    assert_eq!(label_at(&labels, &container("cart", "x"), 5), None);
    assert_eq!(index(&labels).timeline(&container("cart", "x")).at(5), None);
}

#[test]
fn twelve_characters_of_a_container_id_stand_for_it_and_eleven_do_not() {
    let id = "0123456789abcdef0123456789abcdef";
    let selector = |container_id: &str| Selector { cluster: "c".into(), container_id: container_id.into(), ..Selector::default() };
    let said = |wanted: &str| {
        let labels = [label(1, selector(wanted), (0, 10), Kind::Scan, LabelSource::Operator)];
        (label_at(&labels, &container("a", id), 1).is_some(), index(&labels).timeline(&container("a", id)).at(1).is_some())
    };

    assert_eq!(
        [said(&id[..12]), said(&id[..11]), said(id), said("0123456789ff")],
        [(true, true), (false, false), (true, true), (false, false)]
    );
}

#[test]
fn an_attack_is_found_without_rows_and_an_operator_takes_a_part_of_it_away() {
    let narrow = Selector { container_id: "0123456789ab".into(), ..owner("cart") };
    let labels = [
        label(1, narrow, (0, 100), Kind::CrashLoop, LabelSource::Simulation),
        label(2, owner("cart"), (40, 60), Kind::Normal, LabelSource::Operator),
        label(3, owner("web"), (200, 210), Kind::Flood, LabelSource::Simulation),
    ];

    let all = index(&labels).attack_stretches(&Identity::from(&Selector { cluster: "c".into(), ..Selector::default() }));
    let web = index(&labels).attack_stretches(&Identity::from(&owner("web")));

    assert_eq!(all, [(0, 40), (60, 100), (200, 210)]);
    assert_eq!(web, [(200, 210)]);
}

fn any_label() -> impl Strategy<Value = Label> {
    let word = |words: &'static [&'static str]| prop::sample::select(words);
    let ids = &["", "", "0123456789ab", "0123456789abcd", "short"][..];
    (
        (word(&["c", "d"]), word(&["", "", "n", "m"]), word(&["", "shop"]), word(&["", "cart", "web"]), word(&["", "p"]), word(ids)),
        (0i64..40, 0i64..30),
        prop::sample::select(Kind::WORDS),
        prop::sample::select(LabelSource::WORDS),
        any::<bool>(),
        0u64..4,
    )
        .prop_map(
            |((cluster, node, namespace, owner_name, pod_uid, container_id), (start, length), kind, source, affected, taken_back)| Label {
                selector: Some(Selector {
                    cluster: cluster.into(),
                    node: node.into(),
                    namespace: namespace.into(),
                    owner_name: owner_name.into(),
                    pod_uid: pod_uid.into(),
                    container_id: container_id.into(),
                    ..Selector::default()
                }),
                range: Some(TimeRange { start_unix_ms: start, end_unix_ms: start + length }),
                kind: kind.into(),
                source: source.into(),
                affected,
                retracted_by: u64::from(taken_back == 0),
                ..Label::default()
            },
        )
}

proptest! {
    #[test]
    fn the_index_says_what_the_plain_rule_says(mut labels in prop::collection::vec(any_label(), 0..40)) {
        for (place, label) in labels.iter_mut().enumerate() {
            label.id = place as u64 + 1;
        }
        let index = index(&labels);

        for owner_name in ["cart", "web", "else"] {
            for container_id in ["0123456789abcdef", "0123456789abffff", "short", ""] {
                let container = container(owner_name, container_id);
                let timeline = index.timeline(&container);
                for t in -1..72 {
                    prop_assert_eq!(timeline.at(t), label_at(&labels, &container, t), "{} {} {}", owner_name, container_id, t);
                }
            }
        }
    }
}

#[test]
fn a_million_labels_are_asked_in_time_that_an_export_can_afford() {
    let mut index = LabelIndex::default();
    for id in 0..1_000_000 {
        let selector = Selector { container_id: format!("{:064x}", id % 1000), cluster: "c".into(), ..Selector::default() };
        index.add(&label(id + 1, selector, (id as i64, id as i64 + 5_000), Kind::Scan, LabelSource::Simulation));
    }
    let started = std::time::Instant::now();

    let id = format!("{:064x}", 7);
    let timeline = index.timeline(&container("cart", &id));
    let found = (0..1_000_000).filter(|&t| timeline.at(t).is_some()).count();

    // The label of container 7 at 7, 1007, 2007 ... each 5,000 long: from 7 on, always.
    assert_eq!(found, 1_000_000 - 7);
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}
