//! A real aggregator against the stand-in for the API server: names appear, outlive the server, and are nobody else's to claim.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vedette_proto::v1::ContainerAdded;
use vedette_tests::{
    aggregator::{self, Aggregator},
    apiserver::ApiServer,
    cli,
    feeder::{Feed, Node},
    prerequisite,
};

/// The longest that anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(40);

fn start(folder: &Path, api: &ApiServer, page_size: u32) -> Aggregator {
    start_with(folder, api, &format!("page_size = {page_size}\n"))
}

fn metric(aggregator: &Aggregator, name: &str) -> f64 {
    let (_, text) = vedette_tests::process::get(aggregator.http, "/metrics").unwrap();
    vedette_tests::agent::value(&text, &format!("vedette_aggregator_{name}")).unwrap()
}

fn start_with(folder: &Path, api: &ApiServer, more: &str) -> Aggregator {
    let kubeconfig = api.kubeconfig(folder).unwrap();
    let more = format!("[kubernetes]\nenabled = true\nkubeconfig = {:?}\n{more}", kubeconfig.display().to_string());
    let (grpc, http) = aggregator::configure(folder, &more).unwrap();
    Aggregator::start_configured(folder, grpc, http).unwrap()
}

/// Waits for what has no event to wait for.
async fn until<T>(what: &str, aggregator: &Aggregator, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(started.elapsed() < LIMIT, "not in time: {what}; instead {instead}\n{}", aggregator.process.log()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn containers(aggregator: &Aggregator) -> Vec<Value> {
    let output = cli::run(aggregator, ["containers", "-o", "json"]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// `node namespace/kind/name/container` of everything alive.
fn names(aggregator: &Aggregator) -> Vec<String> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let name = |row: &Value| {
        let parts = ["namespace", "owner_kind", "owner_name", "container_name"].map(|key| text(row, key));
        format!("{} {}", text(row, "node"), parts.join("/"))
    };
    let mut names: Vec<String> = containers(aggregator).iter().map(name).collect();
    names.sort();
    names
}

async fn named(aggregator: &Aggregator, expected: &[&str]) {
    until("the names", aggregator, || {
        let names = names(aggregator);
        if names == expected { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
}

fn problems(aggregator: &Aggregator) -> String {
    cli::json_lines(aggregator, ["status", "-o", "json"]).map(|rows| rows[0]["problems"].to_string()).unwrap_or_default()
}

async fn problem(aggregator: &Aggregator, wanted: bool, text: &str) {
    until("a problem in status", aggregator, || {
        let problems = problems(aggregator);
        if problems.contains(text) == wanted { Ok(()) } else { Err(problems) }
    })
    .await;
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
}

fn pod(of: &ContainerAdded, node: &str, name: &str, owners: Value, container: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "uid": of.pod_uid, "ownerReferences": owners, "managedFields": [{"manager": "kubelet"}]},
        "spec": {"nodeName": node, "containers": [{
            "name": container, "image": "shop/web:1",
            "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}, "requests": {"cpu": "50m"}},
        }]},
        "status": {"qosClass": "Burstable", "containerStatuses": [{
            "name": container, "image": "shop/web:1", "imageID": "sha256:abc", "ready": true, "restartCount": 3,
            "containerID": format!("containerd://{}", of.container_id),
            "state": {"running": {"startedAt": "2026-11-22T06:25:44Z"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": "containerd://before"}},
        }]},
    })
}

/// Two pods of a Deployment and one of a CronJob on node `n1`.
async fn shop() -> (ApiServer, Node) {
    let (api, node) = (ApiServer::start().await.unwrap(), Node::new("n1", 3, 60));
    api.set("nodes", json!({"metadata": {"name": "n1", "uid": "node-1"}}));
    api.set(
        "replicasets",
        json!({"metadata": {"namespace": "shop", "name": "web-5f7", "uid": "rs", "ownerReferences": owner("Deployment", "web", "d")}}),
    );
    api.set(
        "jobs",
        json!({"metadata": {"namespace": "shop", "name": "tick-1", "uid": "job", "ownerReferences": owner("CronJob", "tick", "c")}}),
    );
    let added = node.added();
    for (place, name) in ["web-a", "web-b"].into_iter().enumerate() {
        api.set("pods", pod(&added[place], "n1", name, owner("ReplicaSet", "web-5f7", "rs"), "nginx"));
    }
    api.set("pods", pod(&added[2], "n1", "tick-1-x", owner("Job", "tick-1", "job"), "tick"));
    (api, node)
}

const SHOP: [&str; 3] = ["n1 shop/CronJob/tick/tick", "n1 shop/Deployment/web/nginx", "n1 shop/Deployment/web/nginx"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_named_from_the_api_server_and_another_nodes_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (api, node) = shop().await;
    let aggregator = start(folder.path(), &api, 2);
    let mut feed = Feed::open(&aggregator, &node).await.unwrap();
    feed.deliver(&node, 1..=5).await.unwrap();

    named(&aggregator, &SHOP).await;
    let row = containers(&aggregator).into_iter().find(|row| row["pod_name"] == "web-a").unwrap();
    let mut hello = Node::new("n9", 0, 60).hello();
    hello.containers = node.added();
    hello.containers.truncate(1);
    let _rooted = Feed::open_on(aggregator.channel().await.unwrap(), &aggregator, hello).await.unwrap();

    let unnamed = format!("n9 -/Pod/{}/#0", node.added()[0].pod_uid);
    let expected: Vec<&str> = SHOP.into_iter().chain([&*unnamed]).collect();
    named(&aggregator, &expected).await;
    problem(&aggregator, true, "node n9 tells of 1 containers of pods of other nodes, such as n1").await;
    let facts =
        ["image", "image_digest", "api_restarts", "last_exit_code", "last_exit_reason", "qos", "host_network"].map(|key| row[key].clone());
    assert_eq!(json!(facts), json!(["shop/web:1", "sha256:abc", 3, 137, "OOMKilled", "Burstable", false]));
    let amounts =
        ["cpu_request_millicores", "cpu_limit_millicores", "memory_request_bytes", "memory_limit_bytes"].map(|key| row[key].clone());
    assert_eq!(json!(amounts), json!([50, 200, null, 64 << 20]));
    assert_eq!((&row["restarts"], &row["restarts_differ"]), (&json!(0), &json!(false)));
    let stored = aggregator.number("select count(*) from observations where owner_name = 'web' and node = 'n1'").await.unwrap();
    let asked = api.asked();
    let of = |path: &str| asked.iter().filter(|one| one.path == path).collect::<Vec<_>>();
    assert!(of("/api/v1/pods").iter().any(|one| one.query.contains("limit=2") && one.query.contains("continue=")), "{asked:?}");
    assert!(of("/apis/apps/v1/replicasets").iter().all(|one| one.accept.contains("as=PartialObjectMetadata")), "{asked:?}");
    assert!(!of("/apis/batch/v1/jobs").is_empty() && stored <= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_outlive_gone_cuts_an_outage_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (api, node) = shop().await;
    let mut aggregator = start(folder.path(), &api, 500);
    let mut feed = Feed::open(&aggregator, &node).await.unwrap();
    feed.deliver(&node, 1..=2).await.unwrap();
    named(&aggregator, &SHOP).await;
    let added = node.added();
    let renamed = |container: &str| pod(&added[2], "n1", "tick-1-x", owner("Job", "tick-1", "job"), container);
    let with = |last: &'static str| [last, SHOP[1], SHOP[2]];

    api.gone();
    api.set("pods", renamed("after-gone"));
    named(&aggregator, &with("n1 shop/CronJob/tick/after-gone")).await;

    api.bookmark();
    api.drop_connections();
    api.set("pods", renamed("after-cut"));
    named(&aggregator, &with("n1 shop/CronJob/tick/after-cut")).await;

    api.set_down(true);
    problem(&aggregator, true, "API server: cannot watch").await;
    feed.deliver(&node, 3..=5).await.unwrap();
    assert_eq!(names(&aggregator), with("n1 shop/CronJob/tick/after-cut"));
    api.compact();
    api.set("pods", renamed("after-outage"));
    api.set_down(false);
    named(&aggregator, &with("n1 shop/CronJob/tick/after-outage")).await;
    problem(&aggregator, false, "API server").await;

    aggregator.process.terminate().unwrap();
    aggregator.process.wait(LIMIT).unwrap();
    api.set("pods", renamed("after-restart"));
    aggregator = Aggregator::start_configured(folder.path(), aggregator.grpc, aggregator.http).unwrap();
    let _feed = Feed::open(&aggregator, &node).await.unwrap();
    named(&aggregator, &with("n1 shop/CronJob/tick/after-restart")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pods_that_come_and_go_leave_the_memory_where_it_was() {
    const PODS: u32 = 10_000;
    /// Deleted pods are known for ten minutes, 12,000 of them at most here; and what an allocator keeps of three rounds of objects.
    const MOST_MORE_KIB: u64 = 24 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let (api, node) = shop().await;
    let aggregator = start_with(folder.path(), &api, "page_size = 500\nmax_pods = 12000\n");
    let _feed = Feed::open(&aggregator, &node).await.unwrap();
    let pods = Node::new("churn", PODS, 60).added();
    let added = node.added();
    // Changes come in order: whoever knows this one knows those before it.
    let mut marks = 0;
    let mut mark = async || {
        marks += 1;
        let container = format!("mark-{marks}");
        api.set("pods", pod(&added[2], "n1", "tick-1-x", owner("Job", "tick-1", "job"), &container));
        named(&aggregator, &[&format!("n1 shop/CronJob/tick/{container}"), SHOP[1], SHOP[2]]).await;
    };
    let rss_kib = || {
        let status = fs::read_to_string(format!("/proc/{}/status", aggregator.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };

    mark().await;
    let before = rss_kib();
    let (mut resident, mut known) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for one in &pods {
            let one = ContainerAdded { pod_uid: format!("{round}{}", &one.pod_uid[1..]), ..one.clone() };
            let name = format!("p-{}", one.container_ref);
            api.set("pods", pod(&one, "n1", &name, owner("DaemonSet", "ds", "ds"), "main"));
        }
        mark().await;
        for one in &pods {
            assert!(api.delete("pods", "shop", &format!("p-{}", one.container_ref)));
        }
        mark().await;
        resident.push(rss_kib());
        known.push(metric(&aggregator, "known_pods"));
    }

    // Thirty thousand pods came and went; the API sent 45 MiB of them.
    let most = resident.iter().max().unwrap();
    assert!(*most <= before + MOST_MORE_KIB, "resident KiB: {before} before, then after each round {resident:?}");
    assert!(known[2] <= 12_000.0 && known[2] >= 10_000.0, "{known:?}");
    eprintln!("resident KiB: {before} before, then after each round {resident:?}");
}

/// Pod uid and container id of every container cgroup below a folder, pause containers included.
fn cgroups(root: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        let id = name.strip_prefix("cri-containerd-").and_then(|name| name.strip_suffix(".scope")).unwrap_or(&name);
        if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let parent = root.file_name().unwrap().to_str().unwrap();
            let uid = parent.trim_end_matches(".slice").rsplit_once("pod").unwrap().1.replace('_', "-");
            found.insert(id.to_owned(), uid);
        } else {
            cgroups(&entry.path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_container_of_the_captured_nodes_gets_its_name() {
    let fixtures =
        std::env::var_os("VEDETTE_FIXTURES").map_or_else(|| vedette_tests::checkout::root().join("../shared/fixtures"), PathBuf::from);
    for capture in ["kubernetes-1.21-cgroup-v1", "kubernetes-1.21-cgroup-v2-systemd"] {
        let capture = fixtures.join(capture);
        if !prerequisite::file(&capture.join("apiserver-pods.json"), "a captured node, see CONTRIBUTING.md") {
            return;
        }
        let list: Value = serde_json::from_slice(&fs::read(capture.join("apiserver-pods.json")).unwrap()).unwrap();
        let pods = list["items"].as_array().unwrap();
        let api = ApiServer::start().await.unwrap();
        api.set("nodes", json!({"metadata": {"name": "node1"}}));
        // What the pods' owners were is in the captures by name only.
        for reference in pods.iter().flat_map(|pod| pod["metadata"]["ownerReferences"].as_array().into_iter().flatten()) {
            let name = reference["name"].as_str().unwrap();
            let meta =
                |owners: Value| json!({"metadata": {"namespace": "x", "name": name, "uid": reference["uid"], "ownerReferences": owners}});
            match reference["kind"].as_str().unwrap() {
                "ReplicaSet" => api.set("replicasets", meta(owner("Deployment", name.rsplit_once('-').unwrap().0, "d"))),
                "Job" if name.starts_with("tick-") => api.set("jobs", meta(owner("CronJob", "tick", "c"))),
                "Job" => api.set("jobs", meta(Value::Null)),
                _ => {}
            }
        }
        pods.iter().for_each(|pod| api.set("pods", pod.clone()));
        let mut found = BTreeMap::new();
        cgroups(&capture.join("sys/fs/cgroup"), &mut found);
        let listed = |id: &str| {
            let statuses = |pod: &Value| {
                let of = |list: &str| pod["status"][list].as_array().cloned().unwrap_or_default();
                [of("initContainerStatuses"), of("containerStatuses")].concat()
            };
            pods.iter().flat_map(statuses).any(|status| status["containerID"].as_str().is_some_and(|known| known.ends_with(id)))
        };
        let running: Vec<(String, String)> = found.into_iter().filter(|(id, _)| listed(id)).collect();
        let mut node = Node::new("node1", 0, 60);
        node.containers = 0;
        let mut hello = node.hello();
        let container = |(place, (id, uid)): (usize, &(String, String))| ContainerAdded {
            container_ref: place as u32 + 1,
            pod_uid: uid.clone(),
            container_id: id.clone(),
            cgroup: format!("/kubepods/pod{uid}/{id}"),
            // Nothing is to be had from places.
            slot: 7,
            ..ContainerAdded::default()
        };
        hello.containers = running.iter().enumerate().map(container).collect();
        let folder = tempfile::tempdir().unwrap();
        let aggregator = start(folder.path(), &api, 3);

        let _feed = Feed::open_on(aggregator.channel().await.unwrap(), &aggregator, hello).await.unwrap();

        let expected = [
            "node1 default/Deployment/web/web",
            "node1 default/Deployment/web/web",
            "node1 shop/CronJob/tick/tick",
            "node1 shop/DaemonSet/ds/ds",
            "node1 shop/Pod/guaranteed/main",
            "node1 shop/Pod/hostnet/main",
            "node1 shop/Pod/two/api",
            "node1 shop/Pod/two/sidecar",
            "node1 shop/StatefulSet/db/db",
        ];
        named(&aggregator, &expected).await;
        assert_eq!(running.len(), expected.len(), "{running:?}");
    }
}
