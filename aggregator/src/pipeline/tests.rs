//! What the pipeline makes of streams, without a network.

use tokio::sync::watch;
use vedette_proto::{Block, Column, Observation};

use super::*;
use crate::{fleet::Limits, ingest::Progress};

mod memory;

const START: i64 = 1_750_000_000_000;

fn pipeline(identity: Identity) -> Pipeline {
    with_config(identity, vedette_detect::Config::default())
}

fn with_config(identity: Identity, config: vedette_detect::Config) -> Pipeline {
    let limits = Limits { max_nodes: 10, max_replays: 2, max_gone_containers: 10, node_retention_ms: 86_400_000 };
    Pipeline::new(Parts {
        detector: Detector::new(config, 1),
        identity,
        fleet: Arc::new(Fleet::new("own", limits)),
        counters: Arc::default(),
        problems: Arc::default(),
        cluster: "own".into(),
        started_unix_ms: START,
        keep: mpsc::channel(1).0,
        incidents: mpsc::channel(1).0,
        cross_checks: mpsc::channel(1).0,
        memories: mpsc::channel(1).0,
        accepted: mpsc::channel(1).0,
    })
}

fn peer(pipeline: &Pipeline, id: u64, origin: v1::Origin) -> Arc<Peer> {
    let cluster: Arc<str> = if origin == v1::Origin::Replay { "again".into() } else { "own".into() };
    let hello = v1::Hello { node: "n".into(), ..v1::Hello::default() };
    let node_id = pipeline.fleet.connected(&cluster, &hello, START).unwrap();
    Arc::new(Peer { id, node_id, cluster, node: "n".into(), spool_id: [1; 16], origin, progress: watch::Sender::new(Progress::default()) })
}

fn container(reference: u32) -> v1::ContainerAdded {
    let container_id = format!("container-{reference}");
    v1::ContainerAdded {
        container_ref: reference,
        pod_uid: "u1".into(),
        cgroup: format!("/{container_id}"),
        container_id,
        ..v1::ContainerAdded::default()
    }
}

fn delivery(peer: &Arc<Peer>, sequence: u64, references: &[u32]) -> Work {
    let mut row = Observation::default();
    row.set(Column::IntervalUs, 1_000_000);
    let block = Block { unix_ms: START + sequence as i64 * 1_000, container_refs: references.to_vec(), rows: vec![row; references.len()] };
    let batch = v1::Batch { sequence, ..v1::Batch::default() };
    Work::Batch(Box::new(Delivery { peer: Arc::clone(peer), batch, block, origin: peer.origin, duplicate: false }))
}

fn alive(pipeline: &Pipeline, cluster: &str) -> Vec<String> {
    let of_cluster = v1::Selector { cluster: cluster.into(), ..v1::Selector::default() };
    pipeline.fleet.containers(&of_cluster, false, 10).0.into_iter().map(|container| container.container_id).collect()
}

#[test]
fn rows_carry_their_subjects_and_the_node_has_one_of_its_own() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(7)]));

    let scored = pipeline.take(delivery(&peer, 1, &[0, 7])).unwrap();

    let workloads: Vec<String> = scored.batch.subjects.iter().map(|subject| subject.workload.to_string()).collect();
    assert_eq!(workloads, ["own/-/Node/n/-", "own/-/Pod/u1/#0"]);
    assert_eq!((scored.batch.verdicts.len(), scored.batch.sequence), (2, 1));
}

#[test]
fn a_container_that_a_new_stream_does_not_know_is_gone() {
    let mut pipeline = pipeline(Identity::default());
    let first = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&first), vec![container(1), container(2)]));
    pipeline.take(Work::Ended(first));
    let between = alive(&pipeline, "own");

    let second = peer(&pipeline, 2, v1::Origin::Live);
    pipeline.take(Work::Opened(second, vec![container(2), container(3)]));

    assert_eq!(between, ["container-1", "container-2"]);
    assert_eq!(alive(&pipeline, "own"), ["container-2", "container-3"]);
}

#[test]
fn what_another_open_stream_of_the_node_still_knows_stays() {
    let mut pipeline = pipeline(Identity::default());
    let first = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&first), vec![container(1), container(2)]));

    let second = peer(&pipeline, 2, v1::Origin::Live);
    pipeline.take(Work::Opened(second, vec![container(2)]));
    let scored = pipeline.take(delivery(&first, 1, &[1, 2])).unwrap();
    pipeline.take(Work::Ended(first));
    let third = peer(&pipeline, 3, v1::Origin::Live);
    pipeline.take(Work::Opened(third, vec![]));

    assert_eq!(scored.batch.block.rows.len(), 2);
    assert_eq!(alive(&pipeline, "own"), ["container-2"]);
}

