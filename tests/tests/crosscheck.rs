//! The cross-check with a real Prometheus: a captured node whose counters move, its kubelet's page with one fault for each container; and this
//! machine's own node_exporter.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use vedette_tests::{
    agent::{self, Agent},
    aggregator::Aggregator,
    checkout, cli, prerequisite,
    process::{self, Process},
};

const PROMETHEUS: &str = "/usr/bin/prometheus";
const NODE_EXPORTER: &str = "/usr/bin/prometheus-node-exporter";
/// Three scrapes of ten seconds, clocks half a minute apart, and a busy machine.
const LIMIT: Duration = Duration::from_secs(400);
/// cAdvisor looks at a container so often, and says when it did.
const HOUSEKEEPING_MS: i64 = 5_000;

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// What goes wrong with one container's rows of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    LabelsLost,
    Up,
    Down,
    Late30Seconds,
    Gap,
    Stale,
}

const FAULTS: [Fault; 7] = [Fault::None, Fault::LabelsLost, Fault::Up, Fault::Down, Fault::Late30Seconds, Fault::Gap, Fault::Stale];

impl Fault {
    /// Outcome and cause that it must come to.
    fn expected(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::None => ("agree", None),
            Self::LabelsLost => ("source_broken", Some("labels_lost")),
            Self::Up | Self::Down => ("disagree", None),
            Self::Late30Seconds => ("source_broken", Some("clock")),
            Self::Gap => ("source_broken", Some("scrape_gap")),
            Self::Stale => ("source_broken", Some("stale")),
        }
    }
}

/// A captured node in motion: its containers use CPU, and its kubelet's page says so, more or less.
struct Captured {
    root: tempfile::TempDir,
    started_ms: i64,
    /// Container ids and their faults.
    faults: BTreeMap<String, Fault>,
    page: String,
    stop: Arc<AtomicBool>,
}

