//! The cross-check with a real Prometheus: a captured node whose counters move, its kubelet's page and kube-state-metrics' with one fault for
//! each counter of each container and pod; and this machine's own node_exporter.

#![allow(clippy::unwrap_used)]

mod captured;
mod pods;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use captured::{Captured, Fault};

use serde_json::Value;
use vedette_tests::{
    agent::{self, Agent},
    aggregator::Aggregator,
    cli, prerequisite,
    process::{self, Process},
};

const PROMETHEUS: &str = "/usr/bin/prometheus";
const NODE_EXPORTER: &str = "/usr/bin/prometheus-node-exporter";
/// Three scrapes of ten seconds, clocks half a minute apart, and a busy machine.
const LIMIT: Duration = Duration::from_secs(400);
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

/// A container's id or a pod's uid, and the metric.
type Counter = (String, String);
/// Outcome and cause.
type Told = (String, Option<String>);

/// What each counter must come to.
fn expected(captured: &Captured) -> BTreeMap<Counter, Told> {
    let told = |fault: Fault| (fault.expected().0.to_owned(), fault.expected().1.map(str::to_owned));
    let cpu = captured.faults.iter().map(|(id, fault)| ((id.clone(), "cpu".to_owned()), told(*fault)));
    let of_pods = captured.pods.iter().flat_map(|pod| {
        let network = pod.network.into_iter().flatten().zip(["net_rx", "net_tx"]);
        let all = network.chain([(pod.restarts, "restarts")]);
        all.map(|(fault, metric)| ((pod.uid.clone(), metric.to_owned()), told(fault)))
    });
    cpu.chain(of_pods).collect()
}

/// What each counter came to. A pod that nobody named is its own workload, by its uid.
fn outcomes(all: &[Value]) -> BTreeMap<Counter, Told> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let one = |one: &Value| {
        let metric = text(&one["metric"])?;
        let whose = if metric == "cpu" { &one["container_id"] } else { &one["owner_name"] };
        Some(((text(whose)?, metric), (text(&one["outcome"])?, text(&one["cause"]))))
    };
    all.iter().filter_map(one).collect()
}

/// The counters that did not come to what they must.
fn wrong(captured: &Captured, all: &[Value]) -> Vec<Counter> {
    let told = outcomes(all);
    expected(captured).into_iter().filter(|(counter, must)| told.get(counter) != Some(must)).map(|(counter, _)| counter).collect()
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
         relabel_configs: [{{source_labels: [__metrics_path__], target_label: metrics_path}}]\n- job_name: kube-state-metrics\n  \
         static_configs: [{{targets: ['{page}']}}]\n"
    );
    let (_prometheus, port) = prometheus(folder.path(), &job);
    let mut agent = start_agent(folder.path(), &aggregator, "captured", captured.root.path(), port);

    let told = wait_until(&mut agent, &aggregator, "every fault is told apart", |all| wrong(&captured, all).is_empty());

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
    wait_until(&mut agent, &aggregator, "the targets are missing", |all| {
        let told = outcomes(all);
        let missing = ("source_broken".to_owned(), Some("target_missing".to_owned()));
        expected(&captured).keys().all(|counter| told.get(counter) == Some(&missing))
    });
    let text = process::get(agent.http, "/metrics").unwrap().1;
    let missing = "vedette_agent_cross_checks{metric=\"cpu\",outcome=\"source_broken\"}";
    let line = text.lines().find(|line| line.starts_with(missing)).unwrap_or_else(|| panic!("{text}"));
    assert!(line.rsplit(' ').next().unwrap().parse::<usize>().unwrap() >= captured.faults.len(), "{line}");
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
    wait_until(&mut agent, &aggregator, "nothing of the node is known", |all| {
        let unknown: BTreeSet<String> = of_node(all, "unknown");
        metrics[..2].iter().all(|metric| unknown.contains(*metric))
            && all.iter().filter(|one| one["owner_kind"] == "Node").all(|one| one["cause"] == "unreachable")
    });
    // Sampling goes on.
    assert!(agent.metric("vedette_agent_ticks_total").unwrap().unwrap() > ticks);
}