#[test]
fn a_replay_goes_on_while_another_of_its_streams_is_open() {
    let mut pipeline = pipeline(Identity::default());
    let first = peer(&pipeline, 1, v1::Origin::Replay);
    let second = peer(&pipeline, 2, v1::Origin::Replay);
    pipeline.take(Work::Opened(Arc::clone(&first), vec![container(1)]));
    pipeline.take(Work::Opened(Arc::clone(&second), vec![container(1)]));

    pipeline.take(Work::Ended(first));
    let during = alive(&pipeline, "again");
    pipeline.take(Work::Ended(second));

    assert_eq!(during, ["container-1"]);
    assert!(alive(&pipeline, "again").is_empty());
}

#[test]
fn a_late_batch_of_a_live_stream_does_not_page() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![]));
    for life in 1..=10_u32 {
        let unix_ms = START + i64::from(life) * 5_000;
        let added = v1::ContainerAdded { cgroup: format!("/{life}"), first_seen_unix_ms: unix_ms, restarts: life - 1, ..container(life) };
        let removed = v1::ContainerRemoved { container_ref: life, unix_ms: unix_ms + 1_000, pod_remains: true };
        let batch = v1::Batch { sequence: u64::from(life), added: vec![added], removed: vec![removed], ..v1::Batch::default() };
        let block = Block { unix_ms, ..Block::default() };
        let origin = v1::Origin::Late;
        pipeline.take(Work::Batch(Box::new(Delivery { peer: Arc::clone(&peer), batch, block, origin, duplicate: false })));
    }

    let changes = pipeline.detector.changes();

    assert!(!changes.is_empty(), "ten restarts within a minute are told");
    assert!(changes.iter().all(|change| change.incident.severity() != v1::Severity::Page));
}

#[test]
fn a_reference_stands_for_one_container_of_its_stream() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Live);

    let moved = |place: u32| v1::ContainerAdded { cgroup: format!("/{place}"), ..container(1) };
    pipeline.take(Work::Opened(peer, (0..100).map(moved).collect()));

    assert_eq!(pipeline.roster.keys().count(), 1);
    assert_eq!(alive(&pipeline, "own").len(), 1);
}

#[test]
fn a_container_made_anew_under_its_old_name_is_observed_on() {
    // A service that is started again has the same cgroup, and nothing else tells the two apart.
    let service = |reference| v1::ContainerAdded { container_ref: reference, ..container(1) };
    for later_first in [false, true] {
        let mut pipeline = pipeline(Identity::default());
        let first = peer(&pipeline, 1, v1::Origin::Live);
        pipeline.take(Work::Opened(Arc::clone(&first), vec![service(1)]));
        pipeline.take(delivery(&first, 1, &[1]));
        let batch = v1::Batch {
            sequence: 2,
            added: vec![service(2)],
            removed: vec![v1::ContainerRemoved { container_ref: 1, unix_ms: START, pod_remains: true }],
            ..v1::Batch::default()
        };
        let block = Block { unix_ms: START + 2_000, ..Block::default() };
        let origin = v1::Origin::Live;
        pipeline.take(Work::Batch(Box::new(Delivery { peer: Arc::clone(&first), batch, block, origin, duplicate: false })));
        let stored = pipeline.take(delivery(&first, 3, &[2])).unwrap().batch.block.rows.len();

        // Hello names both while the end of the one is not acknowledged; what stays is the later one.
        let second = peer(&pipeline, 2, v1::Origin::Live);
        let both = if later_first { vec![service(2), service(1)] } else { vec![service(1), service(2)] };
        pipeline.take(Work::Opened(Arc::clone(&second), both));
        let removed = vec![v1::ContainerRemoved { container_ref: 1, unix_ms: START, pod_remains: true }];
        let (batch, block) =
            (v1::Batch { sequence: 4, removed, ..v1::Batch::default() }, Block { unix_ms: START + 4_000, ..Block::default() });
        pipeline.take(Work::Batch(Box::new(Delivery { peer: Arc::clone(&second), batch, block, origin, duplicate: false })));
        let stored_after = pipeline.take(delivery(&second, 5, &[2])).unwrap().batch.block.rows.len();
        let third = peer(&pipeline, 3, v1::Origin::Live);
        pipeline.take(Work::Opened(third, vec![service(2)]));

        assert_eq!((stored, stored_after), (1, 1), "later first: {later_first}");
        assert_eq!(alive(&pipeline, "own"), ["container-1"]);
        assert_eq!(pipeline.roster.keys().count(), 1);
    }
}

