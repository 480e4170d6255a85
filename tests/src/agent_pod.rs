//! The agent's pod of `install.yaml` in a containerd of the range: its image, its volumes, its probes, and what the kernel says of it.

// Only tests call this, and what does not work must fail them.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use vedette_range::{
    cgroups::{Cgroups, Limits},
    guard::own_namespace,
    network::PodNetwork,
    pod::{Pod, PodSpec, Program, Site},
    runtime::{
        PodPlace,
        containerd::{
            cni,
            cri::{
                self,
                v1::{self, image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient},
            },
        },
    },
};

use crate::{
    kubelet::{self, Volumes},
    name_server, process,
    station::within,
};

/// Where the agent looks for the aggregator, as a cluster's name servers know it.
pub const AGGREGATOR: &str = "vedette-aggregator.vedette.svc.cluster.local";
/// Where the pod is.
pub const NAMESPACE: &str = "vedette-agent";
/// The file in the volume of the CA's certificate.
const CA_FILE: &str = "ca.crt";
/// For anything that containerd must do, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// Bits of the run's network.
const PREFIX: u8 = 24;

/// What the cluster gives a pod.
pub struct Given<'a> {
    /// Its uid.
    pub uid: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its node's name.
    pub node: &'a str,
    /// Its network.
    pub network: PodNetwork,
    /// Whom it asks for names.
    pub name_server: Ipv4Addr,
    /// The content of `vedette-ca`; `None`: it is empty, as before the aggregator's first start, see [`AgentPod::publish_ca`].
    pub ca: Option<&'a str>,
    /// The projected token.
    pub token: &'a str,
}

/// The pod, running.
pub struct AgentPod {
    /// Its uid.
    pub uid: String,
    /// Its container's id.
    pub container: String,
    pod: Value,
    sandbox: String,
    place: PodPlace,
    log: PathBuf,
    /// The volume of the CA's certificate, outside of the container.
    ca: PathBuf,
    runtime: RuntimeServiceClient<Channel>,
}

/// The pod of the manifests' DaemonSet.
#[must_use]
pub fn spec(manifests: &str) -> Value {
    kubelet::object(manifests, "DaemonSet", "vedette-agent")["spec"]["template"]["spec"].clone()
}

impl AgentPod {
    /// Runs the pod of the manifests in the containerd of a site; what its volumes hold is what the cluster would put there.
    pub async fn run(site: &Site, manifests: &str, given: Given<'_>) -> Self {
        let (pod, home) = (spec(manifests), site.home.dir());
        let settings = kubelet::object(manifests, "ConfigMap", "vedette-agent-");
        let settings = settings["data"]["agent.toml"].as_str().unwrap();
        let mut files = vec![("config", "agent.toml", settings), ("token", "token", given.token)];
        files.extend(given.ca.map(|ca| ("ca", CA_FILE, ca)));
        let volumes = Volumes::make(&pod, &home.join("work/agent"), &files);
        let ca = volumes.place("ca").to_owned();
        let place = PodPlace {
            uid: given.uid.to_owned(),
            name: given.name.to_owned(),
            container: "agent".to_owned(),
            cgroup: format!("kubepods/burstable/pod{}", given.uid),
            limits: Limits::default(),
            dirs: Vec::new(),
            network: given.network,
        };
        site.cgroups.create(&place.cgroup).unwrap();
        cni::offer(&home.join("containerd/cni/pods"), &place, PREFIX).unwrap();
        let plain = cri::sandbox(&place, site.cgroups.root(), &home.join("containerd/logs"));
        let config = kubelet::sandbox(&pod, plain, &given.name_server.to_string(), NAMESPACE);
        let mut runtime = RuntimeServiceClient::new(channel(&socket(site)));
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()) };
        let sandbox = runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
        let container = kubelet::container(&pod, &pod["containers"][0], &volumes, given.node);
        let log = Path::new(&config.log_directory).join(&container.log_path);
        let request = v1::CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(container), sandbox_config: Some(config) };
        let container = runtime.create_container(request).await.unwrap().into_inner().container_id;
        runtime.start_container(v1::StartContainerRequest { container_id: container.clone() }).await.unwrap();
        Self { uid: given.uid.to_owned(), container, pod, sandbox, place, log, ca, runtime }
    }

    /// Puts the CA's certificate into its volume, whole at once, as a kubelet does when it comes into the ConfigMap.
    pub fn publish_ca(&self, pem: &str) {
        let coming = self.ca.join(".coming");
        fs::write(&coming, pem).unwrap();
        fs::rename(coming, self.ca.join(CA_FILE)).unwrap();
    }

    /// Whether a probe of the manifest succeeds now, asked from `network`.
    #[must_use]
    pub fn probe(&self, name: &str, network: &PodNetwork) -> bool {
        let container = &self.pod["containers"][0];
        let get = &container[name]["httpGet"];
        let port = container["ports"].as_array().unwrap().iter().find(|port| port["name"] == get["port"]).unwrap();
        let port = u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
        let (address, path) = (SocketAddr::from((self.place.network.address, port)), get["path"].as_str().unwrap().to_owned());
        within(network, move || matches!(process::get(address, &path), Ok((200, _)))).unwrap()
    }

    /// What the kernel says of the agent's process.
    #[must_use]
    pub fn status(&self, cgroups: &Cgroups) -> String {
        let cgroup = self.place.life(&self.container);
        fs::read_to_string(format!("/proc/{}/status", main_process(cgroups, &cgroup))).unwrap()
    }

    /// What the agent said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM, and the manifest's grace; the exit code.
    pub async fn stop(&self) -> i32 {
        let timeout = self.pod["terminationGracePeriodSeconds"].as_i64().unwrap();
        let (mut runtime, container_id) = (self.runtime.clone(), self.container.clone());
        runtime.stop_container(v1::StopContainerRequest { container_id: container_id.clone(), timeout }).await.unwrap();
        let status = runtime.container_status(v1::ContainerStatusRequest { container_id }).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.state(), v1::ContainerState::ContainerExited);
        status.exit_code
    }

    /// Removes it and its network.
    pub async fn remove(self, site: &Site) {
        let mut runtime = self.runtime;
        runtime.remove_container(v1::RemoveContainerRequest { container_id: self.container }).await.unwrap();
        let pod_sandbox_id = self.sandbox;
        runtime.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await.unwrap();
        runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
        cni::withdraw(&site.home.dir().join("containerd/cni/pods").join(&self.place.name)).unwrap();
    }
}

