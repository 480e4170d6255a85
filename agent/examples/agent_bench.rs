//! What the agent costs beside bare reads of the same files: `agent_bench [SECONDS] [CONTAINERS]`, as root on cgroup v1. Prints JSON.
//!
//! It makes containers, each with a live process in its own network namespace, a tenth of them busy, one more every second; runs the agent with TLS
//! and outbox against an acknowledging door in a third process; then reads the same files as often for as long: those of the containers, those of the
//! node, the list of processes, and once each those of the containers that live for less than a second.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{BufRead, Write},
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};
use vedette_agent::disk_io::counting_files;
use vedette_proto::v1::{
    Acknowledgement, StreamRequest, StreamResponse, Welcome,
    ingest_service_server::{IngestService, IngestServiceServer},
    stream_request, stream_response,
};

const CONTROLLERS: [&str; 5] = ["cpuacct", "cpu", "memory", "pids", "blkio"];
const FAST: [(&str, &str); 2] = [("cpuacct", "cpuacct.usage"), ("memory", "memory.usage_in_bytes")];
const SLOW: [(&str, &str); 7] = [
    ("cpuacct", "cpuacct.stat"),
    ("cpu", "cpu.stat"),
    ("memory", "memory.stat"),
    ("memory", "memory.failcnt"),
    ("memory", "memory.oom_control"),
    ("pids", "pids.current"),
    ("pids", "pids.events"),
];
const NET_SLOW: [&str; 6] = ["snmp", "raw", "raw6", "packet", "arp", "sockstat"];
const NET_RARE: [&str; 2] = ["netstat", "snmp6"];
/// Read of a new process once: whose it is and what it is called.
const NEW_PROCESS: [&str; 2] = ["cgroup", "status"];
const NODE_FAST: [&str; 4] = ["stat", "loadavg", "meminfo", "1/net/dev"];
const NODE_SLOW: [&str; 6] = [
    "pressure/cpu",
    "pressure/memory",
    "pressure/io",
    "diskstats",
    "sys/net/netfilter/nf_conntrack_count",
    "sys/net/netfilter/nf_conntrack_max",
];

fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("idle") => loop {
            std::thread::sleep(Duration::from_secs(3_600));
        },
        Some("busy") => busy(),
        Some("door") => door(Path::new(&arguments[1]), arguments[2].parse()?),
        Some("agent") => agent(Path::new(&arguments[1])),
        Some("preads") => preads(Path::new(&arguments[1]), arguments[2].parse()?),
        _ => measure(arguments.first().map_or(Ok(60), |text| text.parse())?, arguments.get(1).map_or(Ok(220), |text| text.parse())?),
    }
}

/// A twentieth of a CPU, in small portions.
fn busy() -> ! {
    loop {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(5) {}
        std::thread::sleep(Duration::from_millis(95));
    }
}

fn agent(config: &Path) -> anyhow::Result<()> {
    let config = vedette_agent::config::Config::load(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        Ok(vedette_agent::agent::run(config, async move {
            terminate.recv().await;
        })
        .await?)
    })
}

struct Door;

#[tonic::async_trait]
impl IngestService for Door {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let mut incoming = request.into_inner();
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(Ok(request)) = incoming.next().await {
                let message = match request.message {
                    Some(stream_request::Message::Hello(_)) => stream_response::Message::Welcome(Welcome::default()),
                    Some(stream_request::Message::Batch(batch)) => {
                        stream_response::Message::Acknowledgement(Acknowledgement { sequence: batch.sequence })
                    }
                    _ => continue,
                };
                if sender.send(Ok(StreamResponse { message: Some(message) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn door(folder: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    fs::write(folder.join("ca.crt"), made.cert.pem())?;
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity))?;
        Ok(server.add_service(IngestServiceServer::new(Door)).serve(address).await?)
    })
}

/// Reads the files listed (`<every> <path>` a line) at 1 Hz from open descriptors, and prints the CPU time in seconds. Whatever else a second brings
/// comes as a line of paths on the standard input: each is opened and read once.
fn preads(list: &Path, seconds: u64) -> anyhow::Result<()> {
    let text = fs::read_to_string(list)?;
    let files: Vec<(u64, File)> = text
        .lines()
        .filter_map(|line| {
            let (every, path) = line.split_once(' ')?;
            Some((every.parse().ok()?, File::open(path).ok()?))
        })
        .collect();
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let newcomers: &'static Mutex<Vec<String>> = Box::leak(Box::default());
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            newcomers.lock().unwrap().extend(line.split(' ').map(str::to_owned));
        }
    });
    let mut buffer = vec![0; 64 << 10];
    let mut listing = vec![std::mem::MaybeUninit::uninit(); 32 << 10];
    let (start, before) = (Instant::now(), cpu());
    for tick in 0..seconds {
        for (place, (every, file)) in files.iter().enumerate() {
            // Spread over the ticks as the agent does.
            if (tick + place as u64).is_multiple_of(*every) {
                let _ = file.read_at(&mut buffer, 0);
            }
        }
        let processes = rustix::fs::openat(rustix::fs::CWD, "/proc", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
        let mut processes = rustix::fs::RawDir::new(processes, &mut listing);
        while processes.next().is_some() {}
        for path in std::mem::take(&mut *newcomers.lock().unwrap()) {
            if let Ok(file) = File::open(path) {
                let _ = file.read_at(&mut buffer, 0);
            }
        }
        std::thread::sleep((start + Duration::from_secs(tick + 1)).saturating_duration_since(Instant::now()));
    }
    println!("{}", (cpu() - before) / start.elapsed().as_secs_f64());
    Ok(())
}