#[test]
fn a_node_that_was_replaced_leaves_pipeline_and_detector() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    pipeline.take(delivery(&peer, 1, &[0, 1]));
    pipeline.fleet.disconnected(peer.node_id);
    pipeline.take(Work::Ended(peer));
    let before = (pipeline.roster.keys().count(), pipeline.detector.stats().containers);

    pipeline.tick(START + 86_400_000, BASELINE_TICKS);

    assert_eq!(before, (2, 2));
    assert_eq!((pipeline.roster.keys().count(), pipeline.detector.stats().containers), (0, 0));
    assert_eq!(pipeline.fleet.status().nodes_known, 0);
}

#[test]
fn a_replay_that_ends_leaves_no_living_container() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Replay);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    pipeline.take(delivery(&peer, 1, &[0, 1]));
    let during = alive(&pipeline, "again");

    pipeline.take(Work::Ended(peer));

    assert_eq!(during, ["container-1"]);
    assert!(alive(&pipeline, "again").is_empty());
    assert_eq!(pipeline.roster.keys().count(), 0);
}

#[test]
fn a_replay_that_ended_resolves_and_is_told_again_when_replayed_again() {
    let mut pipeline = pipeline(Identity::default());
    for round in 1..=2 {
        let peer = peer(&pipeline, round, v1::Origin::Replay);
        pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
        let mut row = Observation::default();
        row.set(Column::OomKills, 1);
        let block = Block { unix_ms: START, container_refs: vec![1], rows: vec![row] };
        let (batch, origin) = (v1::Batch { sequence: 1, ..v1::Batch::default() }, peer.origin);
        pipeline.take(Work::Batch(Box::new(Delivery { peer: Arc::clone(&peer), batch, block, origin, duplicate: false })));
        pipeline.take(Work::Ended(peer));

        let told: Vec<_> = pipeline.detector.changes().iter().map(|change| (change.incident.id, change.change)).collect();
        assert_eq!(told, [(round, v1::IncidentChange::Opened), (round, v1::IncidentChange::Resolved)]);
    }
}

#[test]
fn names_that_come_late_hold_from_then_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut pipeline = pipeline(Identity::new(Some(file.path().into())));
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.tick(START, 1);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    let before = pipeline.take(delivery(&peer, 1, &[1])).unwrap();
    let line = r#"{"pod_uid":"u1","namespace":"shop","pod":"web-1","owner_kind":"Deployment","owner_name":"web","containers":["app"]}"#;
    std::fs::write(file.path(), line).unwrap();

    pipeline.tick(START + 2_000, 2);
    let after = pipeline.take(delivery(&peer, 2, &[1])).unwrap();

    assert_eq!(before.batch.subjects[0].workload.to_string(), "own/-/Pod/u1/#0");
    assert_eq!(after.batch.subjects[0].workload.to_string(), "own/shop/Deployment/web/app");
    assert_eq!(after.batch.subjects[0].pod_name, "web-1");
}

#[test]
fn a_node_that_falls_silent_is_an_incident_and_one_that_said_goodbye_is_not() {
    let mut silent = pipeline(Identity::default());
    let peer_of_silent = peer(&silent, 1, v1::Origin::Live);
    silent.take(Work::Opened(peer_of_silent, vec![]));
    let mut left = pipeline(Identity::default());
    let peer_of_left = peer(&left, 1, v1::Origin::Live);
    left.fleet.left(peer_of_left.node_id);

    for second in 1..=200 {
        silent.tick(START + second * 1_000, second as u64);
        left.tick(START + second * 1_000, second as u64);
    }

    let changes = silent.detector.changes();
    let opened = changes.iter().find(|change| change.change == v1::IncidentChange::Opened).unwrap();
    assert_eq!(opened.incident.workload.as_ref().unwrap().owner_kind, "Node");
    assert!(left.detector.changes().is_empty());
}

