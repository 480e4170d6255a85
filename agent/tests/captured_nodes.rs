//! The sensor over two captured Kubernetes nodes: which containers it finds, and that its columns are what the files say.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde_json::Value;
use vedette_agent::{config::SensorConfig, metrics::Metrics, sensor::Sensor};
use vedette_proto::{
    Block, Column, Observation,
    v1::{Batch, ContainerAdded},
};

struct Node {
    root: tempfile::TempDir,
    capture: PathBuf,
}

/// Copies a captured node, so that its counters can be moved. `None` where there is no capture, said loudly.
fn node(name: &str) -> Option<Node> {
    let fixtures =
        std::env::var("VEDETTE_FIXTURES").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures").to_owned());
    let capture = Path::new(&fixtures).join(name);
    if !capture.is_dir() {
        eprintln!("SKIPPED: fixtures not found at {}", capture.display());
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    for part in ["proc", "sys"] {
        copy(&capture.join(part), &root.path().join(part));
    }
    link_namespaces(&root.path().join("proc"));
    Some(Node { root, capture })
}

/// Names of the interfaces in a `net/dev`.
fn interfaces(dev: &str) -> Vec<&str> {
    dev.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect()
}

/// Makes the processes of one network namespace share one `net/dev`, as they do in the kernel's own tree; those on the host's share that.
fn link_namespaces(proc: &Path) {
    let host = proc.join("net/dev");
    let of_host = fs::read_to_string(&host).unwrap();
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for process in fs::read_dir(proc).unwrap().map(|entry| entry.unwrap().path()) {
        let (Ok(namespace), Ok(dev)) = (fs::read_to_string(process.join("ns/net")), fs::read_to_string(process.join("net/dev"))) else {
            continue;
        };
        let own = process.join("net/dev");
        let shared = if interfaces(&dev) == interfaces(&of_host) { &host } else { seen.entry(namespace).or_insert_with(|| own.clone()) };
        if *shared != own {
            fs::remove_file(&own).unwrap();
            fs::hard_link(shared, &own).unwrap();
        }
    }
    assert!(seen.len() >= 7, "{seen:?}");
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

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Pod uid and container id of everything that the kubelet says is running.
fn running(capture: &Path) -> BTreeMap<String, (String, String)> {
    let pods = json(&capture.join("kubelet-pods.json"));
    let mut found = BTreeMap::new();
    for pod in pods["items"].as_array().unwrap() {
        for list in ["containerStatuses", "initContainerStatuses"] {
            for status in pod["status"][list].as_array().into_iter().flatten().filter(|status| status["state"]["running"].is_object()) {
                let id = status["containerID"].as_str().unwrap().rsplit('/').next().unwrap();
                let pod_name = pod["metadata"]["name"].as_str().unwrap();
                found.insert(id.to_owned(), (pod["metadata"]["uid"].as_str().unwrap().to_owned(), pod_name.to_owned()));
            }
        }
    }
    found
}

fn sensor(root: &Path) -> Sensor {
    let config = SensorConfig { root: root.to_owned(), ..SensorConfig::default() };
    let clock = std::sync::atomic::AtomicU64::new(1_000_000);
    // Every reading of the clock is a millisecond later: intervals are there without waiting.
    let clock = Box::new(move || clock.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed));
    Sensor::start(config, Metrics::default(), clock, 0, Vec::new(), 1).unwrap()
}

fn rows(batch: &Batch) -> BTreeMap<u32, Observation> {
    let block = Block::decode(batch.block.as_ref().unwrap(), 100).unwrap();
    block.container_refs.into_iter().zip(block.rows).collect()
}

/// Everything announced in the first three ticks, and the rows of the tick after, in which all tiers are read.
fn watch(node: &Node, between: impl FnOnce(&Path, &[ContainerAdded])) -> (Vec<ContainerAdded>, BTreeMap<u32, Observation>) {
    let mut sensor = sensor(node.root.path());
    let mut added = Vec::new();
    for tick in 0..3 {
        added.extend(sensor.tick(tick * 1_000).unwrap().added);
    }
    between(node.root.path(), &added);
    let mut all: BTreeMap<u32, Observation> = BTreeMap::new();
    // Within ten ticks every tier of every pod has its turn.
    for tick in 3..13 {
        for (reference, row) in rows(&sensor.tick(tick * 1_000).unwrap()) {
            let merged = all.entry(reference).or_default();
            for (column, value) in row.iter() {
                let value = match column.reading() {
                    vedette_proto::Reading::Delta => merged.get(column).unwrap_or(0) + value,
                    vedette_proto::Reading::Gauge => value,
                };
                merged.set(column, value);
            }
        }
    }
    (added, all)
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn key(path: &Path, key: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

fn check(name: &str, version_2: bool) {
    let Some(node) = node(name) else { return };
    let running = running(&node.capture);
    let base = |root: &Path, controller: &str, path: &str| {
        let base = root.join("sys/fs/cgroup");
        if version_2 { base.join(path) } else { base.join(controller).join(path) }
    };

    let (added, rows) = watch(&node, |root, added| {
        // Every container uses 5 ms of CPU, every pod's eth0 receives 1,000 bytes and opens 7 connections.
        for added in added {
            let file = base(root, "cpuacct", &added.cgroup).join(if version_2 { "cpu.stat" } else { "cpuacct.usage" });
            let text = fs::read_to_string(&file).unwrap();
            let moved = if version_2 {
                let usage = key(&file, "usage_usec").unwrap();
                text.replacen(&format!("usage_usec {usage}"), &format!("usage_usec {}", usage + 5_000), 1)
            } else {
                format!("{}\n", text.trim().parse::<u64>().unwrap() + 5_000_000)
            };
            fs::write(&file, moved).unwrap();
        }
        let mut moved: BTreeSet<u64> = BTreeSet::new();
        for process in fs::read_dir(root.join("proc")).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(dev) = fs::read_to_string(process.join("net/dev")) else { continue };
            let is_moved = !moved.insert(fs::metadata(process.join("net/dev")).unwrap().ino());
            if is_moved || process.ends_with("proc/net") || !dev.contains("eth0:") || dev.lines().count() > 4 {
                continue;
            }
            let line = dev.lines().find(|line| line.trim_start().starts_with("eth0:")).unwrap();
            let bytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            let moved = line.replacen(&bytes.to_string(), &(bytes + 1_000).to_string(), 1);
            fs::write(process.join("net/dev"), dev.replace(line, &moved)).unwrap();
        }
    });

    let found: BTreeSet<_> = added.iter().map(|added| (added.container_id.clone(), added.pod_uid.clone())).collect();
    let expected: BTreeSet<_> = running.iter().map(|(id, (uid, _))| (id.clone(), uid.clone())).collect();
    assert_eq!(found, expected, "exactly the running containers, no sandbox");
    assert_eq!(added.len(), 9);
    assert!(added.iter().all(|added| added.already_running && added.restarts == 0));
    let runtime = if version_2 { "containerd" } else { "" };
    assert!(added.iter().all(|added| added.runtime == runtime));

    let mut with_network = BTreeSet::new();
    for added in &added {
        let row = &rows[&added.container_ref];
        let files = |controller: &str| base(&node.capture, controller, &added.cgroup);
        let (pod_uid, pod_name) = &running[&added.container_id];
        assert_eq!(row.get(Column::CpuUsageUs), Some(5_000), "{pod_name}");
        let (current, stat, limit) = if version_2 {
            ("memory.current", ["anon ", "file ", "inactive_file "], "memory.max")
        } else {
            ("memory.usage_in_bytes", ["total_rss ", "total_cache ", "total_inactive_file "], "memory.limit_in_bytes")
        };
        let memory = files("memory");
        let current = read_number(&memory.join(current)).unwrap();
        let [anon, file, inactive] = stat.map(|name| key(&memory.join("memory.stat"), name).unwrap());
        assert_eq!(row.get(Column::MemoryCurrentBytes), Some(current));
        assert_eq!(row.get(Column::MemoryAnonBytes), Some(anon));
        assert_eq!(row.get(Column::MemoryFileBytes), Some(file));
        assert_eq!(row.get(Column::MemoryWorkingSetBytes), Some(current.saturating_sub(inactive)));
        let limit = read_number(&memory.join(limit)).filter(|&limit| limit < 1 << 60);
        assert_eq!((row.get(Column::MemoryLimitBytes), added.memory_limit_bytes), (limit, limit));
        assert_eq!(row.get(Column::PidsCurrent), read_number(&files("pids").join("pids.current")));
        assert_eq!(row.get(Column::PageFaults), Some(0), "nothing moved");
        assert_eq!(row.get(Column::CpuPressureUs), version_2.then_some(0));
        if pod_name == "guaranteed" {
            assert!(added.cpu_limit_millicores.is_some() && row.get(Column::CpuPeriods) == Some(0));
        }
        if row.get(Column::NetRxBytes).is_some() {
            assert!(with_network.insert(pod_uid.clone()), "{pod_name}: the network is reported once per pod");
            assert_eq!(row.get(Column::NetRxBytes), Some(1_000), "{pod_name}");
            assert_eq!(row.get(Column::TcpActiveOpens), Some(0));
            assert_eq!(row.get(Column::TcpSynRetransmits), Some(0), "{row:?}");
            assert!(row.get(Column::TcpSockets).is_some(), "{row:?}");
        } else {
            assert!(pod_name == "hostnet" || pod_name == "two", "{pod_name} has no network columns");
        }
    }
    assert_eq!(with_network.len(), 7, "every pod with running containers but the one on the host's network");

    // The kubelet looked a second or two later: the same to a few pages.
    let summary = json(&node.capture.join("kubelet-stats-summary.json"));
    let mut compared = 0;
    for pod in summary["pods"].as_array().unwrap() {
        let uid = pod["podRef"]["uid"].as_str().unwrap();
        let of_pod: Vec<_> = added.iter().filter(|added| added.pod_uid == uid).collect();
        let (Some(containers), [added]) = (pod["containers"].as_array(), &of_pod[..]) else { continue };
        if let Some(theirs) = containers[0]["memory"]["workingSetBytes"].as_u64() {
            let ours = rows[&added.container_ref].get(Column::MemoryWorkingSetBytes).unwrap();
            assert!(ours.abs_diff(theirs) <= 512 << 10, "{uid}: {ours} and {theirs}");
            compared += 1;
        }
    }
    assert!(compared >= 4, "{compared} containers compared with the kubelet");
    let node_row = &rows[&0];
    assert_eq!(node_row.get(Column::NodeContainers), Some(9));
    let total = key(&node.capture.join("proc/meminfo"), "MemTotal:");
    assert!(total.is_none() && node_row.get(Column::NodeMemoryTotalBytes).is_some_and(|bytes| bytes > 1 << 30));
    assert!(node_row.get(Column::NodeCpuPressureUs).is_some() && node_row.get(Column::NodeDiskReadBytes).is_some());
}

#[test]
fn a_node_with_cgroup_v1_and_the_cgroupfs_driver() {
    check("kubernetes-1.21-cgroup-v1", false);
}

#[test]
fn a_node_with_cgroup_v2_and_the_systemd_driver() {
    check("kubernetes-1.21-cgroup-v2-systemd", true);
}

#[test]
fn a_restarted_agent_keeps_the_references_of_what_still_runs_and_reports_what_went() {
    let Some(node) = node("kubernetes-1.21-cgroup-v2-systemd") else { return };
    let (added, _) = watch(&node, |_, _| {});
    let gone = added.iter().find(|added| !added.cgroup.is_empty()).unwrap().clone();
    fs::remove_dir_all(node.root.path().join("sys/fs/cgroup").join(&gone.cgroup)).unwrap();
    let config = SensorConfig { root: node.root.path().to_owned(), ..SensorConfig::default() };
    let mut sensor = Sensor::start(config, Metrics::default(), vedette_agent::sensor::monotonic(), 0, added.clone(), 10).unwrap();

    let first = sensor.tick(1_000).unwrap();
    let second = sensor.tick(2_000).unwrap();

    assert_eq!((&first.added, &second.added), (&Vec::new(), &Vec::new()));
    assert_eq!(
        first.removed.iter().map(|removed| (removed.container_ref, removed.pod_remains)).collect::<Vec<_>>(),
        [(gone.container_ref, true)]
    );
    let kept: BTreeSet<u32> = added.iter().map(|added| added.container_ref).filter(|&reference| reference != gone.container_ref).collect();
    assert_eq!(rows(&second).into_keys().filter(|&reference| reference != 0).collect::<BTreeSet<_>>(), kept);
}