/// CPU seconds that a container has used: a load that changes every few seconds, and another for each.
fn used(id: &str, started_ms: i64, unix_ms: i64) -> f64 {
    let of_id = u64::from_str_radix(&id[..8], 16).unwrap();
    let second = |second: i64| 0.05 + 0.9 * ((second as u64 / 9 + of_id).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as f64 / 65_536.0;
    let at = unix_ms - started_ms + 600_000;
    let whole = at / 1_000;
    (0..whole).map(second).sum::<f64>() + second(whole) * (at % 1_000) as f64 / 1e3
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let start = line.find(&format!("{name}=\""))? + name.len() + 2;
    line[start..].split('"').next()
}

impl Captured {
    /// `None` where there is no capture, said loudly.
    fn new(name: &str) -> Option<Self> {
        let fixtures = std::env::var("VEDETTE_FIXTURES").map_or_else(|_| checkout::root().join("../shared/fixtures"), PathBuf::from);
        let capture = fixtures.join(name);
        if !prerequisite::file(&capture, "captures of real nodes") {
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        for part in ["proc", "sys"] {
            copy(&capture.join(part), &root.path().join(part));
        }
        let page = fs::read_to_string(capture.join("kubelet-metrics-cadvisor.txt")).unwrap();
        // Containers of the page with a name of their own; of a pause container it is empty.
        let rows = page.lines().filter(|line| line.starts_with("container_cpu_usage_seconds_total{"));
        let ids: BTreeSet<&str> = rows
            .filter(|line| label(line, "container") != Some(""))
            .filter_map(|line| label(line, "name"))
            .filter(|id| id.len() == 64)
            .collect();
        assert!(ids.len() >= FAULTS.len(), "{ids:?}");
        let faults = ids.into_iter().zip(FAULTS.into_iter().chain(std::iter::repeat(Fault::None)));
        let faults = faults.map(|(id, fault)| (id.to_owned(), fault)).collect();
        Some(Self { root, started_ms: unix_ms(), faults, page, stop: Arc::default() })
    }

    /// The files that count a container's CPU, by container id.
    fn counters(&self) -> Vec<(String, File, bool)> {
        fn find(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    find(&entry.path(), found);
                } else if ["cpuacct.usage", "cpu.stat"].contains(&entry.file_name().to_str().unwrap_or_default()) {
                    found.push(entry.path());
                }
            }
        }
        let mut paths = Vec::new();
        find(&self.root.path().join("sys/fs/cgroup"), &mut paths);
        let unified = self.root.path().join("sys/fs/cgroup/cgroup.controllers").exists();
        let mut counters = Vec::new();
        for path in paths {
            let of = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            let is_counter = path.ends_with(if unified { "cpu.stat" } else { "cpuacct.usage" });
            if let Some(id) = self.faults.keys().find(|id| of.contains(id.as_str())).filter(|_| is_counter) {
                // Of one length from now on: it is read while it is written.
                let file = File::options().write(true).open(&path).unwrap();
                file.set_len(0).unwrap();
                counters.push((id.clone(), file, unified));
            }
        }
        assert!(counters.len() >= self.faults.len(), "{} counters of {}", counters.len(), self.faults.len());
        counters
    }

    /// Lets the counters run.
    fn run(&self) -> thread::JoinHandle<()> {
        let (counters, started_ms, stop) = (self.counters(), self.started_ms, Arc::clone(&self.stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                for (id, file, unified) in &counters {
                    let seconds = used(id, started_ms, unix_ms());
                    let text = match unified {
                        true => format!("usage_usec {:020}\nuser_usec 00\nsystem_usec 00\n", (seconds * 1e6) as u64),
                        false => format!("{:020}\n", (seconds * 1e9) as u64),
                    };
                    file.write_all_at(text.as_bytes(), 0).unwrap();
                }
                thread::sleep(Duration::from_millis(50));
            }
        })
    }

    /// The kubelet's page at an instant: the captured rows with new values and times, each container's as old as its last look.
    fn page(&self, now_ms: i64) -> String {
        let mut text = String::new();
        for line in self.page.lines() {
            if line.starts_with('#') {
                let _ = writeln!(text, "{line}");
                continue;
            }
            let Some((series, rest)) = line.rsplit_once("} ").map(|(series, rest)| (format!("{series}}}"), rest)) else { continue };
            let value: f64 = rest.split(' ').next().unwrap().parse().unwrap();
            let fault = label(line, "name").and_then(|id| Some((id, *self.faults.get(id)?)));
            let Some((id, fault)) = fault.filter(|_| line.starts_with("container_cpu_usage_seconds_total{")) else {
                // Pods, pause containers, slices and all the other metrics: as they were, looked at a moment ago.
                let _ = writeln!(text, "{series} {value} {}", now_ms / HOUSEKEEPING_MS * HOUSEKEEPING_MS);
                continue;
            };
            let offset = i64::from(u32::from_str_radix(&id[8..12], 16).unwrap()) % HOUSEKEEPING_MS;
            let mut looked_ms = (now_ms - offset) / HOUSEKEEPING_MS * HOUSEKEEPING_MS + offset;
            let age_ms = now_ms - self.started_ms;
            let series = match fault {
                Fault::LabelsLost => series.replace(id, "").replace("/kubepods", ""),
                Fault::Gap if (40_000..80_000).contains(&age_ms) => continue,
                Fault::Stale => {
                    looked_ms = looked_ms.min(self.started_ms + 60_000);
                    series
                }
                _ => series,
            };
            let at = |unix_ms: i64| used(id, self.started_ms, unix_ms);
            let seconds = match fault {
                Fault::Up => at(looked_ms) * 1.6,
                Fault::Down => at(looked_ms) * 0.5,
                Fault::Late30Seconds => at(looked_ms - 30_000),
                _ => at(looked_ms),
            };
            let _ = writeln!(text, "{series} {seconds} {looked_ms}");
        }
        text
    }

    /// Serves the page until `closed`.
    fn serve(self: &Arc<Self>, closed: &Arc<AtomicBool>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (captured, closed) = (Arc::clone(self), Arc::clone(closed));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                if closed.load(Ordering::Acquire) {
                    return;
                }
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request);
                let page = captured.page(unix_ms());
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{page}", page.len());
            }
        });
        address
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// A real Prometheus that scrapes what `jobs` says.
fn prometheus(folder: &Path, jobs: &str) -> (Process, u16) {
    let port = process::free_port().unwrap();
    fs::write(folder.join("prometheus.yml"), format!("global: {{scrape_interval: 10s, scrape_timeout: 5s}}\nscrape_configs:\n{jobs}"))
        .unwrap();
    let arguments = [
        format!("--config.file={}", folder.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.join("tsdb").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let mut prometheus = Process::start_program(Path::new(PROMETHEUS), arguments, folder).unwrap();
    let ready = || matches!(process::get(SocketAddr::from(([127, 0, 0, 1], port)), "/-/ready"), Ok((200, _)));
    prometheus.wait_for("Prometheus is ready", LIMIT, ready).unwrap();
    (prometheus, port)
}

fn start_agent(folder: &Path, aggregator: &Aggregator, node: &str, root: &Path, port: u16) -> Agent {
    let setup = agent::Setup {
        node: node.to_owned(),
        spool: folder.join("spool"),
        aggregator: aggregator.grpc,
        ca_file: aggregator.ca_file(),
        token_file: aggregator.agent_token_file(),
        more: format!("[prometheus]\nurl = \"http://127.0.0.1:{port}\"\ninterval_s = 5\n"),
    };
    let http = agent::configure(folder, &setup).unwrap();
    let path = folder.join("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("interval_ms = 100\n", &format!("interval_ms = 1000\nroot = {:?}\n", root.display().to_string())))
        .unwrap();
    Agent::start_configured(folder, http).unwrap()
}

fn crosscheck(aggregator: &Aggregator, more: &[&str]) -> Vec<Value> {
    let output = cli::run(aggregator, [&["crosscheck", "-o", "json"], more].concat()).unwrap();
    if output.stdout.is_empty() { Vec::new() } else { serde_json::from_slice(&output.stdout).unwrap() }
}

/// Waits until what comparisons come to is as expected.
fn wait_until(agent: &mut Agent, aggregator: &Aggregator, what: &str, mut done: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    let waited = agent.process.wait_for(what, LIMIT, || {
        thread::sleep(Duration::from_secs(1));
        last = crosscheck(aggregator, &[]);
        done(&last)
    });
    if let Err(error) = waited {
        let short =
            |one: &Value| format!("{} {} {} {} {}", one["container_id"], one["metric"], one["outcome"], one["cause"], one["late_ms"]);
        panic!("{error:#}\n{}", last.iter().map(short).collect::<Vec<_>>().join("\n"));
    }
    last
}

fn every_fault_is_told_apart(capture: &str) {
    if !prerequisite::file(Path::new(PROMETHEUS), "make prepare") {
        return;
    }
    let Some(captured) = Captured::new(capture) else { return };
    let captured = Arc::new(captured);
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let counters = captured.run();
    let closed = Arc::new(AtomicBool::new(false));
    let page = captured.serve(&closed);
    let job = format!(
        "- job_name: kubelet\n  metrics_path: /metrics/cadvisor\n  static_configs: [{{targets: ['{page}'], labels: {{node: captured}}}}]\n  \
         relabel_configs: [{{source_labels: [__metrics_path__], target_label: metrics_path}}]\n"
    );
    let (_prometheus, port) = prometheus(folder.path(), &job);
    let mut agent = start_agent(folder.path(), &aggregator, "captured", captured.root.path(), port);

    let cpu = |all: &[Value]| -> BTreeMap<String, (String, Option<String>)> {
        let of = all.iter().filter(|one| one["metric"] == "cpu");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        of.filter_map(|one| Some((text(&one["container_id"])?, (text(&one["outcome"])?, text(&one["cause"]))))).collect()
    };
    let expected: BTreeMap<String, (String, Option<String>)> = captured
        .faults
        .iter()
        .map(|(id, fault)| (id.clone(), (fault.expected().0.to_owned(), fault.expected().1.map(str::to_owned))))
        .collect();
    let told = wait_until(&mut agent, &aggregator, "every fault is told apart", |all| {
        let cpu = cpu(all);
        expected.iter().all(|(id, expected)| cpu.get(id) == Some(expected))
    });

    let of = |fault: Fault| {
        let id = captured.faults.iter().find(|(_, one)| **one == fault).unwrap().0;
        told.iter().find(|one| one["container_id"] == id.as_str() && one["metric"] == "cpu").unwrap()
    };
    let values = |fault| (of(fault)["ours"].as_f64().unwrap(), of(fault)["theirs"].as_f64().unwrap());
    let (ours, theirs) = values(Fault::Up);
    assert!(theirs > 1.4 * ours && theirs < 1.8 * ours, "{ours} {theirs}");
    let (ours, theirs) = values(Fault::Down);
    assert!(theirs > 0.4 * ours && theirs < 0.6 * ours, "{ours} {theirs}");
    let late = of(Fault::Late30Seconds)["late_ms"].as_i64().unwrap();
    assert!((27_000..=33_000).contains(&late), "{late}");
    // What disagrees comes first, and memory, which nobody touched, agrees.
    assert_eq!(told[0]["outcome"], "disagree");
    let memory: Vec<_> = told.iter().filter(|one| one["metric"] == "working_set" && one["outcome"] == "agree").collect();
    assert!(memory.len() >= captured.faults.len() - 1, "{memory:?}");
    assert_eq!(crosscheck(&aggregator, &["--outcome", "disagree"]).len(), told.iter().filter(|one| one["outcome"] == "disagree").count());

    // Its target down, nothing of it can be relied on.
    closed.store(true, Ordering::Release);
    wait_until(&mut agent, &aggregator, "the target is missing", |all| {
        let cpu = cpu(all);
        expected.keys().all(|id| cpu.get(id) == Some(&("source_broken".to_owned(), Some("target_missing".to_owned()))))
    });
    let text = process::get(agent.http, "/metrics").unwrap().1;
    let missing = "vedette_agent_cross_checks{metric=\"cpu\",outcome=\"source_broken\"}";
    let line = text.lines().find(|line| line.starts_with(missing)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.rsplit(' ').next().unwrap().parse::<usize>().unwrap() >= expected.len(), "{line}");
    captured.stop.store(true, Ordering::Release);
    counters.join().unwrap();
}

#[test]
fn every_fault_is_told_apart_on_cgroup_v1() {
    every_fault_is_told_apart("kubernetes-1.21-cgroup-v1");
}

#[test]
fn every_fault_is_told_apart_on_cgroup_v2() {
    every_fault_is_told_apart("kubernetes-1.21-cgroup-v2-systemd");
}

#[tokio::test]
async fn this_node_agrees_with_its_node_exporter_and_without_prometheus_nothing_is_known() {
    if !prerequisite::file(Path::new(PROMETHEUS), "make prepare") || !prerequisite::file(Path::new(NODE_EXPORTER), "make prepare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let exporter_port = process::free_port().unwrap();
    let arguments = [format!("--web.listen-address=127.0.0.1:{exporter_port}")];
    let mut exporter = Process::start_program(Path::new(NODE_EXPORTER), arguments, folder.path()).unwrap();
    let answers = || matches!(process::get(SocketAddr::from(([127, 0, 0, 1], exporter_port)), "/metrics"), Ok((200, _)));
    exporter.wait_for("node_exporter answers", LIMIT, answers).unwrap();
    let job = format!("- job_name: node-exporter\n  static_configs: [{{targets: ['127.0.0.1:{exporter_port}']}}]\n");
    let (prometheus, port) = prometheus(folder.path(), &job);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();
    let mut agent = start_agent(folder.path(), &aggregator, &host, Path::new("/"), port);
    let of_node = |all: &[Value], outcome: &str| {
        all.iter()
            .filter(|one| one["owner_kind"] == "Node" && one["outcome"] == outcome)
            .filter_map(|one| one["metric"].as_str().map(str::to_owned))
            .collect()
    };

    let metrics = ["node_cpu", "node_memory_available", "node_net_rx", "node_net_tx"];
    wait_until(&mut agent, &aggregator, "the node agrees", |all| {
        let agree: BTreeSet<String> = of_node(all, "agree");
        metrics[..2].iter().all(|metric| agree.contains(*metric))
    });
    let changes = "SELECT count(*) FROM cross_checks WHERE owner_kind = 'Node' AND metric = 'node_cpu' AND outcome = 'agree'";
    assert!(aggregator.number(changes).await.unwrap() >= 1);

    let ticks = agent.metric("vedette_agent_ticks_total").unwrap().unwrap();
    drop(prometheus);
    agent
        .process
        .wait_for("Prometheus is missed", LIMIT, || {
            process::get(agent.http, "/metrics").is_ok_and(|(_, text)| {
                agent::value(&text, "vedette_agent_cross_check_failures_total").is_some_and(|failures| failures >= 1.0)
            })
        })
        .unwrap();
    // Sampling goes on.
    assert!(agent.metric("vedette_agent_ticks_total").unwrap().unwrap() > ticks);
}