/// Everything that was made, removed at the end also after a failure.
struct Lab {
    name: String,
    children: Vec<Child>,
}

impl Lab {
    fn places(&self, path: &str) -> Vec<PathBuf> {
        CONTROLLERS.iter().map(|controller| Path::new("/sys/fs/cgroup").join(controller).join(&self.name).join(path)).collect()
    }

    fn spawn(&self, path: &str, namespace: bool, command: &str) -> anyhow::Result<Child> {
        let mut script = String::new();
        for place in self.places(path) {
            fs::create_dir_all(&place)?;
            script.push_str(&format!("echo $$ > {}/cgroup.procs\n", place.display()));
        }
        script.push_str(command);
        let mut run = Command::new(if namespace { "unshare" } else { "sh" });
        if namespace {
            run.args(["--net", "sh"]);
        }
        Ok(run.args(["-c", &script]).stdout(Stdio::piped()).spawn()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for place in self.places("") {
            let _ = Command::new("find").arg(place).args(["-depth", "-type", "d", "-delete"]).stderr(Stdio::null()).status();
        }
    }
}

fn container(place: usize) -> String {
    format!("kubepods/burstable/pod{place:08x}-347b-4575-a8b3-010c05abc66b/{place:064x}")
}

fn measure(seconds: u64, containers: usize) -> anyhow::Result<()> {
    let me = std::env::current_exe()?.display().to_string();
    let folder = tempfile::tempdir()?;
    let dir = folder.path().display().to_string();
    let mut lab = Lab { name: format!("vedette-bench-{}", std::process::id()), children: Vec::new() };
    let link = "ip link set lo up; ip link add eth0 type veth peer name far; ip link set eth0 up;";
    for place in 0..containers {
        let work = if place % 10 == 0 { "busy" } else { "idle" };
        let child = lab.spawn(&container(place), true, &format!("{link} exec {me} {work}"))?;
        lab.children.push(child);
    }
    let door = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    lab.children.push(Command::new(&me).args(["door", &dir, &door.to_string()]).spawn()?);
    let config = format!(
        "node = \"bench\"\n[sensor]\ncgroup_subtree = \"{}/kubepods\"\n[outbox]\ndir = \"{dir}/spool\"\n[uplink]\nendpoint = \"https://{door}\"\n\
         ca_file = \"{dir}/ca.crt\"\ntoken_file = \"\"\n[http]\nlisten = \"127.0.0.1:0\"\n",
        lab.name
    );
    fs::write(folder.path().join("agent.toml"), config)?;
    // Wait for the door's certificate and for the last container's own process.
    while !folder.path().join("ca.crt").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(3));

