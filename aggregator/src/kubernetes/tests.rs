//! What the store makes of objects, without a server.

use serde_json::{Value, json};

use super::{Watched::*, *};

const LIMITS: Limits = Limits { max_pods: 100, max_names: 1_000 };
const MINUTE: i64 = 60_000;

fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// A pod of a controller, with one ordinary container `app` whose id is `<uid>-c` once it is told.
fn pod(uid: &str, owner: Option<(&str, &str, &str)>, told: bool) -> Value {
    let owners = owner.map(|(kind, name, uid)| json!([{"apiVersion": "x", "kind": kind, "name": name, "uid": uid, "controller": true}]));
    let statuses = if told { json!([status("app", &format!("{uid}-c"))]) } else { json!([]) };
    json!({
        "metadata": {"namespace": "shop", "name": format!("pod-{uid}"), "uid": uid, "ownerReferences": owners},
        "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "i"}]},
        "status": {"containerStatuses": statuses, "qosClass": "Burstable"},
    })
}

fn status(name: &str, id: &str) -> Value {
    json!({"name": name, "image": "i", "imageID": "sha256:1", "ready": true, "restartCount": 0, "containerID": format!("containerd://{id}")})
}

fn meta(name: &str, uid: &str, owner: Option<(&str, &str)>) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
    let owners = owner.map(|(kind, name)| json!([{"apiVersion": "x", "kind": kind, "name": name, "uid": "o", "controller": true}]));
    read(json!({"namespace": "shop", "name": name, "uid": uid, "ownerReferences": owners}))
}

/// `owner kind/owner name/container`, a star behind it where the very container is listed.
fn named(store: &Store, uid: &str, id: &str, slot: u32) -> String {
    match store.find(uid, id, slot, "n") {
        Found::Pod { owner_kind, owner_name, container, listed, .. } => {
            let container = container.map_or_else(|| format!("#{slot}"), |facts| facts.name.to_string());
            format!("{owner_kind}/{owner_name}/{container}{}", if listed { "*" } else { "" })
        }
        Found::Elsewhere(node) => format!("on {node}"),
        Found::Unknown => "unknown".into(),
    }
}

#[test]
fn a_pod_is_of_what_outlives_it() {
    let mut store = Store::new(LIMITS);
    store.owner(ReplicaSets, &meta("web-1", "rs", Some(("Deployment", "web"))));
    store.owner(ReplicaSets, &meta("alone", "rs2", None));
    store.owner(Jobs, &meta("tick-29922163", "j", Some(("CronJob", "tick"))));
    store.owner(Jobs, &meta("once", "j2", None));
    let cases = [
        ("a", Some(("ReplicaSet", "web-1", "rs")), "Deployment/web/app*"),
        ("b", Some(("ReplicaSet", "alone", "rs2")), "ReplicaSet/alone/app*"),
        ("c", Some(("Job", "tick-29922163", "j")), "CronJob/tick/app*"),
        ("d", Some(("Job", "once", "j2")), "Job/once/app*"),
        ("e", Some(("StatefulSet", "db", "s")), "StatefulSet/db/app*"),
        ("f", Some(("DaemonSet", "ds", "d")), "DaemonSet/ds/app*"),
        ("g", None, "Pod/pod-g/app*"),
    ];

    for (uid, owner, _) in cases {
        store.pod(&read(pod(uid, owner, true)), 0);
    }

    for (uid, _, expected) in cases {
        assert_eq!(named(&store, uid, &format!("{uid}-c"), 0), expected);
    }
}