/// Socket of a site's containerd.
#[must_use]
pub fn socket(site: &Site) -> PathBuf {
    site.home.dir().join("cri.sock")
}

fn channel(socket: &Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect_lazy()
}

/// Where a program is, or would be.
#[must_use]
pub fn in_path(name: &str) -> PathBuf {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
    folders.iter().find(|path| path.exists()).unwrap_or(&folders[0]).clone()
}

/// Gives the containerd behind a socket an archive, and waits until it knows the image of this name.
pub async fn import(socket: &Path, archive: &Path, name: &str) {
    let mut command = Command::new(in_path("ctr"));
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"]).arg(archive);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (started, mut images) = (Instant::now(), ImageServiceClient::new(channel(socket)));
    loop {
        let request = v1::ImageStatusRequest { image: Some(v1::ImageSpec { image: name.to_owned() }) };
        if images.image_status(request).await.unwrap().into_inner().image.is_some() {
            return;
        }
        assert!(started.elapsed() < LIMIT, "containerd does not know {name}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A name server of the cluster: it knows the aggregator, which is at the same address.
pub fn serve_names(network: &PodNetwork) {
    let address = network.address;
    let socket = within(network, move || UdpSocket::bind((address, 53)).unwrap()).unwrap();
    std::thread::spawn(move || name_server::serve(&socket, AGGREGATOR, address));
}

/// Starts a pod of the range with these programs, one per life; `@self` in them is its own address.
pub async fn start(site: &Arc<Site>, owner: &str, programs: &[&[&str]]) -> Arc<Pod> {
    let pod = create(site, owner).await;
    run(site, &pod, programs).await;
    pod
}

/// A pod of the range of which nothing runs yet but the sandbox.
pub async fn create(site: &Arc<Site>, owner: &str) -> Arc<Pod> {
    let spec = PodSpec { owner_kind: "Deployment", owner_name: owner.to_owned(), limits: Limits::default(), dirs: Vec::new() };
    Pod::create(site, spec).await.unwrap()
}

/// Starts its container; see [`start`].
pub async fn run(site: &Site, pod: &Arc<Pod>, programs: &[&[&str]]) {
    let address = pod.network.address.to_string();
    let host = own_namespace().unwrap().to_string();
    let programs = programs.iter().map(|args| {
        let mut args: Vec<String> = args.iter().map(|arg| arg.replace("@self", &address)).collect();
        if args.iter().any(|arg| arg == "--target") {
            args.extend(["--allow".to_owned(), site.network.subnet.to_string(), "--host-namespace".to_owned(), host.clone()]);
        }
        Program { comm: "worker".to_owned(), args }
    });
    pod.start(programs.collect()).await.unwrap();
}

/// The cgroup of a pod's container, below the run's.
#[must_use]
pub fn cgroup(pod: &Pod) -> String {
    format!("kubepods/burstable/pod{}/{}", pod.uid, pod.container_id().unwrap())
}

/// CPU time of a container so far, as the kernel has it, microseconds.
#[must_use]
pub fn cpu_us(cgroups: &Cgroups, cgroup: &str) -> i64 {
    let dirs: Vec<_> = cgroups.dirs(cgroup).collect();
    let v1 = dirs.iter().find_map(|dir| fs::read_to_string(dir.join("cpuacct.usage")).ok());
    if let Some(nanoseconds) = v1 {
        return nanoseconds.trim().parse::<i64>().unwrap() / 1000;
    }
    let v2 = dirs.iter().find_map(|dir| fs::read_to_string(dir.join("cpu.stat")).ok()).unwrap();
    v2.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap()
}

/// Bytes that a container's pod received so far.
#[must_use]
pub fn received_bytes(cgroups: &Cgroups, cgroup: &str) -> i64 {
    let text = fs::read_to_string(format!("/proc/{}/net/dev", main_process(cgroups, cgroup))).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn main_process(cgroups: &Cgroups, cgroup: &str) -> u32 {
    *cgroups.processes(cgroup).first().unwrap()
}
