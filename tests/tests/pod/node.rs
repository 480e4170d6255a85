//! A node of the test's own: a containerd of the range, an aggregator that is reached by name, and the agent's pod.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use vedette_range::{
    cgroups::Cgroups,
    clean,
    guard::Net,
    home::Home,
    network::{Network, PodNetwork},
    pod::{Pod, Site},
    runtime::{Backend, Runtime},
    schedule::{PodRecord, Schedule},
};
use vedette_tests::{
    agent,
    agent_pod::{self, AgentPod, Given, NAMESPACE},
    apiserver::tokens::Wanted,
    checkout, kubelet, prerequisite, process,
    station::{Station, within},
};

const NODE: &str = "worker-7";
/// For anything that must come to pass, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// What is installed.
fn manifests() -> String {
    fs::read_to_string(checkout::root().join("manifests/install.yaml")).unwrap()
}

/// The pod of `install.yaml`'s DaemonSet.
pub fn agent_pod() -> Value {
    agent_pod::spec(&manifests())
}

/// A node: a site of the range, an aggregator beside it, and a stand-in for the API server that the aggregator asks.
pub struct Node {
    pub site: Arc<Site>,
    /// Where the name server is too.
    station: Station,
    /// Where the agent is.
    place: PodNetwork,
    folder: tempfile::TempDir,
}

