//! A captured node in motion, and its kubelet's page with one fault for each container and for each way of a pod's network.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use vedette_tests::{checkout, prerequisite};

use super::pods::{self, CapturedPod, Interfaces};

/// cAdvisor looks at a container so often, and says when it did.
const HOUSEKEEPING_MS: i64 = 5_000;

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// What goes wrong with a counter's rows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    LabelsLost,
    Up,
    Down,
    Late30Seconds,
    Gap,
    Stale,
}

pub(super) const FAULTS: [Fault; 7] =
    [Fault::None, Fault::LabelsLost, Fault::Up, Fault::Down, Fault::Late30Seconds, Fault::Gap, Fault::Stale];

impl Fault {
    /// Outcome and cause that it must come to.
    pub(super) fn expected(self) -> (&'static str, Option<&'static str>) {
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

/// What was counted by an instant.
type Count = Box<dyn Fn(i64) -> f64>;

/// A captured node in motion: its containers use CPU, its pods receive and send, and the pages say so, more or less.
pub(super) struct Captured {
    pub(super) root: tempfile::TempDir,
    started_ms: i64,
    /// Container ids and their faults.
    pub(super) faults: BTreeMap<String, Fault>,
    pub(super) pods: Vec<CapturedPod>,
    page: String,
    pub(super) stop: Arc<AtomicBool>,
}

/// CPU seconds that a container has used: a load that changes every few seconds, and another for each.
pub(super) fn used(id: &str, started_ms: i64, unix_ms: i64) -> f64 {
    let of_id = u64::from_str_radix(&id[..8], 16).unwrap();
    let second = |second: i64| 0.05 + 0.9 * ((second as u64 / 9 + of_id).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as f64 / 65_536.0;
    let at = unix_ms - started_ms + 600_000;
    let whole = at / 1_000;
    (0..whole).map(second).sum::<f64>() + second(whole) * (at % 1_000) as f64 / 1e3
}

pub(super) fn label<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let start = line.find(&format!("{name}=\""))? + name.len() + 2;
    line[start..].split('"').next()
}

/// A row whose labels no longer say whose it is.
fn without_identity(series: &str) -> String {
    let [path, id] = ["id", "name"].map(|name| label(series, name).unwrap_or_default().to_owned());
    series.replace(&format!("id=\"{path}\""), "id=\"\"").replace(&format!("name=\"{id}\""), "name=\"\"")
}

impl Captured {
    /// `None` where there is no capture, said loudly.
    pub(super) fn new(name: &str) -> Option<Self> {
        let fixtures = std::env::var("VEDETTE_FIXTURES").map_or_else(|_| checkout::root().join("../shared/fixtures"), PathBuf::from);
        let capture = fixtures.join(name);
        if !prerequisite::file(&capture, "captures of real nodes") {
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-r").args([capture.join("proc"), capture.join("sys")]).arg(root.path()).status().unwrap();
        assert!(copied.success(), "cp of {}: {copied}", capture.display());
        let page = fs::read_to_string(capture.join("kubelet-metrics-cadvisor.txt")).unwrap();
        // Containers of the page with a name of their own; of a pause container it is empty.
        let rows = page.lines().filter(|line| line.starts_with("container_cpu_usage_seconds_total{"));
        let ids: BTreeSet<&str> = rows
            .filter(|line| label(line, "container") != Some(""))
            .filter_map(|line| label(line, "name"))
            .filter(|id| id.len() == 64)
            .collect();
        assert!(ids.len() >= FAULTS.len(), "{ids:?}");
        let pods = pods::of_page(&page, ids.iter().copied());
        assert!(pods.iter().filter(|pod| pod.network.is_some()).count() >= 5 && pods.len() >= 6, "too few pods for all faults");
        let faults = ids.into_iter().zip(FAULTS.into_iter().chain(std::iter::repeat(Fault::None)));
        let faults = faults.map(|(id, fault)| (id.to_owned(), fault)).collect();
        Some(Self { root, started_ms: unix_ms(), faults, pods, page, stop: Arc::default() })
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
    pub(super) fn run(&self) -> thread::JoinHandle<()> {
        let (counters, started_ms, stop) = (self.counters(), self.started_ms, Arc::clone(&self.stop));
        let interfaces = Interfaces::of(&self.pods, &self.root.path().join("proc"));
        interfaces.iter().for_each(|one| one.write(started_ms, unix_ms()));
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
                interfaces.iter().for_each(|one| one.write(started_ms, unix_ms()));
                thread::sleep(Duration::from_millis(50));
            }
        })
    }

    /// Whose counter a row is that moves: the container or pod, what goes wrong with it, and what it counted by an instant.
    fn counted(&self, line: &str) -> Option<(String, Fault, Count)> {
        let started_ms = self.started_ms;
        if line.starts_with("container_cpu_usage_seconds_total{") {
            let id = label(line, "name")?.to_owned();
            let fault = *self.faults.get(&id)?;
            let of = id.clone();
            return Some((id, fault, Box::new(move |unix_ms| used(&of, started_ms, unix_ms))));
        }
        let (metric, _) = line.split_once('{')?;
        let way =
            ["container_network_receive_bytes_total", "container_network_transmit_bytes_total"].iter().position(|one| *one == metric)?;
        let uid = pods::uid_of(label(line, "id")?).filter(|_| label(line, "interface") == Some("eth0"))?;
        let fault = self.pods.iter().find(|pod| pod.uid == uid)?.network?[way];
        let of = uid.clone();
        Some((uid, fault, Box::new(move |unix_ms| pods::bytes(&of, way == 1, started_ms, unix_ms))))
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
            let Some((of, fault, counted)) = self.counted(line) else {
                // Pods, pause containers, slices and all the other metrics: as they were, looked at a moment ago.
                let _ = writeln!(text, "{series} {value} {}", now_ms / HOUSEKEEPING_MS * HOUSEKEEPING_MS);
                continue;
            };
            let offset = i64::from(u32::from_str_radix(&of[9..13], 16).unwrap()) % HOUSEKEEPING_MS;
            let mut looked_ms = (now_ms - offset) / HOUSEKEEPING_MS * HOUSEKEEPING_MS + offset;
            let age_ms = now_ms - self.started_ms;
            let series = match fault {
                Fault::LabelsLost => without_identity(&series),
                Fault::Gap if (40_000..80_000).contains(&age_ms) => continue,
                Fault::Stale => {
                    looked_ms = looked_ms.min(self.started_ms + 60_000);
                    series
                }
                _ => series,
            };
            let count = match fault {
                Fault::Up => counted(looked_ms) * 1.6,
                Fault::Down => counted(looked_ms) * 0.5,
                Fault::Late30Seconds => counted(looked_ms - 30_000),
                _ => counted(looked_ms),
            };
            let _ = writeln!(text, "{series} {count} {looked_ms}");
        }
        text
    }

    /// Serves the kubelet's page, and kube-state-metrics' under `/metrics`, until `closed`.
    pub(super) fn serve(self: &Arc<Self>, closed: &Arc<AtomicBool>) -> SocketAddr {
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
                let page = match request.starts_with(b"GET /metrics ") {
                    true => pods::restarts_page(&captured.pods, captured.started_ms, unix_ms()),
                    false => captured.page(unix_ms()),
                };
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