#[test]
fn an_owner_that_comes_late_renames_its_pods_and_one_that_goes_does_not() {
    let mut store = Store::new(LIMITS);
    let mut of_deployment = pod("a", Some(("ReplicaSet", "web-5f7", "rs")), true);
    of_deployment["metadata"]["labels"] = json!({"pod-template-hash": "5f7"});
    store.pod(&read(of_deployment), 0);
    let job = pod("c", Some(("Job", "tick-1", "j")), true);
    store.pod(&read(job.clone()), 0);
    store.take_changed();
    let before = (named(&store, "a", "a-c", 0), named(&store, "c", "c-c", 0));

    store.owner(Jobs, &meta("tick-1", "j", Some(("CronJob", "tick"))));
    let changed = store.take_changed();
    store.owner_deleted(&meta("tick-1", "j", None));
    store.pod(&read(job), 0);

    assert_eq!(before, ("Deployment/web/app*".into(), "Job/tick-1/app*".into()));
    assert_eq!(changed, HashSet::from(["c".into()]));
    assert_eq!(named(&store, "c", "c-c", 0), "CronJob/tick/app*");
}

#[test]
fn a_static_pod_is_found_by_the_hash_in_its_cgroup() {
    let mut store = Store::new(LIMITS);
    let hash = "0123456789abcdef0123456789abcdef";
    let mut mirror = pod("api-uid", Some(("Node", "n", "node-uid")), true);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash});
    store.pod(&read(mirror.clone()), 0);

    assert_eq!(named(&store, hash, "api-uid-c", 0), "Node/n/app*");
    assert_eq!(named(&store, "api-uid", "api-uid-c", 0), "unknown");
    store.pod_deleted(&read(mirror), 0);
    assert_eq!(store.sizes().gone, 1);
}