    let churning = AtomicBool::new(true);
    let peer: Mutex<Option<ChildStdin>> = Mutex::new(None);
    let (lab_ref, churn, peer) = (&lab, &churning, &peer);
    let (agent_cpu, resident, charged, bare) = std::thread::scope(|scope| -> anyhow::Result<_> {
        scope.spawn(move || {
            let mut place = 1_000_000;
            while churn.load(Ordering::Relaxed) {
                place += 1;
                let started = Instant::now();
                if let Ok(mut child) = lab_ref.spawn(&container(place), true, "exec sleep 0.6") {
                    if let Some(peer) = peer.lock().unwrap().as_mut() {
                        let _ = writeln!(peer, "{}", of_newcomer(lab_ref, place, child.id()).join(" "));
                    }
                    let _ = child.wait();
                }
                lab_ref.places(&container(place)).iter().for_each(|path| {
                    let _ = fs::remove_dir(path);
                    let _ = path.parent().map(fs::remove_dir);
                });
                std::thread::sleep((started + Duration::from_secs(1)).saturating_duration_since(Instant::now()));
            }
        });
        let measured = (|| -> anyhow::Result<_> {
            let mut agent = lab.spawn("agent", false, &format!("exec {me} agent {dir}/agent.toml"))?;
            // The start reads everything once; it is not what is measured.
            std::thread::sleep(Duration::from_secs(12));
            let cgroup = lab.places("agent");
            let number = |path: PathBuf| -> anyhow::Result<f64> { Ok(fs::read_to_string(path)?.trim().parse()?) };
            let before = number(cgroup[0].join("cpuacct.usage"))?;
            let started = Instant::now();
            std::thread::sleep(Duration::from_secs(seconds));
            let cpu = (number(cgroup[0].join("cpuacct.usage"))? - before) / 1e9 / started.elapsed().as_secs_f64();
            let status = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
            let charged = number(cgroup[2].join("memory.usage_in_bytes"))?;
            agent.kill()?;
            agent.wait()?;
            write_list(&lab, containers, &folder.path().join("files"))?;
            let mut preads = Command::new(&me);
            preads.args(["preads", &format!("{dir}/files"), &seconds.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut preads = preads.spawn()?;
            *peer.lock().unwrap() = preads.stdin.take();
            let output = preads.wait_with_output()?;
            *peer.lock().unwrap() = None;
            let bare: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
            Ok((cpu, resident.unwrap_or(0.0) / 1_024.0, charged / 1_048_576.0, bare))
        })();
        churning.store(false, Ordering::Relaxed);
        measured
    })?;
    lab.children.reverse();
    drop(lab);
    let entry = |name: &str, value: f64, unit: &str, budget: f64, peer: &str, peer_value: f64| {
        let ratio = if peer_value > 0.0 { value / peer_value } else { f64::NAN };
        serde_json::json!({"name": name, "value": value, "unit": unit, "better": "lower", "budget": budget, "peer": (!peer.is_empty()).then_some(peer),
            "peer_value": (peer_value > 0.0).then_some(peer_value), "ratio": ratio.is_finite().then_some(ratio)})
    };
    let entries = [
        entry("agent_cpu", agent_cpu * 1e3, "millicores", 2.0 * bare * 1e3, "bare preads of the same files", bare * 1e3),
        entry("agent_rss", resident, "MiB", 20.0, "", 0.0),
        entry("agent_cgroup_memory", charged, "MiB", 48.0, "", 0.0),
    ];
    let mut out = std::io::stdout();
    writeln!(out, "{}", serde_json::to_string_pretty(&entries)?)?;
    Ok(())
}

/// The files that the agent reads of one container, each with how often.
fn of_container(lab: &Lab, place: usize, pid: u32) -> Vec<(u32, String)> {
    let cgroup = |(controller, file): &(&str, &str)| format!("/sys/fs/cgroup/{controller}/{}/{}/{file}", lab.name, container(place));
    let net = |file: &&str| format!("/proc/{pid}/net/{file}");
    let mut files = vec![(1, net(&"dev")), (5, format!("/proc/{pid}/stat"))];
    files.extend(FAST.iter().map(|file| (1, cgroup(file))));
    files.extend(SLOW.iter().map(|file| (5, cgroup(file))));
    let disk_io = counting_files(Path::new("/proc"), Path::new("/sys/fs/cgroup/blkio"));
    files.extend(disk_io.iter().flatten().map(|file| (5, cgroup(&("blkio", *file)))));
    files.extend(NET_SLOW.iter().map(|file| (5, net(file))));
    files.extend(NET_RARE.iter().map(|file| (10, net(file))));
    files
}

/// The files that the agent reads of a container in the second in which it came.
fn of_newcomer(lab: &Lab, place: usize, pid: u32) -> Vec<String> {
    let process = NEW_PROCESS.iter().map(|file| format!("/proc/{pid}/{file}"));
    of_container(lab, place, pid).into_iter().map(|(_, path)| path).chain(process).collect()
}

/// The files that the agent reads of what is there all the time, each with how often.
fn write_list(lab: &Lab, containers: usize, list: &Path) -> anyhow::Result<()> {
    let of_containers = (0..containers).flat_map(|place| of_container(lab, place, lab.children[place].id()));
    let node = NODE_FAST.iter().map(|file| (1, file)).chain(NODE_SLOW.iter().map(|file| (5, file)));
    let of_node = node.map(|(every, file)| (every, format!("/proc/{file}")));
    let text: String = of_containers.chain(of_node).map(|(every, path)| format!("{every} {path}\n")).collect();
    fs::write(list, text)?;
    Ok(())
}
