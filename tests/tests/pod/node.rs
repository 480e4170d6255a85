//! A node of the test's own: a containerd of the range, an aggregator that is reached by name, and the agent's pod.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use vedette_range::{
    cgroups::{Cgroups, Limits},
    clean,
    guard::Net,
    home::Home,
    network::{Network, PodNetwork},
    pod::{self, Pod, Site},
    runtime::{
        Backend, PodPlace, Runtime,
        containerd::{
            cni,
            cri::{
                self,
                v1::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient},
            },
        },
    },
    schedule::Schedule,
};
use vedette_tests::{
    apiserver::tokens::Wanted,
    checkout, name_server, prerequisite, process,
    station::{Station, within},
};

use super::kubelet::{self, Volumes};

/// Where the agent looks for the aggregator, as a cluster's name servers know it.
const AGGREGATOR: &str = "vedette-aggregator.vedette.svc.cluster.local";
const NAMESPACE: &str = "vedette-agent";
const NODE: &str = "worker-7";
/// For anything that must come to pass, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Bits of the run's network.
const PREFIX: u8 = 24;

/// The pod of `install.yaml`'s DaemonSet.
pub fn agent_pod() -> Value {
    object("DaemonSet", "vedette-agent")["spec"]["template"]["spec"].clone()
}

/// An object of `install.yaml`; a name may go on with a hash.
fn object(kind: &str, name: &str) -> Value {
    use serde::Deserialize;
    let text = fs::read_to_string(checkout::root().join("manifests/install.yaml")).unwrap();
    let mut objects = serde_norway::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    objects.find(|object| object["kind"] == kind && object["metadata"]["name"].as_str().unwrap().starts_with(name)).unwrap()
}

/// The agent's pod, running.
pub struct AgentPod {
    pub uid: String,
    pub container: String,
    sandbox: String,
    place: PodPlace,
    log: PathBuf,
    /// The volume of the CA, outside of the container.
    ca: PathBuf,
}

/// A node: a site of the range, an aggregator beside it, and a stand-in for the API server that the aggregator asks.
pub struct Node {
    pub site: Arc<Site>,
    /// Where the name server is too.
    station: Station,
    /// Where the agent is.
    place: PodNetwork,
    runtime: RuntimeServiceClient<Channel>,
    folder: tempfile::TempDir,
}

impl Node {
    /// Starts containerd with the agent's image, the name server and the aggregator. `None`: the test has been skipped and must return.
    pub async fn start() -> Option<Self> {
        let programs = checkout::cache().join("target-static/x86_64-unknown-linux-gnu/release");
        if !prerequisite::root("a containerd of one's own") || !prerequisite::file(&programs.join("vedette-agent"), "make vm-image") {
            return None;
        }
        if !["containerd", "runc"].iter().all(|name| prerequisite::file(&in_path(name), "make prepare")) {
            return None;
        }
        let name = format!("vedette-test-pod-{}", std::process::id());
        let cgroups = Cgroups::find(&name).unwrap();
        let home = Home::claim(&name, &checkout::binary("vedette-range")).unwrap();
        let runtime = Runtime::start(Backend::Containerd, &cgroups, &home).await.unwrap();
        let network = Network::create(Net::slash24(Ipv4Addr::new(10, 213, 11, 0))).await.unwrap();
        let (station, place) = (network.pod().await.unwrap(), network.pod().await.unwrap());
        let folder = tempfile::tempdir().unwrap();
        let socket = home.dir().join("cri.sock");
        let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect_lazy();
        let image = build_image(&programs, folder.path());
        import(&socket, &image, ImageServiceClient::new(channel.clone())).await;

        serve_names(&station);
        let station = Station::start(folder.path(), station, settings).await.unwrap();
        station.server.set("nodes", json!({"metadata": {"name": NODE, "uid": "node-7"}}));
        let schedule = Mutex::new(Schedule::default());
        let site = Arc::new(Site { cgroups, network, home, runtime, identities: None, schedule, backoff: Duration::from_secs(1) });
        let runtime = RuntimeServiceClient::new(channel);
        Some(Self { site, station, place, runtime, folder })
    }