#[test]
fn a_stall_of_the_aggregator_is_no_silence_of_the_nodes() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    let mut at = START;
    for ticks in 1..=60 {
        at += 1_000;
        pipeline.fleet.heard(peer.node_id, at);
        pipeline.tick(at, ticks);
    }

    at += 300_000;
    pipeline.tick(at, 61);

    assert!(pipeline.detector.changes().is_empty());
}

#[test]
fn what_the_detector_refuses_is_a_problem_until_replaced_nodes_make_room() {
    let mut pipeline = with_config(Identity::default(), vedette_detect::Config { max_containers: 2, ..vedette_detect::Config::default() });
    let first = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&first), vec![container(1), container(2), container(3)]));
    pipeline.tick(START, BASELINE_TICKS);
    let full = (pipeline.detector.stats().containers, pipeline.problems.lines().len());

    pipeline.fleet.disconnected(first.node_id);
    pipeline.take(Work::Ended(first));
    pipeline.tick(START + FORGOTTEN_MS - 1, 2 * BASELINE_TICKS);
    let before = pipeline.detector.stats().containers;
    pipeline.tick(START + FORGOTTEN_MS + 1, 3 * BASELINE_TICKS);

    assert_eq!(full, (2, 1));
    assert_eq!((before, pipeline.detector.stats().containers), (2, 0));
    assert!(alive(&pipeline, "own").is_empty());
}

#[test]
fn a_pod_that_the_identity_file_names_in_time_has_its_name_from_the_first_row_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut pipeline = pipeline(Identity::new(Some(file.path().into())));
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.tick(START, 1);
    let line = r#"{"pod_uid":"u1","namespace":"shop","pod":"web-1","owner_kind":"Deployment","owner_name":"web","containers":["app"]}"#;
    std::fs::write(file.path(), line).unwrap();

    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    let scored = pipeline.take(delivery(&peer, 1, &[1])).unwrap();

    let subject = &scored.batch.subjects[0];
    assert_eq!((&subject.workload.owner_name[..], &subject.workload.container_name[..], &subject.pod_name[..]), ("web", "app", "web-1"));
}

#[test]
fn a_container_that_is_added_again_before_its_first_reference_is_removed_keeps_its_rows() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(1)]));
    let mut again = delivery(&peer, 1, &[2]);
    if let Work::Batch(delivery) = &mut again {
        delivery.batch.added.push(v1::ContainerAdded { container_ref: 2, ..container(1) });
        delivery.batch.removed.push(v1::ContainerRemoved { container_ref: 1, unix_ms: START, pod_remains: true });
    }

    let stored = [again, delivery(&peer, 2, &[2])].map(|work| pipeline.take(work).unwrap().batch.subjects.len());

    assert_eq!(stored, [1, 1]);
    assert_eq!(alive(&pipeline, "own"), ["container-1"]);
}

#[test]
fn a_disagreement_with_prometheus_that_lasts_is_a_ticket_that_ends_and_what_changes_is_told() {
    let mut pipeline = pipeline(Identity::default());
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![container(7)]));
    let mut sequence = 0;
    let mut round = |pipeline: &mut Pipeline, seconds: i64, outcome: v1::CrossCheckOutcome| {
        sequence += 1;
        let unix_ms = START + seconds * 1_000;
        let check = v1::CrossCheck {
            container_ref: 7,
            metric: v1::CrossCheckMetric::Cpu.into(),
            outcome: outcome.into(),
            ours: Some(100.0),
            theirs: Some(20.0),
            seconds: Some(300.0),
            ..v1::CrossCheck::default()
        };
        // Of a container that is gone meanwhile.
        let gone = v1::CrossCheck { container_ref: 9, ..check };
        let cross_check = Some(v1::CrossCheckRound { unix_ms, checks: vec![check, gone], error: String::new() });
        let Work::Batch(mut delivery) = delivery(&peer, sequence, &[0, 7]) else { unreachable!() };
        delivery.batch.cross_check = cross_check;
        delivery.block.unix_ms = unix_ms;
        pipeline.take(Work::Batch(delivery));
    };
    use v1::CrossCheckOutcome::{Agree, Disagree};

    for minute in 0..4 {
        round(&mut pipeline, minute * 60, Disagree);
    }
    let before = pipeline.detector.changes();
    round(&mut pipeline, 240, Disagree);
    let opened = pipeline.detector.changes();
    for minute in 5..20 {
        round(&mut pipeline, minute * 60, Agree);
    }
    let ended = pipeline.detector.changes();

    assert!(before.is_empty(), "{before:?}");
    assert_eq!(opened.len(), 1, "{opened:?}");
    let incident = &opened[0].incident;
    assert_eq!((incident.severity(), incident.kind(), incident.onset_unix_ms), (v1::Severity::Ticket, v1::Kind::Unknown, START));
    assert!(incident.effect.contains("scrape, clock or agent fault"), "{}", incident.effect);
    assert_eq!(incident.evidence[0].sentence, "cpu: 100.0 CPU seconds by the agent, 20.0 CPU seconds by Prometheus in 300 s");
    assert_eq!(ended.last().unwrap().change, v1::IncidentChange::Resolved);
    let told: Vec<_> = pipeline.cross_checked.iter().map(|one| (one.container_id.as_str(), one.check.unwrap().outcome())).collect();
    assert_eq!(told, [("container-7", Disagree), ("container-7", Agree)]);
    let (compared, _, nodes) = pipeline.fleet.compared(&v1::Selector::default(), v1::CrossCheckOutcome::Unspecified, 10);
    assert_eq!((compared.len(), compared[0].check.unwrap().outcome(), nodes.len()), (1, Agree, 1));
}