#[test]
fn annotations_take_no_other_pods_name_whoever_is_told_first_and_whoever_is_gone() {
    let forged = |name: &str| {
        let mut forged = pod(name, None, true);
        forged["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "victim"});
        read(forged)
    };
    let mut store = Store::new(LIMITS);

    // A list is in the order of namespaces.
    store.begin(Watched::Pods);
    store.pod(&forged("a-forger"), 0);
    store.pod(&read(pod("victim", None, true)), 0);
    store.pod(&forged("z-forger"), 0);
    store.end(Watched::Pods, 0);
    let listed = named(&store, "victim", "victim-c", 0);
    store.pod_deleted(&read(pod("victim", None, true)), 1);
    store.pod(&forged("a-forger"), 2);

    assert_eq!(listed, "Pod/pod-victim/app*");
    assert_eq!(named(&store, "victim", "victim-c", 0), listed, "its last rows may be late");
}

#[test]
fn annotations_take_no_other_pods_name() {
    let mut store = Store::new(LIMITS);
    store.pod(&read(pod("victim", None, true)), 0);
    let mut forged = pod("forger", None, true);
    forged["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "victim"});

    store.pod(&read(forged.clone()), 0);
    store.pod_deleted(&read(forged), 0);

    assert_eq!(named(&store, "victim", "victim-c", 0), "Pod/pod-victim/app*");
    assert_eq!((store.sizes().contested, store.sizes().gone), (1, 0));
}

#[test]
fn init_and_ephemeral_containers_are_named_by_their_ids_and_places_are_not_guessed() {
    let mut store = Store::new(LIMITS);
    let mut several = pod("a", None, true);
    several["spec"]["initContainers"] = json!([{"name": "prepare"}]);
    several["spec"]["ephemeralContainers"] = json!([{"name": "debugger"}]);
    several["status"]["initContainerStatuses"] = json!([status("prepare", "a-i")]);
    several["status"]["ephemeralContainerStatuses"] = json!([status("debugger", "a-e")]);
    store.pod(&read(several), 0);

    let found = ["a-i", "a-c", "a-e", "other"].map(|id| named(&store, "a", id, 0));

    assert_eq!(found, ["Pod/pod-a/prepare*", "Pod/pod-a/app*", "Pod/pod-a/debugger*", "Pod/pod-a/#0"]);
}

#[test]
fn a_status_that_lags_is_made_up_for_by_the_place_of_an_only_container() {
    let mut store = Store::new(LIMITS);
    store.pod(&read(pod("a", None, false)), 0);
    let before = (named(&store, "a", "a-c", 0), named(&store, "a", "intruder", 1));
    store.take_changed();

    store.pod(&read(pod("a", None, true)), 0);

    assert_eq!(before, ("Pod/pod-a/app".into(), "Pod/pod-a/#1".into()));
    assert_eq!(store.take_changed(), HashSet::from(["a".into()]));
    assert_eq!(named(&store, "a", "a-c", 0), "Pod/pod-a/app*");
    store.pod(&read(pod("a", None, true)), 0);
    assert!(!store.has_changed(), "the same again is no change");
}

#[test]
fn a_container_that_took_over_and_the_one_before_it_are_both_listed() {
    let mut store = Store::new(LIMITS);
    let mut crashed = pod("a", None, true);
    let exit = json!({"terminated": {"containerID": "containerd://a-b", "exitCode": 137, "reason": "OOMKilled"}});
    crashed["status"]["containerStatuses"][0]["lastState"] = exit;
    crashed["status"]["containerStatuses"][0]["restartCount"] = json!(4);
    store.pod(&read(crashed), 0);

    let Found::Pod { container: Some(facts), listed: true, .. } = store.find("a", "a-b", 0, "n") else { panic!() };

    assert_eq!(
        (facts.restarts, facts.last_exit_code, &*facts.last_exit_reason, &*facts.qos),
        (Some(4), Some(137), "OOMKilled", "Burstable")
    );
}

#[test]
fn a_deleted_pod_is_known_for_ten_minutes() {
    let mut store = Store::new(LIMITS);
    store.pod(&read(pod("a", None, true)), 0);
    store.pod_deleted(&read(pod("a", None, true)), MINUTE);
    store.take_changed();

    store.expire(11 * MINUTE - 1);
    let then = named(&store, "a", "a-c", 0);
    let changed_then = store.has_changed();
    store.expire(11 * MINUTE);

    assert_eq!((&*then, changed_then), ("Pod/pod-a/app*", false));
    assert_eq!((named(&store, "a", "a-c", 0), store.take_changed().len(), store.sizes().pods), ("unknown".into(), 1, 0));
}

#[test]
fn a_list_ends_what_it_does_not_name() {
    let mut store = Store::new(LIMITS);
    for uid in ["a", "b"] {
        store.pod(&read(pod(uid, None, true)), 0);
    }
    store.node(&read(json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}})));
    store.owner(Jobs, &meta("j", "j", None));
    store.owner(ReplicaSets, &meta("r", "r", None));

    store.begin(Pods);
    store.pod(&read(pod("b", None, true)), MINUTE);
    store.end(Pods, MINUTE);
    store.begin(Jobs);
    store.end(Jobs, MINUTE);
    let cordoned = store.cordoned("n");
    store.begin(Nodes);
    store.end(Nodes, MINUTE);

    let sizes = store.sizes();
    assert_eq!((sizes.pods, sizes.gone, sizes.owners, sizes.nodes), (2, 1, 1, 0));
    assert_eq!((cordoned, store.cordoned("n")), (Some(true), None));
}

#[test]
fn a_node_cannot_claim_the_pod_of_another() {
    let mut store = Store::new(LIMITS);
    let mut waiting = pod("w", None, false);
    waiting["spec"]["nodeName"] = Value::Null;
    store.pod(&read(waiting), 0);
    store.pod(&read(pod("a", None, true)), 0);

    assert_eq!(store.find("a", "a-c", 0, "rooted"), Found::Elsewhere("n".into()));
    assert_eq!(store.find("w", "x", 0, "n"), Found::Unknown);
}

#[test]
fn deleted_pods_make_room_and_beyond_that_a_pod_is_refused_and_counted() {
    let mut store = Store::new(Limits { max_pods: 2, max_names: 1_000 });
    store.pod(&read(pod("a", None, true)), 0);
    store.pod(&read(pod("b", None, true)), 0);
    store.pod_deleted(&read(pod("a", None, true)), 1);

    store.pod(&read(pod("c", None, true)), 2);
    store.pod(&read(pod("d", None, true)), 3);

    let sizes = store.sizes();
    assert_eq!((sizes.pods, sizes.gone, sizes.refused), (2, 0, 1));
    assert_eq!(["a", "b", "c", "d"].map(|uid| store.find(uid, "", 0, "n") == Found::Unknown), [true, false, false, true]);
}