impl Node {
    /// Starts containerd with the agent's image, the name server and the aggregator. `None`: the test has been skipped and must return.
    pub async fn start() -> Option<Self> {
        let programs = checkout::cache().join("target-static/x86_64-unknown-linux-gnu/release");
        if !prerequisite::root("a containerd of one's own") || !prerequisite::file(&programs.join("vedette-agent"), "make vm-image") {
            return None;
        }
        if !["containerd", "runc"].iter().all(|name| prerequisite::file(&agent_pod::in_path(name), "make prepare")) {
            return None;
        }
        let name = format!("vedette-test-pod-{}", std::process::id());
        let cgroups = Cgroups::find(&name).unwrap();
        let home = Home::claim(&name, &checkout::binary("vedette-range")).unwrap();
        let runtime = Runtime::start(Backend::Containerd, &cgroups, &home).await.unwrap();
        let network = Network::create(Net::slash24(Ipv4Addr::new(10, 213, 11, 0))).await.unwrap();
        let (station, place) = (network.pod().await.unwrap(), network.pod().await.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let image = build_image(&programs, folder.path());
        let image_name = agent_pod()["containers"][0]["image"].as_str().unwrap().to_owned();
        agent_pod::import(&home.dir().join("cri.sock"), &image, &image_name).await;

        agent_pod::serve_names(&station);
        let station = Station::start(folder.path(), station, settings).await.unwrap();
        station.server.set("nodes", json!({"metadata": {"name": NODE, "uid": "node-7"}}));
        let schedule = Mutex::new(Schedule::default());
        let site = Arc::new(Site { cgroups, network, home, runtime, identities: None, schedule, backoff: Duration::from_secs(1) });
        Some(Self { site, station, place, folder })
    }

    /// Starts a pod of the range with these programs, one per life; the API server knows it before anything of it runs.
    pub async fn pod(&self, owner: &str, programs: &[&[&str]]) -> Arc<Pod> {
        let pod = agent_pod::create(&self.site, owner).await;
        self.tell(&pod);
        agent_pod::run(&self.site, &pod, programs).await;
        pod
    }

    /// What the range knows of one of its pods.
    pub fn record(&self, pod: &Pod) -> PodRecord {
        self.site.schedule().pods.iter().find(|record| record.pod_uid == pod.uid).unwrap().clone()
    }

    /// Tells the API server of a pod of the range, as a Deployment's controllers and its kubelet would: whose it is, and its container now.
    pub fn tell(&self, pod: &Pod) {
        let PodRecord { namespace, pod: name, owner_kind, owner_name: owner, pod_uid, .. } = self.record(pod);
        let (set, _) = name.rsplit_once('-').unwrap();
        let by = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("{kind}-{name}"), "controller": true}]);
        let metadata =
            json!({"namespace": namespace, "name": set, "uid": format!("ReplicaSet-{set}"), "ownerReferences": by(&owner_kind, &owner)});
        self.station.server.set("replicasets", json!({"metadata": metadata}));
        let lives = pod.container_ids(0, i64::MAX);
        let mut status = json!({"name": owner, "image": "vedette-range", "imageID": "", "ready": true});
        status["restartCount"] = json!(lives.len().saturating_sub(1));
        if let Some(before) = lives.len().checked_sub(2) {
            let ended = json!({"exitCode": 1, "reason": "Error", "containerID": format!("containerd://{}", lives[before])});
            status["lastState"] = json!({"terminated": ended});
        }
        let statuses: Vec<Value> = pod
            .container_id()
            .map(|id| {
                status["containerID"] = json!(format!("containerd://{id}"));
                status
            })
            .into_iter()
            .collect();
        self.station.server.set(
            "pods",
            json!({
                "metadata": {"namespace": namespace, "name": name, "uid": pod_uid, "ownerReferences": by("ReplicaSet", set)},
                "spec": {"nodeName": NODE, "containers": [{"name": owner, "image": "vedette-range"}]},
                "status": {"containerStatuses": statuses},
            }),
        );
    }

    /// Puts the CA's certificate into the agent's volume.
    pub fn publish_ca(&self, agent: &AgentPod) {
        agent.publish_ca(&self.station.ca().unwrap());
    }

    /// A metric of the aggregator, without its prefix.
    pub fn metric(&self, name: &str) -> f64 {
        let http = self.station.aggregator.http;
        let text = within(&self.station.network, move || process::get(http, "/metrics").unwrap().1).unwrap();
        agent::value(&text, &format!("vedette_aggregator_{name}")).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Runs the pod of the manifest; what its volumes hold is what the cluster would put there, but for the CA's certificate, which comes
    /// later.
    pub async fn run_agent(&self) -> AgentPod {
        let pod = agent_pod();
        let (uid, name) = ("6c1b7a0e-98c2-4d53-9d0a-52a6a17d7a10", "vedette-agent-x7k2p");
        let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "vedette-agent", "uid": "d-1", "controller": true});
        let metadata = json!({"namespace": NAMESPACE, "name": name, "uid": uid, "ownerReferences": [owner]});
        let spec = json!({"nodeName": NODE, "serviceAccountName": pod["serviceAccountName"], "containers": pod["containers"]});
        self.station.server.set("pods", json!({"metadata": metadata, "spec": spec}));
        let token = self.station.server.issue(&Wanted {
            namespace: NAMESPACE,
            account: pod["serviceAccountName"].as_str().unwrap(),
            audience: "vedette-aggregator",
            seconds: 3_600,
            pod: Some((name, uid)),
        });
        let (network, name_server) = (self.place.clone(), self.station.network.address);
        AgentPod::run(&self.site, &manifests(), Given { uid, name, node: NODE, network, name_server, ca: None, token: &token }).await
    }

    /// Whether a probe of the manifest succeeds now.
    pub fn probe(&self, agent: &AgentPod, name: &str) -> bool {
        agent.probe(name, &self.station.network)
    }

    /// Waits for something that must come to pass.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < LIMIT, "never: {what}\n{}", self.station.aggregator.process.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the one number that a SELECT gives is right.
    pub async fn until_sql(&self, sql: &str, right: impl Fn(i64) -> bool) {
        let started = Instant::now();
        loop {
            let number = self.number(sql).await;
            if right(number) {
                return;
            }
            assert!(started.elapsed() < LIMIT, "{sql} gives {number}\n{}", self.station.aggregator.process.log());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The one number that a SELECT gives; nothing counts as 0.
    pub async fn number(&self, sql: &str) -> i64 {
        self.station.number(sql).await.unwrap()
    }

    /// The texts that a SELECT gives.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.station.sql(sql).await.unwrap().iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
    }

    /// CPU time of a container so far, as the kernel has it, microseconds.
    pub fn cpu_us(&self, cgroup: &str) -> i64 {
        agent_pod::cpu_us(&self.site.cgroups, cgroup)
    }

    /// Bytes that a container's pod received so far.
    pub fn received(&self, cgroup: &str) -> i64 {
        agent_pod::received_bytes(&self.site.cgroups, cgroup)
    }

    /// Removes everything; nothing of the run may be left.
    pub async fn remove(self, agent: AgentPod) {
        agent.remove(&self.site).await;
        clean::remove(&self.site.cgroups, &self.site.home).await.unwrap();
        assert_eq!(self.site.cgroups.leftovers(), Vec::<PathBuf>::new());
        assert!(!self.site.home.exists());
        drop(self.folder);
    }
}

/// Builds the agent's image as `make images` does, of a program that is built already.
fn build_image(programs: &Path, out: &Path) -> PathBuf {
    let mut command = Command::new("python3");
    command.arg(checkout::root().join("scripts/build-images")).arg("agent").arg("--programs").arg(programs).arg("--out").arg(out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out.join(format!("vedette-agent-{}.oci.tar", env!("CARGO_PKG_VERSION")))
}

/// The configuration of the aggregator's manifest, but for where the API server is.
fn settings(kubeconfig: &Path) -> String {
    let settings = kubelet::object(&manifests(), "ConfigMap", "vedette-aggregator-");
    let text = settings["data"]["aggregator.toml"].as_str().unwrap();
    let watched = "[kubernetes]\n";
    assert!(text.contains(watched), "{text}");
    text.replace(watched, &format!("{watched}kubeconfig = {kubeconfig:?}\n"))
}