    /// Tells the API server of a pod of the range, as a Deployment's controllers and its kubelet would: whose it is, and its container now.
    pub fn tell(&self, pod: &Pod) {
        let owner = &pod.spec.owner_name;
        let set = format!("{owner}-5f7d9c");
        let by = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-of-{kind}-{name}"), "controller": true}]);
        let namespace = pod::NAMESPACE;
        let metadata = json!({"namespace": namespace, "name": set, "uid": format!("uid-of-ReplicaSet-{set}"), "ownerReferences": by("Deployment", owner)});
        self.station.server.set("replicasets", json!({"metadata": metadata}));
        let restarts = pod.container_ids(0, i64::MAX).len().saturating_sub(1);
        let statuses: Vec<Value> = pod
            .container_id()
            .map(|id| {
                json!({
                    "name": owner, "image": "vedette-range", "imageID": "", "ready": true, "restartCount": restarts,
                    "containerID": format!("containerd://{id}"),
                })
            })
            .into_iter()
            .collect();
        let name = pod_name(pod);
        self.station.server.set(
            "pods",
            json!({
                "metadata": {"namespace": namespace, "name": name, "uid": pod.uid, "ownerReferences": by("ReplicaSet", &set)},
                "spec": {"nodeName": NODE, "containers": [{"name": owner, "image": "vedette-range"}]},
                "status": {"containerStatuses": statuses},
            }),
        );
    }

    /// Puts the CA's certificate into the agent's volume, as a kubelet does once it is in the ConfigMap.
    pub fn publish_ca(&self, agent: &AgentPod) {
        let file = agent.ca.join("ca.crt");
        fs::write(&file, self.station.ca().unwrap()).unwrap();
    }

    /// Runs the pod of the manifest; what its volumes hold is what the cluster would put there, but for the CA, which comes later.
    pub async fn run_agent(&self) -> AgentPod {
        let (pod, home) = (agent_pod(), self.site.home.dir());
        let (uid, name) = ("6c1b7a0e-98c2-4d53-9d0a-52a6a17d7a10".to_owned(), "vedette-agent-x7k2p".to_owned());
        let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "vedette-agent", "uid": "d-1", "controller": true});
        let metadata = json!({"namespace": NAMESPACE, "name": name, "uid": uid, "ownerReferences": [owner]});
        let spec = json!({"nodeName": NODE, "serviceAccountName": pod["serviceAccountName"], "containers": pod["containers"]});
        self.station.server.set("pods", json!({"metadata": metadata, "spec": spec}));
        let token = self.station.server.issue(&Wanted {
            namespace: NAMESPACE,
            account: pod["serviceAccountName"].as_str().unwrap(),
            audience: "vedette-aggregator",
            seconds: 3_600,
            pod: Some((&name, &uid)),
        });
        let settings = object("ConfigMap", "vedette-agent-");
        let settings = settings["data"]["agent.toml"].as_str().unwrap();
        let files = [("config", "agent.toml", settings), ("token", "token", &token)];
        let volumes = Volumes::make(&pod, &home.join("work/agent"), &files);
        let place = PodPlace {
            uid: uid.clone(),
            name,
            container: "agent".to_owned(),
            cgroup: format!("kubepods/burstable/pod{uid}"),
            limits: Limits::default(),
            dirs: Vec::new(),
            network: self.place.clone(),
        };
        self.site.cgroups.create(&place.cgroup).unwrap();
        cni::offer(&home.join("containerd/cni/pods"), &place, PREFIX).unwrap();
        let logs = home.join("containerd/logs");
        let plain = cri::sandbox(&place, self.site.cgroups.root(), &logs);
        let config = kubelet::sandbox(&pod, plain, &self.station.network.address.to_string(), NAMESPACE);
        let mut runtime = self.runtime.clone();
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()) };
        let sandbox = runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
        let container = kubelet::container(&pod, &pod["containers"][0], &volumes, NODE);
        let log = Path::new(&config.log_directory).join(&container.log_path);
        let request = v1::CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(container), sandbox_config: Some(config) };
        let container = runtime.create_container(request).await.unwrap().into_inner().container_id;
        runtime.start_container(v1::StartContainerRequest { container_id: container.clone() }).await.unwrap();
        AgentPod { uid, container, sandbox, place, log, ca: volumes.place("ca").to_owned() }
    }

    /// Whether a probe of the manifest succeeds now.
    pub fn probe(&self, name: &str) -> bool {
        let pod = agent_pod();
        let container = &pod["containers"][0];
        let get = &container[name]["httpGet"];
        let port = container["ports"].as_array().unwrap().iter().find(|port| port["name"] == get["port"]).unwrap();
        let port = u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
        let (address, path) = (SocketAddr::from((self.place.address, port)), get["path"].as_str().unwrap().to_owned());
        within(&self.station.network, move || matches!(process::get(address, &path), Ok((200, _)))).unwrap()
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
        let dirs: Vec<_> = self.site.cgroups.dirs(cgroup).collect();
        let v1 = dirs.iter().find_map(|dir| fs::read_to_string(dir.join("cpuacct.usage")).ok());
        if let Some(nanoseconds) = v1 {
            return nanoseconds.trim().parse::<i64>().unwrap() / 1000;
        }
        let v2 = dirs.iter().find_map(|dir| fs::read_to_string(dir.join("cpu.stat")).ok()).unwrap();
        v2.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap()
    }

    /// Bytes that a container's pod received so far.
    pub fn received(&self, cgroup: &str) -> i64 {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.process(cgroup))).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn process(&self, cgroup: &str) -> u32 {
        *self.site.cgroups.processes(cgroup).first().unwrap()
    }

    /// What the kernel says of the agent's process.
    pub fn status(&self, agent: &AgentPod) -> String {
        let cgroup = agent.place.life(&agent.container);
        fs::read_to_string(format!("/proc/{}/status", self.process(&cgroup))).unwrap()
    }

    /// What the agent said.
    pub fn agent_log(&self, agent: &AgentPod) -> String {
        fs::read_to_string(&agent.log).unwrap_or_default()
    }

    /// SIGTERM, and the manifest's grace; the exit code.
    pub async fn stop_agent(&self, agent: &AgentPod) -> i32 {
        let timeout = agent_pod()["terminationGracePeriodSeconds"].as_i64().unwrap();
        let (mut runtime, container_id) = (self.runtime.clone(), agent.container.clone());
        runtime.stop_container(v1::StopContainerRequest { container_id: container_id.clone(), timeout }).await.unwrap();
        let status = runtime.container_status(v1::ContainerStatusRequest { container_id }).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.state(), v1::ContainerState::ContainerExited);
        status.exit_code
    }

    /// Removes everything; nothing of the run may be left.
    pub async fn remove(self, agent: AgentPod) {
        let mut runtime = self.runtime.clone();
        runtime.remove_container(v1::RemoveContainerRequest { container_id: agent.container }).await.unwrap();
        let pod_sandbox_id = agent.sandbox;
        runtime.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await.unwrap();
        runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
        cni::withdraw(&self.site.home.dir().join("containerd/cni/pods").join(&agent.place.name)).unwrap();
        clean::remove(&self.site.cgroups, &self.site.home).await.unwrap();
        assert_eq!(self.site.cgroups.leftovers(), Vec::<PathBuf>::new());
        assert!(!self.site.home.exists());
        drop(self.folder);
    }
}