#[test]
fn a_new_template_is_a_rollout_once_and_the_first_list_is_none() {
    let mut store = Store::new(LIMITS);
    let of = |uid: &str, hash: &str| {
        let mut pod = pod(uid, Some(("DaemonSet", "ds", "d")), true);
        pod["metadata"]["labels"] = json!({"controller-revision-hash": hash});
        read(pod)
    };
    store.begin(Pods);
    store.pod(&of("a", "1"), 0);
    store.pod(&of("b", "2"), 0);
    store.end(Pods, 0);
    let listed = store.take_rollouts().len();

    store.pod(&of("c", "3"), 5);
    store.pod(&of("d", "3"), 6);
    store.pod(&of("a", "1"), 7);

    let rollouts = store.take_rollouts();
    assert_eq!((listed, rollouts.len()), (0, 1));
    assert_eq!((&*rollouts[0].owner_name, &*rollouts[0].template, rollouts[0].unix_ms), ("ds", "3", 5));
}

#[test]
fn ten_thousand_pods_come_and_go_and_nothing_is_left() {
    let mut store = Store::new(Limits { max_pods: 50_000, max_names: 50_000 });
    let mut sizes = Vec::new();
    for round in 0..3i64 {
        let now = round * 20 * MINUTE;
        for number in 0..10_000 {
            let uid = format!("{round}-{number}");
            store.pod(&read(pod(&uid, Some(("DaemonSet", &format!("ds-{}", number % 50), "d")), true)), now);
        }
        for number in 0..10_000 {
            store.pod_deleted(&read(pod(&format!("{round}-{number}"), Some(("DaemonSet", "ds", "d")), true)), now + MINUTE);
        }
        let most = store.sizes();
        store.expire(now + 11 * MINUTE);
        store.take_changed();
        sizes.push((most.pods, most.names, store.sizes()));
    }

    assert!(sizes.iter().all(|one| one.0 == 10_000 && one.1 < 100), "{sizes:?}");
    assert!(sizes.iter().all(|one| one.2 == Sizes::default()), "{sizes:?}");
}

#[test]
fn names_wait_for_the_lists_and_outlive_the_server() {
    let kubernetes = Kubernetes::new("own".into(), LIMITS);
    kubernetes.change(|store| store.pod(&read(pod("a", None, true)), 0));
    let find = || kubernetes.find("a", "a-c", 0, "n").is_some();
    for what in [Pods, Nodes, ReplicaSets] {
        kubernetes.works(what, true, 10);
    }
    let without_jobs = find();
    kubernetes.fails(Jobs, "forbidden".into());
    let jobs_forbidden = (find(), kubernetes.healthy_unix_ms());
    kubernetes.works(Jobs, true, 20);
    let healthy = kubernetes.healthy_unix_ms();

    kubernetes.fails(Pods, "connection refused".into());

    assert_eq!((without_jobs, jobs_forbidden, healthy), (false, (true, None), Some(20)));
    assert!(find());
    let problem = kubernetes.problem().unwrap();
    assert_eq!(problem, "API server: cannot watch pods: connection refused; names are as last known");
    assert_eq!(kubernetes.healthy_unix_ms(), None);
}

#[test]
fn a_node_is_away_when_cordoned_or_deleted_unless_no_name_is_known() {
    let kubernetes = Kubernetes::new("own".into(), LIMITS);
    let before = kubernetes.away(&["a", "b", "c"]);
    kubernetes.change(|store| {
        store.node(&read(json!({"metadata": {"name": "a"}})));
        store.node(&read(json!({"metadata": {"name": "b"}, "spec": {"unschedulable": true}})));
    });
    kubernetes.works(Nodes, true, 0);

    assert_eq!(before, [false; 3]);
    assert_eq!(kubernetes.away(&["a", "b", "c"]), [false, true, true]);
    assert_eq!(kubernetes.away(&["x", "y"]), [false, false]);
}