/// A watch of the API server that listed everything, healthy since the start: a pod `web-1` on a node, its containers as told.
fn listed(node: &str, uid: &str, containers: &[(&str, &str)]) -> Arc<crate::kubernetes::Kubernetes> {
    use crate::kubernetes::{Kubernetes, Limits, Watched};
    let kubernetes = Kubernetes::new("own".into(), Limits { max_pods: 10, max_names: 100 });
    Watched::ALL.into_iter().for_each(|what| kubernetes.lists(what));
    kubernetes.tell(pod(node, uid, containers), START);
    Watched::ALL.into_iter().for_each(|what| kubernetes.listed(what, START));
    Arc::new(kubernetes)
}

fn pod(node: &str, uid: &str, containers: &[(&str, &str)]) -> serde_json::Value {
    use serde_json::json;
    let spec: Vec<_> = containers.iter().map(|(name, _)| json!({"name": name})).collect();
    let status = |(name, id): &(&str, &str)| json!({"name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 2, "containerID": format!("containerd://{id}")});
    let statuses: Vec<_> = containers.iter().map(status).collect();
    json!({
        "metadata": {"namespace": "shop", "name": "web-1", "uid": uid},
        "spec": {"nodeName": node, "containers": spec},
        "status": {"containerStatuses": statuses},
    })
}

fn of_pod(uid: &str) -> v1::ContainerAdded {
    v1::ContainerAdded { pod_uid: uid.into(), first_seen_unix_ms: START, ..container(1) }
}

/// A minute and a half of rows and ticks of one container; sentences of the evidence of what opened, and what it is called in the end.
fn watch(added: v1::ContainerAdded, kubernetes: Arc<crate::kubernetes::Kubernetes>) -> (Vec<String>, String, Pipeline) {
    let mut pipeline = pipeline(Identity::default().with_kubernetes(Some(kubernetes)));
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![added]));
    let mut told = Vec::new();
    for second in 1..=90 {
        pipeline.take(delivery(&peer, second, &[1]));
        pipeline.fleet.heard(peer.node_id, START + second as i64 * 1_000);
        pipeline.tick(START + second as i64 * 1_000, second);
        for change in pipeline.detector.changes() {
            if change.change == v1::IncidentChange::Opened {
                told.extend(change.incident.evidence.into_iter().map(|one| format!("{second} s: {}", one.sentence)));
            }
        }
    }
    let own = v1::Selector { cluster: "own".into(), ..v1::Selector::default() };
    let name = pipeline.fleet.containers(&own, false, 10).0[0].workload.as_ref().unwrap().to_string();
    (told, name, pipeline)
}

#[test]
fn a_container_that_no_api_object_claims_is_a_fact_after_a_minute() {
    let cases = [
        (listed("n", "other-uid", &[]), "60 s: the container runs, and the API server has no pod with its uid", "own/-/Pod/a-uid/#0"),
        (
            listed("n", "a-uid", &[("app", "another")]),
            "60 s: the container runs in its pod, and the pod does not list it",
            "own/shop/Pod/web-1/app",
        ),
        (
            listed("m", "a-uid", &[("app", "container-1")]),
            "60 s: the container runs, and the API server has its pod on node m",
            "own/-/Pod/a-uid/#0",
        ),
    ];
    for (kubernetes, sentence, expected) in cases {
        let (told, name, pipeline) = watch(of_pod("a-uid"), kubernetes);

        assert_eq!((told, &*name), (vec![sentence.to_owned()], expected));
        assert_eq!(pipeline.counters.unclaimed.get(), 1);
        assert_eq!(pipeline.counters.names_refused.get(), u64::from(sentence.contains("node m")));
    }
}

