//! Three agents side by side, each in a network namespace and a cgroup root of its own; one of them claims another's node. Needs root.

#![allow(clippy::unwrap_used)]

use std::{fs, net::Ipv4Addr, path::Path, sync::Arc, sync::Mutex, time::Duration};

use serde_json::json;
use vedette_range::{
    cgroups::{Cgroups, Limits},
    clean,
    guard::Net,
    home::Home,
    network::{Network, PodNetwork},
    pod::{Pod, PodSpec, Program, Site},
    runtime::{Backend, Runtime},
    schedule::Schedule,
};
use vedette_tests::{
    agent,
    apiserver::tokens::Wanted,
    checkout, prerequisite,
    process::{self, Process},
    station::{self, Station, start_within, within},
};

/// The node that each agent says it is on, and the one that the API server has its pod on.
const NODES: [(&str, &str); 3] = [("worker-1", "worker-1"), ("worker-2", "worker-2"), ("worker-1", "worker-3")];
/// For anything that must come to pass, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Rows of a container that show that its agent goes on.
const ROWS: i64 = 30;

/// A node: one pod below a cgroup root of its own, and the agent that watches it.
struct Node {
    site: Arc<Site>,
    pod: Arc<Pod>,
    agent: Process,
}

async fn start(number: u8, folder: &Path, station: &Station, network: PodNetwork) -> Node {
    let name = format!("vedette-test-node-{number}-{}", std::process::id());
    let cgroups = Cgroups::find(&name).unwrap();
    let home = Home::claim(&name, &checkout::binary("vedette-range")).unwrap();
    let runtime = Runtime::start(Backend::Local, &cgroups, &home).await.unwrap();
    let own = Network::create(Net::slash24(Ipv4Addr::new(10, 213, 20 + number, 0))).await.unwrap();
    let schedule = Mutex::new(Schedule::default());
    let site = Arc::new(Site { cgroups, network: own, home, runtime, identities: None, schedule, backoff: Duration::from_secs(1) });
    let spec = PodSpec { owner_kind: "Deployment", owner_name: format!("batch-{number}"), limits: Limits::default(), dirs: Vec::new() };
    let pod = Pod::create(&site, spec).await.unwrap();
    let args = ["hash", "--duty-pct", "10", "--seconds", "600"].map(str::to_owned).to_vec();
    pod.start(vec![Program { comm: "batch".into(), args }]).await.unwrap();

    let (claims, runs_on) = NODES[usize::from(number)];
    let (own_name, own_uid) = (format!("vedette-agent-{number}"), format!("uid-of-agent-{number}"));
    let metadata = |name: &str, uid: &str| json!({"namespace": "vedette-agent", "name": name, "uid": uid});
    for (name, uid) in [(own_name.as_str(), own_uid.as_str()), (&*pod.spec.owner_name, &*pod.uid)] {
        station.server.set("pods", json!({"metadata": metadata(name, uid), "spec": {"nodeName": runs_on}}));
    }
    let token = station.server.issue(&Wanted {
        namespace: "vedette-agent",
        account: "vedette-agent",
        audience: "vedette-aggregator",
        seconds: 3_600,
        pod: Some((&own_name, &own_uid)),
    });
    let folder = folder.join(&own_name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("ca.crt"), station.ca().unwrap()).unwrap();
    fs::write(folder.join("token"), token).unwrap();
    let setup = agent::Setup {
        node: claims.to_owned(),
        spool: folder.join("spool"),
        aggregator: station.aggregator.grpc,
        ca_file: folder.join("ca.crt"),
        token_file: folder.join("token"),
        more: String::new(),
    };
    agent::configure(&folder, &setup).unwrap();
    let config = folder.join("agent.toml");
    let text = fs::read_to_string(&config).unwrap().replace("[sensor]\n", &format!("[sensor]\ncgroup_subtree = {name:?}\n"));
    fs::write(&config, text).unwrap();
    let agent = start_within(&network, "vedette-agent", &["--config", config.to_str().unwrap()], &folder).unwrap();
    Node { site, pod, agent }
}

fn settings(kubeconfig: &Path) -> String {
    format!(
        "[grpc]\nlisten = \"0.0.0.0:7443\"\n[http]\nlisten = \"0.0.0.0:9444\"\n[tls]\nnames = [\"localhost\"]\nca_config_map = \"{}/{}\"\n\
         [kubernetes]\nenabled = true\nkubeconfig = {kubeconfig:?}\n[auth]\ntoken_review = true\n",
        station::CA.0,
        station::CA.1,
    )
}

/// How often somebody was refused for claiming another's node.
fn refused(station: &Station) -> f64 {
    let http = station.aggregator.http;
    let (_, text) = within(&station.network, move || process::get(http, "/metrics")).unwrap().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("vedette_aggregator_refused_total{reason=\"other_node\"} "));
    line.map_or(0.0, |value| value.parse().unwrap())
}

async fn rows(station: &Station, pod: &Pod) -> i64 {
    let container = pod.container_id().unwrap();
    station.number(&format!("select count(*) from observations where container_id = '{container}'")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_with_one_node_name_the_wrong_one_is_refused() {
    if !prerequisite::root("network namespaces and cgroups") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let network = Network::create(Net::slash24(Ipv4Addr::new(10, 213, 12, 0))).await.unwrap();
    let station = Station::start(folder.path(), network.pod().await.unwrap(), settings).await.unwrap();
    let mut nodes = Vec::new();
    for number in 0..3 {
        nodes.push(start(number, folder.path(), &station, network.pod().await.unwrap()).await);
    }

    let started = std::time::Instant::now();
    while refused(&station) < 3.0 || rows(&station, &nodes[0].pod).await < ROWS || rows(&station, &nodes[1].pod).await < ROWS {
        assert!(started.elapsed() < LIMIT, "{}\n{}", station.aggregator.process.log(), nodes[2].agent.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let seen = station.sql("select distinct node, pod_uid from observations where container_id <> '' order by node").await.unwrap();
    let expected: Vec<_> = [0, 1].map(|n: usize| vec![json!(NODES[n].0), json!(nodes[n].pod.uid)]).into();
    assert_eq!(seen, expected);
    assert_eq!(rows(&station, &nodes[2].pod).await, 0);
    let names = station.sql("select distinct pod_name from observations where container_id <> '' order by pod_name").await.unwrap();
    assert_eq!(names, [[json!("batch-0")], [json!("batch-1")]]);
    let said = nodes[2].agent.log();
    assert!(said.contains("the token is that of a pod on node worker-3"), "{said}");

    for Node { site, pod, agent } in nodes {
        drop(agent);
        pod.stop().await.unwrap();
        drop(pod);
        clean::remove(&site.cgroups, &site.home).await.unwrap();
    }
}
