//! One good label, and every way to spoil it.

use super::*;

const UID: &str = "8d2b0b1a-7f3e-4c5d-9a6b-0c1d2e3f4a5b";

fn good() -> Label {
    Label {
        selector: Some(Selector { pod_uid: UID.into(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms: 1_700_000_000_000, end_unix_ms: 1_700_000_060_000 }),
        kind: Kind::Scan.into(),
        source: LabelSource::Operator.into(),
        author: "anna".into(),
        ..Label::default()
    }
}

#[test]
fn a_good_label_passes_and_is_given_the_own_cluster() {
    let checked = labels(vec![good()], "prod").unwrap();

    assert_eq!(checked[0].selector.as_ref().unwrap().cluster, "prod");
}

#[test]
fn every_way_to_spoil_a_label_is_refused_with_the_name_of_the_field() {
    type Spoil = fn(&mut Label);
    fn select(label: &mut Label, spoil: fn(&mut Selector)) {
        spoil(label.selector.as_mut().unwrap());
    }
    fn range(label: &mut Label, start: i64, end: i64) {
        label.range = Some(TimeRange { start_unix_ms: start, end_unix_ms: end });
    }
    let cases: &[(&str, Spoil)] = &[
        ("labels[1].selector: required", |l| l.selector = None),
        ("labels[1].selector: at least one field", |l| l.selector = Some(Selector { cluster: "c".into(), ..Selector::default() })),
        ("labels[1].selector.node: 254 bytes", |l| select(l, |s| s.node = "n".repeat(254))),
        ("labels[1].selector.owner_name: 4097 bytes", |l| select(l, |s| s.owner_name = "n".repeat(4097))),
        ("labels[1].selector.namespace: control characters", |l| select(l, |s| s.namespace = "a\u{1b}[2J".into())),
        ("labels[1].selector.pod_uid: not a pod uid", |l| select(l, |s| s.pod_uid = "pod-1".into())),
        ("labels[1].selector.pod_uid: not a pod uid", |l| select(l, |s| s.pod_uid = UID.replace('-', "0"))),
        ("labels[1].selector.container_id: 11 hexadecimal", |l| select(l, |s| s.container_id = "0123456789a".into())),
        ("labels[1].selector.container_id: 65 hexadecimal", |l| select(l, |s| s.container_id = "a".repeat(65))),
        ("labels[1].selector.container_id: not a container id", |l| select(l, |s| s.container_id = "ä b".into())),
        ("labels[1].range: required", |l| l.range = None),
        ("labels[1].range: both ends", |l| range(l, 0, 5)),
        ("labels[1].range: both ends", |l| range(l, 5, 0)),
        ("labels[1].range: the start 5 is not before the end 5", |l| range(l, 5, 5)),
        ("labels[1].range: longer than 31 days", |l| range(l, 1, 2 + MAX_RANGE_MS)),
        ("labels[1].range.start_unix_ms: -1", |l| range(l, -1, 5)),
        ("labels[1].range.end_unix_ms: 9223372036854775807", |l| range(l, 1, i64::MAX)),
        ("labels[1].range.start_unix_ms: -9223372036854775808", |l| range(l, i64::MIN, i64::MAX)),
        ("labels[1].kind: required", |l| l.kind = 0),
        ("labels[1].kind: required", |l| l.kind = 99),
        ("labels[1].source: required", |l| l.source = 0),
        ("labels[1].source: required", |l| l.source = -1),
        ("labels[1].author: 0 characters", |l| l.author.clear()),
        ("labels[1].author: 129 characters", |l| l.author = "ä".repeat(129)),
        ("labels[1].author: control characters", |l| l.author = "a\nb".into()),
        ("labels[1].note: 4097 characters", |l| l.note = "n".repeat(4097)),
        ("labels[1].note: control characters", |l| l.note = "\u{7}".into()),
        ("labels[1].attributes: 33 given", |l| l.attributes = (0..33).map(|n| (n.to_string(), String::new())).collect()),
        ("labels[1].attributes: a key", |l| l.attributes = [(String::new(), String::new())].into()),
        ("labels[1].attributes: a key", |l| l.attributes = [("k".repeat(64), String::new())].into()),
        ("labels[1].attributes: a value", |l| l.attributes = [("k".into(), "v".repeat(257))].into()),
        ("labels[1].id: given by the aggregator", |l| l.id = 5),
        ("labels[1].retracted_by: given by the aggregator", |l| l.retracted_by = 5),
        ("labels[1].created_unix_ms: given by the aggregator", |l| l.created_unix_ms = 5),
    ];
    for (expected, spoil) in cases {
        let mut bad = good();
        spoil(&mut bad);

        let status = labels(vec![good(), bad], "prod").unwrap_err();

        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with(expected), "{:?} does not start with {expected:?}", status.message());
    }
}

#[test]
fn no_labels_and_too_many_are_refused() {
    assert!(labels(vec![], "c").unwrap_err().message().starts_with("labels: 0 given"));
    assert!(labels(vec![good(); 10_001], "c").unwrap_err().message().starts_with("labels: 10001 given"));
}

#[test]
fn a_watched_cgroup_may_be_named_whole() {
    let mut label = good();
    label.selector = Some(Selector { container_id: "demo.slice".into(), ..Selector::default() });

    assert!(labels(vec![label], "c").is_ok());
}