#[test]
fn what_is_claimed_or_static_or_asked_of_no_healthy_server_is_none() {
    let claimed = listed("n", "a-uid", &[("app", "container-1")]);
    let outage = listed("n", "other-uid", &[]);
    outage.broken(crate::kubernetes::Watched::Jobs);
    let cases = [
        (of_pod("a-uid"), claimed, "own/shop/Pod/web-1/app"),
        (of_pod("0123456789abcdef0123456789abcdef"), listed("n", "x", &[]), "own/-/Pod/0123456789abcdef0123456789abcdef/#0"),
        (of_pod("a-uid"), outage, "own/-/Pod/a-uid/#0"),
    ];
    for (added, kubernetes, expected) in cases {
        let (told, name, pipeline) = watch(added, kubernetes);

        assert_eq!((told, &*name), (vec![], expected));
        assert_eq!(pipeline.counters.unclaimed.get(), 0);
    }
}

#[test]
fn a_pod_that_the_api_server_tells_late_renames_and_one_that_it_forgets_does_not() {
    let kubernetes = listed("n", "other-uid", &[]);
    let mut pipeline = pipeline(Identity::default().with_kubernetes(Some(Arc::clone(&kubernetes))));
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    let name = |pipeline: &mut Pipeline, second: i64| {
        pipeline.tick(START + second * 1_000, second as u64);
        let own = v1::Selector { cluster: "own".into(), ..v1::Selector::default() };
        let shown = pipeline.fleet.containers(&own, false, 10).0.remove(0);
        (shown.workload.unwrap().to_string(), shown.api_restarts, shown.restarts_differ)
    };
    pipeline.take(Work::Opened(Arc::clone(&peer), vec![v1::ContainerAdded { restarts: 3, ..of_pod("a-uid") }]));
    let before = name(&mut pipeline, 1);

    kubernetes.tell(pod("n", "a-uid", &[("app", "container-1")]), START);
    let after = name(&mut pipeline, 5);
    kubernetes.end(pod("n", "a-uid", &[("app", "container-1")]), START);
    kubernetes.expire(START + 3_600_000);
    let forgotten = name(&mut pipeline, 6);

    assert_eq!(before, ("own/-/Pod/a-uid/#0".into(), None, false));
    assert_eq!(after, ("own/shop/Pod/web-1/app".into(), Some(2), true));
    assert_eq!((forgotten.0, pipeline.counters.restarts_differ.get()), (after.0, 1));
}

#[test]
fn a_new_template_holds_the_workload_off() {
    let of_template = |name: &str, hash: &str| {
        let mut pod = pod("n", &format!("uid-of-{name}"), &[("app", &format!("container-of-{name}"))]);
        let owner = serde_json::json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "s", "controller": true});
        pod["metadata"]["name"] = name.into();
        pod["metadata"]["labels"] = serde_json::json!({"controller-revision-hash": hash});
        pod["metadata"]["ownerReferences"] = serde_json::json!([owner]);
        pod
    };
    let kubernetes = listed("n", "other-uid", &[]);
    kubernetes.tell(of_template("db-0", "1"), START);
    let mut pipeline = pipeline(Identity::default().with_kubernetes(Some(Arc::clone(&kubernetes))));
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    let added = v1::ContainerAdded { container_id: "container-of-db-0".into(), ..of_pod("uid-of-db-0") };
    pipeline.take(Work::Opened(peer, vec![added]));
    pipeline.tick(START + 1_000, 1);
    let before = (pipeline.counters.rollouts.get(), pipeline.counters.hold_offs.get());

    kubernetes.tell(of_template("db-1", "2"), START + 2_000);
    (2..12).for_each(|second| pipeline.tick(START + second * 1_000, second as u64));

    assert_eq!((before, pipeline.counters.rollouts.get(), pipeline.counters.hold_offs.get()), ((0, 0), 1, 1));
}

