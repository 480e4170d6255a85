//! A range of its own for each test, and the kernel's files about the pods in it.

use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::Subcommand;
use vedette_range::{
    behave::Behaviour,
    cgroups::{Cgroups, Limits},
    clean,
    guard::{Net, own_namespace},
    home::Home,
    network::Network,
    pod::{Pod, PodSpec, Program, Site},
    runtime::{Backend, Runtime},
    schedule::Schedule,
};

const BINARY: &str = env!("CARGO_BIN_EXE_vedette-range");
/// Name of every behaviour's process.
const COMM: &str = "app";

/// Says why the calling test cannot run; where CI=true it must, and fails.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "cannot run, and CI=true forbids to skip: {reason}");
    eprintln!("SKIPPED: {reason}");
}

/// Waits for something that the kernel's files will say soon.
pub async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within 30 s: {what}");
}

pub async fn seconds(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// A site with its pods, removed at the end of the test.
pub struct Range {
    pub site: Arc<Site>,
    pods: Mutex<Vec<Arc<Pod>>>,
}

/// A pod, and what the kernel says of it.
pub struct Watched {
    pub pod: Arc<Pod>,
    site: Arc<Site>,
    /// Its own directory, that `{dir}` stands for.
    pub dir: PathBuf,
}

impl Range {
    pub async fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("the range needs root");
            return None;
        }
        let name = format!("vedette-test-{name}-{}", std::process::id());
        let cgroups = Cgroups::find(&name).expect("cgroups");
        let home = Home::claim(&name, Path::new(BINARY)).expect("home");
        let network = Network::create(Net::slash24(std::net::Ipv4Addr::new(10, 213, 8, 0))).await.expect("network");
        let runtime = Runtime::start(Backend::Local, &cgroups, &home).await.expect("runtime");
        let (identities, schedule) = (None, Mutex::new(Schedule::default()));
        let site = Arc::new(Site { cgroups, network, home, runtime, identities, schedule, backoff: Duration::from_millis(200) });
        Some(Self { site, pods: Mutex::default() })
    }

    /// A pod that runs this behaviour; `{address}` and `{dir}` are the pod's own.
    pub async fn run(&self, owner: &str, command: &str) -> Watched {
        self.limited(owner, command, Limits::default()).await
    }

    pub async fn limited(&self, owner: &str, command: &str, limits: Limits) -> Watched {
        let spec = PodSpec { owner_kind: "Deployment", owner_name: owner.to_owned(), limits, dirs: vec![self.site.home.work()] };
        let pod = Pod::create(&self.site, spec).await.expect("pod");
        self.pods.lock().expect("pods").push(Arc::clone(&pod));
        let dir = self.site.home.work().join(owner);
        fs::create_dir_all(&dir).expect("directory");
        let watched = Watched { pod, site: Arc::clone(&self.site), dir };
        // Moves into cgroup and namespace may still be under way when these return.
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        soon("the sandbox is there", || watched.sandbox().is_some_and(|pid| namespace(&pid.to_string()) != namespace("self"))).await;
        watched.pod.start(vec![watched.program(command)]).await.expect("started");
        soon("the program is there", || watched.processes().iter().any(|&pid| is_named(pid, COMM))).await;
        if command.contains("--address {address}") && !command.starts_with("program") {
            soon("it listens", || !watched.listening().is_empty() || watched.net("udp").lines().count() > 1).await;
        }
        watched
    }

    pub async fn end(self) {
        let pods = std::mem::take(&mut *self.pods.lock().expect("pods"));
        for pod in pods.iter().rev() {
            pod.stop().await.expect("stopped");
        }
        clean::remove(&self.site.cgroups, &self.site.home).await.expect("removed");
        assert_eq!(self.site.cgroups.leftovers(), Vec::<PathBuf>::new());
        assert!(!self.site.home.exists());
    }
}

/// Whether a behaviour takes bounds, by its own flags.
fn sends(behaviour: &str) -> bool {
    let commands = Behaviour::augment_subcommands(clap::Command::new("behave"));
    let command = commands.find_subcommand(behaviour).expect("a behaviour");
    command.get_arguments().any(|argument| argument.get_id() == "allow")
}

impl Watched {
    pub fn program(&self, command: &str) -> Program {
        let command = command.replace("{address}", &self.pod.network.address.to_string()).replace("{dir}", &self.dir.to_string_lossy());
        let mut args: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if sends(&args[0]) {
            let host = own_namespace().expect("namespace").to_string();
            args.extend(["--allow".to_owned(), self.site.network.subnet.to_string(), "--host-namespace".to_owned(), host]);
        }
        Program { comm: COMM.to_owned(), args }
    }