/// Where a program is, or would be.
fn in_path(name: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
    folders.iter().find(|path| path.exists()).unwrap_or(&folders[0]).clone()
}

/// Builds the agent's image as `make images` does, of a program that is built already.
fn build_image(programs: &Path, out: &Path) -> PathBuf {
    let mut command = Command::new("python3");
    command.arg(checkout::root().join("scripts/build-images")).arg("agent").arg("--programs").arg(programs).arg("--out").arg(out);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out.join(format!("vedette-agent-{}.oci.tar", env!("CARGO_PKG_VERSION")))
}

/// Gives containerd the image under the name that the manifest says, and waits until it knows it.
async fn import(socket: &Path, image: &Path, mut images: ImageServiceClient<Channel>) {
    let mut command = Command::new(in_path("ctr"));
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"]).arg(image);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let name = agent_pod()["containers"][0]["image"].as_str().unwrap().to_owned();
    let started = Instant::now();
    loop {
        let request = v1::ImageStatusRequest { image: Some(v1::ImageSpec { image: name.clone() }) };
        if images.image_status(request).await.unwrap().into_inner().image.is_some() {
            return;
        }
        assert!(started.elapsed() < LIMIT, "containerd does not know {name}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A name server of the cluster: it knows the aggregator.
fn serve_names(station: &PodNetwork) {
    let address = station.address;
    let socket = within(station, move || UdpSocket::bind((address, 53)).unwrap()).unwrap();
    std::thread::spawn(move || name_server::serve(&socket, AGGREGATOR, address));
}

/// The name of a pod of the range.
pub fn pod_name(pod: &Pod) -> String {
    format!("{}-5f7d9c-{}", pod.spec.owner_name, &pod.uid[..5])
}

/// The configuration of the aggregator's manifest, but for where the API server is.
fn settings(kubeconfig: &Path) -> String {
    let settings = object("ConfigMap", "vedette-aggregator-");
    let text = settings["data"]["aggregator.toml"].as_str().unwrap();
    let watched = "[kubernetes]\n";
    assert!(text.contains(watched), "{text}");
    text.replace(watched, &format!("{watched}kubeconfig = {kubeconfig:?}\n"))
}
