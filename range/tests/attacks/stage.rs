//! A site with pods of the local runtime, each seen by the agent's own eyes: the same files, the same parsers, the same columns.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use vedette_agent::{
    container::{self, ContainerFiles},
    files::{KernelFile, Reader},
    hierarchy::Hierarchies,
    metrics::Metrics,
    network::{Kind, Network as Namespace},
    observe::{carry, observe},
    sample::Sample,
};
use vedette_proto::{Column, Observation};
use vedette_range::{
    cgroups::{Cgroups, Limits},
    clean,
    guard::{Net, own_namespace},
    home::Home,
    nets::{Range, RunNets},
    network::Network,
    pod::{Pod, PodSpec, Program, Site},
    runtime::{Backend, Runtime},
    schedule::Schedule,
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_vedette-range");
pub const MIB: u64 = 1 << 20;
/// How long something may take that takes a second or two on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(40);

/// A run without a plan; removed by [`Stage::end`].
pub struct Stage {
    pub site: Arc<Site>,
    began: Instant,
}

/// Limits that attacks are run under: a pids limit, and memory where it matters.
pub fn limits(memory_mib: u64, pids: u64) -> Limits {
    Limits { cpu_millicores: None, memory_bytes: (memory_mib > 0).then_some(memory_mib * MIB), pids: (pids > 0).then_some(pids) }
}

impl Stage {
    /// `None`, and said so, without root.
    pub async fn make(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: the range needs root");
            return None;
        }
        let name = format!("vedette-test-{name}-{}", std::process::id());
        let cgroups = Cgroups::find(&name).expect("cgroups");
        let home = Home::claim(&name, Path::new(BINARY)).expect("home");
        let network = Network::create(subnet()).await.expect("network");
        let runtime = Runtime::start(Backend::Local, &cgroups, &home).await.expect("runtime");
        let (identities, schedule) = (None, Mutex::new(Schedule::default()));
        let site = Arc::new(Site { cgroups, network, home, runtime, identities, schedule, backoff: Duration::from_secs(1) });
        Some(Self { site, began: Instant::now() })
    }

    /// A pod whose container is not there yet.
    pub async fn pod(&self, owner: &str, limits: Limits) -> Actor {
        let spec = PodSpec { owner_kind: "Deployment", owner_name: owner.to_owned(), limits, dirs: vec![self.site.home.work()] };
        let pod = Pod::create(&self.site, spec).await.expect("pod");
        let mut actor = Actor {
            pod,
            site: Arc::clone(&self.site),
            began: self.began,
            reader: Reader::new(64, Metrics::default()),
            hierarchies: Hierarchies::find(Path::new("/")).expect("cgroups"),
            files: ContainerFiles::default(),
            namespace: Namespace::default(),
            before: Sample::default(),
        };
        actor.open().await;
        actor
    }

    /// A pod that runs one behaviour.
    pub async fn runs(&self, owner: &str, limits: Limits, args: &[&str]) -> Actor {
        let actor = self.pod(owner, limits).await;
        actor.pod.start(vec![self.program(args)]).await.expect("started");
        actor
    }

    /// A pod that serves at its own address.
    pub async fn serves(&self, owner: &str, args: &[&str]) -> Actor {
        let actor = self.pod(owner, Limits::default()).await;
        let address = actor.address();
        actor.pod.start(vec![self.program(&[args, &["--address", &address]].concat())]).await.expect("started");
        actor.until("it listens", |row, _| row.get(Column::TcpSockets) > Some(0)).await;
        actor
    }

    /// A behaviour as the runner starts it.
    pub fn program(&self, args: &[&str]) -> Program {
        let mut args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        const SILENT: [&str; 11] = ["web", "sink", "api", "pool", "cache", "fail", "fork-bomb", "leak", "disk-fill", "idle", "sleep"];
        if !SILENT.contains(&args[0].as_str()) {
            let host = own_namespace().expect("namespace").to_string();
            args.extend(["--allow".to_owned(), self.site.network.subnet.to_string(), "--host-namespace".to_owned(), host]);
        }
        Program { comm: "helper".to_owned(), args }
    }

    /// An address in one of the run's ranges.
    pub fn address(&self, range: Range, host: u8) -> String {
        RunNets::of(self.site.network.subnet).expect("a run's").range(range).host(host).to_string()
    }

    /// Runs a behaviour to its end in a pod of its own, where only its own checks keep it from harm.
    pub async fn tries(&self, limits: Limits, args: &[&str]) -> Output {
        let actor = self.runs("trier", limits, &["idle", "--seconds", "600"]).await;
        let output = self.tries_inside(&actor, &self.program(args).args).await;
        actor.end().await;
        output
    }

    /// The same inside a container that runs already, with exactly these arguments.
    pub async fn tries_inside(&self, actor: &Actor, args: &[String]) -> Output {
        let program = [&[BINARY.to_owned(), "behave".to_owned()], args].concat();
        self.executes_inside(actor, &program).await
    }

    /// Any program inside a container that runs already.
    pub async fn executes_inside(&self, actor: &Actor, program: &[String]) -> Output {
        let mut command = tokio::process::Command::new(BINARY);
        command.arg("enter");
        for dir in self.site.cgroups.dirs(&actor.path()) {
            command.arg("--cgroup").arg(dir);
        }
        command.arg("--netns").arg(actor.pod.network.path()).arg("--parent").arg(std::process::id().to_string());
        command.arg("--").args(program).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ended").expect("run")
    }

    /// Removes everything, and looks whether it is gone.
    pub async fn end(self, actors: impl IntoIterator<Item = Actor>) {
        for actor in actors {
            actor.end().await;
        }
        clean::remove(&self.site.cgroups, &self.site.home).await.expect("removed");
        assert_eq!(self.site.cgroups.leftovers(), Vec::<PathBuf>::new());
        assert!(!self.site.home.exists());
    }
}