#[test]
fn the_silence_of_a_cordoned_node_is_meant() {
    let kubernetes = listed("n", "u", &[]);
    kubernetes.node("n", true);
    let (cordoned, expected) = (Identity::default().with_kubernetes(Some(kubernetes)), Identity::default());
    let open = [cordoned, expected].map(|identity| {
        let mut pipeline = pipeline(identity);
        let peer = peer(&pipeline, 1, v1::Origin::Live);
        pipeline.fleet.heard(peer.node_id, START);
        for second in 0..200 {
            pipeline.tick(START + second * 1_000, second as u64);
        }
        pipeline.detector.stats().open_incidents
    });

    assert_eq!(open, [0, 1]);
}

/// The states of the own cluster's nodes, and what is told of nodes without an agent.
fn agentless(pipeline: &Pipeline, now_unix_ms: i64) -> (Vec<(String, v1::NodeState)>, Vec<String>, i64) {
    let nodes = pipeline.fleet.nodes(now_unix_ms).into_iter().map(|node| (node.name.clone(), node.state())).collect();
    (nodes, pipeline.problems.lines(), pipeline.counters.nodes_without_agent.get())
}

#[test]
fn a_node_on_which_no_agent_is_heard_for_five_minutes_is_told() {
    let kubernetes = listed("n", "u", &[]);
    for name in ["m", "n", "o"] {
        kubernetes.node(name, false);
    }
    let mut pipeline = pipeline(Identity::default().with_kubernetes(Some(Arc::clone(&kubernetes))));
    let peer = peer(&pipeline, 1, v1::Origin::Live);
    let tick_to = |pipeline: &mut Pipeline, seconds: std::ops::RangeInclusive<i64>, heard: bool| {
        for second in seconds {
            if heard {
                pipeline.fleet.heard(peer.node_id, START + second * 1_000);
            }
            pipeline.tick(START + second * 1_000, second as u64);
        }
    };

    tick_to(&mut pipeline, 1..=299, true);
    let before = agentless(&pipeline, START + 299_000);
    tick_to(&mut pipeline, 300..=305, true);
    let (nodes, problems, gauge) = agentless(&pipeline, START + 305_000);

    assert_eq!(before, (vec![("n".into(), v1::NodeState::Live)], vec![], 0), "who just began to listen says nothing");
    let expected = [("m", v1::NodeState::NoAgent), ("n", v1::NodeState::Live), ("o", v1::NodeState::NoAgent)];
    assert_eq!(nodes, expected.map(|(name, state)| (name.to_owned(), state)));
    assert_eq!(problems, ["no agent heard for 5 minutes on 2 of 3 nodes: m, o"]);
    assert_eq!(gauge, 2);

    kubernetes.node_gone("m");
    kubernetes.node_gone("o");
    tick_to(&mut pipeline, 306..=310, true);
    assert_eq!(agentless(&pipeline, START + 310_000), (vec![("n".into(), v1::NodeState::Live)], vec![], 0));

    pipeline.fleet.left(peer.node_id);
    tick_to(&mut pipeline, 311..=615, false);
    let (nodes, problems, _) = agentless(&pipeline, START + 615_000);
    assert_eq!(nodes, [("n".to_owned(), v1::NodeState::NoAgent)], "a goodbye is no stop for ever");
    assert!(problems.contains(&"no agent heard for 5 minutes on 1 of 1 nodes: n".to_owned()), "{problems:?}");
}

#[test]
fn agents_that_are_named_otherwise_than_nodes_are_not_missed() {
    let kubernetes = listed("n", "u", &[]);
    kubernetes.node("ip-10-0-0-1.internal", false);
    let mut pipeline = pipeline(Identity::default().with_kubernetes(Some(kubernetes)));
    let peer = peer(&pipeline, 1, v1::Origin::Live);

    for second in 1..=305 {
        pipeline.fleet.heard(peer.node_id, START + second * 1_000);
        pipeline.tick(START + second * 1_000, second as u64);
    }

    assert_eq!(agentless(&pipeline, START + 305_000), (vec![("n".into(), v1::NodeState::Live)], vec![], 0));
}