    pub fn at(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.pod.network.address, port)
    }

    fn path(&self) -> String {
        format!("kubepods/burstable/pod{}/{}", self.pod.uid, self.pod.container_id().expect("running"))
    }

    pub fn processes(&self) -> Vec<u32> {
        self.site.cgroups.processes(&self.path())
    }

    /// Names and uids of its processes.
    pub fn names(&self) -> Vec<(String, u32)> {
        let read = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
            Some((field("Name:")?, field("Uid:")?.split_whitespace().next()?.parse().ok()?))
        };
        self.processes().into_iter().filter_map(read).collect()
    }

    /// The first of these files of its cgroups that exists.
    fn file(&self, path: &str, names: &[&str]) -> String {
        let dirs: Vec<_> = self.site.cgroups.dirs(path).collect();
        let mut files = names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        files.find_map(|file| fs::read_to_string(file).ok()).unwrap_or_else(|| panic!("none of {names:?} in {path}"))
    }

    /// CPU time, milliseconds.
    pub fn cpu_ms(&self) -> u64 {
        let text = self.file(&self.path(), &["cpuacct.usage", "cpu.stat"]);
        match text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            Some(us) => us.parse::<u64>().expect("number") / 1_000,
            None => text.trim().parse::<u64>().expect("number") / 1_000_000,
        }
    }

    fn memory_stat(&self, names: &[&str]) -> u64 {
        let text = self.file(&self.path(), &["memory.stat"]);
        let fields = text.lines().filter_map(|line| line.split_once(' '));
        let found: Vec<_> = fields.filter(|(name, _)| names.contains(name)).collect();
        found.first().expect("field").1.parse().expect("number")
    }

    /// Anonymous memory, MiB.
    pub fn anon_mib(&self) -> u64 {
        self.memory_stat(&["total_rss", "anon"]) >> 20
    }

    pub fn faults(&self) -> u64 {
        self.memory_stat(&["total_pgfault", "pgfault"])
    }

    /// Processes and threads, of the pod.
    pub fn pids(&self) -> u64 {
        self.file(&format!("kubepods/burstable/pod{}", self.pod.uid), &["pids.current"]).trim().parse().expect("number")
    }

    /// Forks that the pod's limit refused.
    pub fn refused_forks(&self) -> u64 {
        let text = self.file(&format!("kubepods/burstable/pod{}", self.pod.uid), &["pids.events"]);
        text.lines().find_map(|line| line.strip_prefix("max ")).expect("max").parse().expect("number")
    }

    /// Bytes written towards disks: as the cgroup says, or, where a kernel's v1 does not count for it, as its processes and the children
    /// they waited for do.
    pub fn written(&self) -> u64 {
        let cgroup = sum(&self.file(&self.path(), &["blkio.throttle.io_service_bytes", "io.stat"]));
        let process = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse::<u64>().ok()
        };
        cgroup.max(self.processes().into_iter().filter_map(process).sum())
    }

    /// The process that holds the pod's namespaces.
    fn sandbox(&self) -> Option<u32> {
        let id = self.site.schedule().lives.iter().find(|life| life.pod_uid == self.pod.uid && life.sandbox)?.container_id.clone();
        self.site.cgroups.processes(&format!("kubepods/burstable/pod{}/{id}", self.pod.uid)).first().copied()
    }

    /// A file of the pod's network namespace.
    pub fn net(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/net/{file}", self.sandbox().expect("sandbox"))).expect("net")
    }

    /// `eth0`: received and sent bytes, received and sent packets.
    pub fn eth0(&self) -> Traffic {
        let text = self.net("dev");
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("eth0");
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().expect("number")).collect();
        Traffic { received: numbers[0], packets_in: numbers[1], sent: numbers[8], packets_out: numbers[9] }
    }

    /// A field of `net/snmp` or `net/netstat`, such as `Tcp ActiveOpens`, `Udp OutDatagrams`, `TcpExt ListenDrops`.
    pub fn counter(&self, group: &str, name: &str) -> u64 {
        let file = if group.ends_with("Ext") { "netstat" } else { "snmp" };
        let text = self.net(file);
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
        let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
        let place = names.split(' ').position(|other| other == name).unwrap_or_else(|| panic!("no {group} {name}"));
        values.split(' ').nth(place).expect("value").parse().expect("number")
    }

    pub fn tcp(&self, name: &str) -> u64 {
        self.counter("Tcp", name)
    }

    /// Local addresses of listening TCP sockets, as the kernel writes them.
    pub fn listening(&self) -> Vec<String> {
        let tables = [self.net("tcp"), self.net("tcp6")].concat();
        let rows = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.get(3) == Some(&"0A")).map(|row| row[1].to_owned()).collect()
    }

    /// Connection attempts that came to nothing, in any of the ways a scan's do.
    pub fn fruitless(&self) -> u64 {
        self.tcp("AttemptFails") + self.counter("TcpExt", "TCPSynRetrans") + self.counter("TcpExt", "TCPTimeouts")
    }

    /// Bytes on disk below its directory.
    pub fn disk(&self) -> u64 {
        size(&self.dir)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub received: u64,
    pub packets_in: u64,
    pub sent: u64,
    pub packets_out: u64,
}

fn is_named(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
}

/// v1: the numbers of lines such as `254:0 Write 4096`; v2: of fields such as `wbytes=4096`.
fn sum(text: &str) -> u64 {
    let v1 = text.lines().filter_map(|line| line.split_once(" Write ")).map(|(_, number)| number);
    let v2 = text.split_whitespace().filter_map(|field| field.strip_prefix("wbytes="));
    v1.chain(v2).map(|number| number.trim().parse::<u64>().expect("number")).sum()
}

fn size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    // Files come and go while they are counted.
    let one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}

/// Samples something for a while; more often than it changes.
pub async fn samples<T>(lasts: f64, mut sample: impl FnMut() -> T) -> Vec<T> {
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed().as_secs_f64() < lasts {
        samples.push(sample());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    samples
}