/// The run's /24. Runs do not meet: each has its own namespaces.
pub fn subnet() -> Net {
    Net::slash24(std::net::Ipv4Addr::new(10, 213, 9, 0))
}

/// A pod and the agent's view of it.
pub struct Actor {
    pub pod: Arc<Pod>,
    site: Arc<Site>,
    began: Instant,
    reader: Reader,
    hierarchies: Hierarchies,
    files: ContainerFiles,
    namespace: Namespace,
    /// The pod's network before its container began.
    before: Sample,
}

impl Actor {
    pub fn address(&self) -> String {
        self.pod.network.address.to_string()
    }

    pub fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.pod.network.address)
    }

    /// Cgroup of the present container, below the run's subtree.
    pub fn path(&self) -> String {
        format!("kubepods/burstable/pod{}/{}", self.pod.uid, self.pod.container_id().expect("a container runs"))
    }

    /// Processes in the container.
    pub fn processes(&self) -> Vec<u32> {
        self.site.cgroups.processes(&self.path())
    }

    async fn open(&mut self) {
        let sandbox = self
            .site
            .schedule()
            .lives
            .iter()
            .find(|life| life.sandbox && life.pod_uid == self.pod.uid)
            .expect("sandbox")
            .container_id
            .clone();
        let path = format!("kubepods/burstable/pod{}/{sandbox}", self.pod.uid);
        let began = Instant::now();
        let own = fs::read_link("/proc/self/ns/net").expect("namespace");
        let inside = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|namespace| namespace != own);
        while began.elapsed() < PATIENCE {
            if let Some(pid) = self.site.cgroups.processes(&path).first().copied().filter(inside) {
                (self.namespace.pid, self.namespace.kind) = (Some(pid), Kind::Own);
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(self.namespace.pid.is_some(), "a process in the sandbox");
        let mut sample = Sample::default();
        self.namespace.read(&mut self.reader, "/proc", true, true, &mut sample);
        container::stamp(&mut sample, self.now_us(), true, true);
        self.before = sample;
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// What the agent would say of the pod since it was made, every tier read; and the reading itself.
    pub fn look(&mut self) -> (Observation, Sample) {
        let mut pod = Sample::default();
        self.namespace.read(&mut self.reader, "/proc", true, true, &mut pod);
        container::stamp(&mut pod, self.now_us(), true, true);
        let mut sample = Sample::default();
        if self.pod.container_id().is_some() {
            let path = format!("{}/{}", self.site.cgroups.root(), self.path());
            let limits = container::limits(&mut self.reader, &self.hierarchies, &path, path.rsplit_once('/').map_or("", |(pod, _)| pod));
            let _ = self.files.read(&mut self.reader, &self.hierarchies, &path, true, &limits, &mut sample);
            // On v2 the pod's file counts them: the container's is gone together with the container.
            let mut kills = KernelFile::default();
            let pod_path = path.rsplit_once('/').map_or("", |(pod, _)| pod);
            container::pod_oom_kills(&mut self.reader, &mut kills, &self.hierarchies, pod_path, &mut sample);
            self.reader.close(&mut kills);
        }
        container::stamp(&mut sample, self.now_us(), true, true);
        let birth = Sample::before_birth(self.before.at_us(vedette_proto::Tier::Fast), self.before.at_us(vedette_proto::Tier::Slow));
        let mut row = observe(&birth, &sample);
        carry(&mut row, &observe(&self.before, &pod));
        (row, sample)
    }

    /// Looks until what is wanted is there, and says what there was.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Observation, &Sample) -> bool) -> Observation {
        let mut own = self.twin();
        let began = Instant::now();
        loop {
            let (row, sample) = own.look();
            if wanted(&row, &sample) {
                return row;
            }
            assert!(began.elapsed() < PATIENCE, "{}: not seen: {what}: {row:?}", self.pod.spec.owner_name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The same pod through files of its own.
    fn twin(&self) -> Self {
        let mut namespace = Namespace::default();
        (namespace.pid, namespace.kind) = (self.namespace.pid, self.namespace.kind);
        Self {
            pod: Arc::clone(&self.pod),
            site: Arc::clone(&self.site),
            began: self.began,
            reader: Reader::new(64, Metrics::default()),
            hierarchies: self.hierarchies.clone(),
            files: ContainerFiles::default(),
            namespace,
            before: self.before,
        }
    }

    /// Growth or level of a column since the pod was made.
    pub fn column(&self, column: Column) -> u64 {
        let (row, _) = self.twin().look();
        row.get(column).unwrap_or_else(|| panic!("{} has no {}", self.pod.spec.owner_name, column.name()))
    }

    pub async fn end(self) {
        self.pod.stop().await.expect("stopped");
    }
}

/// Standard error of a behaviour that ended.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