/// What is opened while the agents of five nodes are replaced one after the other, each `gap_s` later with a spool of its own, and then the
/// aggregator is, to which they come back within half a minute.
fn opened_by_a_rollout_of_everything(goodbye: bool, gap_s: i64) -> Vec<(v1::Severity, String)> {
    const NODES: i64 = 5;
    let mut pipeline = pipeline(Identity::default());
    let mut streams = 0;
    let mut open = |pipeline: &mut Pipeline, node: i64, spool: u8, unix_ms: i64| {
        streams += 1;
        let name = format!("n{node}");
        let hello = v1::Hello { node: name.clone(), ..v1::Hello::default() };
        let node_id = pipeline.fleet.connected("own", &hello, unix_ms).unwrap();
        let (spool_id, progress) = ([spool; 16], watch::Sender::new(Progress::default()));
        let peer = Peer { id: streams, node_id, cluster: "own".into(), node: name, spool_id, origin: v1::Origin::Live, progress };
        let peer = Arc::new(peer);
        // A new agent finds them running.
        let of = |reference| v1::ContainerAdded {
            cgroup: format!("/{node}-{reference}"),
            pod_uid: format!("u{node}"),
            first_seen_unix_ms: unix_ms,
            already_running: true,
            ..container(reference)
        };
        pipeline.take(Work::Opened(Arc::clone(&peer), vec![of(1), of(2)]));
        peer
    };
    let work = |peer: &Arc<Peer>, second: i64| {
        let mut row = Observation::default();
        let phase = (second * 37 + i64::from(peer.spool_id[0])) as u64 % 11;
        for (column, value) in [
            (Column::IntervalUs, 1_000_000),
            (Column::CpuUsageUs, 40_000 + 2_000 * phase),
            (Column::MemoryCurrentBytes, 64 << 20),
            (Column::NetRxBytes, 20_000 + 300 * phase),
            (Column::NetTxBytes, 30_000 + 300 * phase),
        ] {
            row.set(column, value);
        }
        let block = Block { unix_ms: START + second * 1_000, container_refs: vec![0, 1, 2], rows: vec![row; 3] };
        let batch = v1::Batch { sequence: second as u64, ..v1::Batch::default() };
        Work::Batch(Box::new(Delivery { peer: Arc::clone(peer), batch, block, origin: peer.origin, duplicate: false }))
    };
    let end = |pipeline: &mut Pipeline, peer: Arc<Peer>, says_so: bool| {
        if says_so {
            pipeline.fleet.left(peer.node_id);
        }
        pipeline.fleet.disconnected(peer.node_id);
        pipeline.take(Work::Ended(peer));
    };
    let mut changes = Vec::new();
    let mut agents: Vec<Option<Arc<Peer>>> = (0..NODES).map(|node| Some(open(&mut pipeline, node, node as u8, START))).collect();
    let replaced_s = 120 + 120 * NODES;

    for second in 1..=replaced_s + 300 {
        let unix_ms = START + second * 1_000;
        if second == replaced_s {
            // All that the next run is told by the store; nothing was open, or the test has found what it looks for.
            let nodes = pipeline.fleet.own_nodes();
            changes.extend(pipeline.detector.changes());
            agents.iter_mut().filter_map(Option::take).for_each(|peer| end(&mut pipeline, peer, false));
            pipeline = self::pipeline(Identity::default());
            pipeline.hearing_unix_ms = unix_ms;
            pipeline.fleet.restore(nodes);
        }
        for node in 0..NODES {
            let agent = &mut agents[node as usize];
            let leaves_s = 120 + 120 * node;
            if second == leaves_s
                && let Some(peer) = agent.take()
            {
                end(&mut pipeline, peer, goodbye);
            }
            if second == leaves_s + gap_s || second == replaced_s + 5 * (node + 1) {
                *agent = Some(open(&mut pipeline, node, 100 + node as u8, unix_ms));
            }
            if let Some(peer) = agent {
                pipeline.fleet.heard(peer.node_id, unix_ms);
                pipeline.take(work(peer, second));
            }
        }
        pipeline.tick(unix_ms, second as u64);
    }

    changes.extend(pipeline.detector.changes());
    changes.into_iter().map(|change| (change.incident.severity(), change.incident.summary)).collect()
}

#[test]
fn a_rollout_of_the_agents_and_then_of_the_aggregator_tells_nobody() {
    for gap_s in [5, 20, 110] {
        assert_eq!(opened_by_a_rollout_of_everything(true, gap_s), [], "{gap_s} s between an agent and the next");
    }
}

#[test]
fn agents_that_end_without_a_word_for_as_long_page() {
    let told = opened_by_a_rollout_of_everything(false, 110);

    assert!(told.iter().any(|(severity, _)| *severity == v1::Severity::Page), "{told:?}");
}
