//! What the range makes, as the kernel sees it: cgroups, namespaces, and counters that the behaviours move. Needs root.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use vedette_range::{
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

/// A site of its own, removed at the end of the test that made it.
async fn site(name: &str) -> Option<Arc<Site>> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the range needs root");
        return None;
    }
    let name = format!("vedette-test-{name}-{}", std::process::id());
    let cgroups = Cgroups::find(&name).expect("cgroups");
    let home = Home::claim(&name, Path::new(BINARY)).expect("home");
    let network = Network::create(Net::slash24(std::net::Ipv4Addr::new(10, 213, 9, 0))).await.expect("network");
    let runtime = Runtime::start(Backend::Local, &cgroups, &home).await.expect("runtime");
    let (identities, schedule) = (None, Mutex::new(Schedule::default()));
    Some(Arc::new(Site { cgroups, network, home, runtime, identities, schedule, backoff: Duration::from_secs(1) }))
}

async fn pod(site: &Arc<Site>, owner: &str, limits: Limits) -> Arc<Pod> {
    Pod::create(site, PodSpec { owner_kind: "Deployment", owner_name: owner.to_owned(), limits, dirs: Vec::new() }).await.expect("pod")
}

fn program(site: &Site, args: &[&str], bounded: bool) -> Program {
    let mut args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    if bounded {
        let host = own_namespace().expect("namespace").to_string();
        args.extend(["--allow".to_owned(), site.network.subnet.to_string(), "--host-namespace".to_owned(), host]);
    }
    Program { comm: "helper".to_owned(), args }
}

fn container_path(pod: &Pod) -> String {
    format!("kubepods/burstable/pod{}/{}", pod.uid, pod.container_id().expect("running"))
}

fn member(site: &Site, pod: &Pod) -> u32 {
    *site.cgroups.processes(&container_path(pod)).first().expect("a process")
}

/// CPU time of a cgroup in microseconds, v1 or v2.
fn cpu_us(site: &Site, path: &str) -> u64 {
    let read = |dir: PathBuf| {
        if let Ok(text) = fs::read_to_string(dir.join("cpuacct.usage")) {
            return text.trim().parse::<u64>().ok().map(|ns| ns / 1000);
        }
        let text = fs::read_to_string(dir.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.parse().ok()
    };
    site.cgroups.dirs(path).find_map(read).expect("CPU time")
}

/// `eth0` of a process's namespace: received bytes and packets, sent bytes and packets.
fn eth0(pid: u32) -> [u64; 4] {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("net/dev");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("eth0");
    let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().expect("number")).collect();
    [numbers[0], numbers[1], numbers[8], numbers[9]]
}

/// The `Tcp:` line of a process's namespace.
fn tcp(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp")).expect("net/snmp");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let pairs: HashMap<_, _> = names.split(' ').zip(values.split(' ')).collect();
    pairs[name].parse().expect("number")
}

async fn remove(site: &Site) {
    clean::remove(&site.cgroups, &site.home).await.expect("removed");
    assert_eq!(site.cgroups.leftovers(), Vec::<PathBuf>::new());
    assert!(!site.home.exists());
}

#[tokio::test]
async fn a_pod_looks_like_a_kubelets_and_is_gone_after() {
    let Some(site) = site("shape").await else { return };
    let limits = Limits { cpu_millicores: Some(500), memory_bytes: Some(64 << 20), pids: Some(99) };

    let pod = pod(&site, "web", limits).await;
    let address = pod.network.address.to_string();
    pod.start(vec![program(&site, &["web", "--address", &address], false)]).await.expect("started");

    let pod_dirs: Vec<_> = site.cgroups.dirs(&format!("kubepods/burstable/pod{}", pod.uid)).collect();
    for dir in &pod_dirs {
        let mut children: Vec<_> = fs::read_dir(dir).expect("pod").flatten().filter(|entry| entry.path().is_dir()).collect();
        children.retain(|entry| entry.file_name().to_string_lossy().len() == 64);
        assert_eq!(children.len(), 2, "sandbox and container in {}", dir.display());
    }
    let sandbox = site.schedule().lives.iter().find(|life| life.sandbox).expect("sandbox").container_id.clone();
    let sandbox = format!("kubepods/burstable/pod{}/{sandbox}", pod.uid);
    // Its move into the cgroup and its exec may still be under way.
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).expect("namespace");
    let is_pause = |pid: &u32| {
        let named = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "pause\n");
        named && namespace(&pid.to_string()) != namespace("self")
    };
    for _ in 0..500 {
        if site.cgroups.processes(&sandbox).first().is_some_and(is_pause) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pause = *site.cgroups.processes(&sandbox).first().expect("a process in the sandbox");
    assert_eq!(fs::read_to_string(format!("/proc/{pause}/comm")).expect("comm"), "pause\n");
    assert_ne!(namespace(&pause.to_string()), namespace("self"));
    let limit = |v1: &str, v2: &str| {
        let path = container_path(&pod);
        let dirs = site.cgroups.dirs(&path).chain(pod_dirs.iter().cloned());
        dirs.flat_map(|dir| [dir.join(v1), dir.join(v2)]).find_map(|file| fs::read_to_string(file).ok()).expect("limit")
    };
    assert_eq!(limit("memory.limit_in_bytes", "memory.max").trim(), (64 << 20).to_string());
    assert!(limit("cpu.cfs_quota_us", "cpu.max").starts_with("50000"));

    pod.stop().await.expect("stopped");
    assert!(pod_dirs.iter().all(|dir| !dir.exists()));
    remove(&site).await;
}

#[tokio::test]
async fn hashing_uses_cpu() {
    let Some(site) = site("hash").await else { return };
    let pod = pod(&site, "report", Limits::default()).await;

    pod.start(vec![program(&site, &["hash", "--duty-pct", "100", "--seconds", "30"], false)]).await.expect("started");
    tokio::time::sleep(Duration::from_secs(3)).await;

    // A fifth of a core even where others keep the machine busy.
    let used = cpu_us(&site, &container_path(&pod));
    assert!(used > 600_000, "{used} us in 3 s");
    pod.stop().await.expect("stopped");
    remove(&site).await;
}

#[tokio::test]
async fn a_sweep_opens_connections_that_mostly_go_nowhere() {
    let Some(site) = site("sweep").await else { return };
    let pod = pod(&site, "ledger", Limits::default()).await;

    pod.start(vec![program(&site, &["connect", "--sweep", "--rate", "100", "--seconds", "30"], true)]).await.expect("started");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = member(&site, &pod);
    let before = tcp(pid, "ActiveOpens");
    tokio::time::sleep(Duration::from_secs(4)).await;

    let opens = tcp(pid, "ActiveOpens") - before;
    assert!(opens >= 200, "{opens} in 4 s");
    assert!(tcp(pid, "CurrEstab") < 10);
    pod.stop().await.expect("stopped");
    remove(&site).await;
}

#[tokio::test]
async fn an_upload_sends_far_more_than_it_receives() {
    let Some(site) = site("upload").await else { return };
    let sink = pod(&site, "archive", Limits::default()).await;
    sink.start(vec![program(&site, &["sink", "--address", &sink.network.address.to_string()], false)]).await.expect("started");
    let source = pod(&site, "digest", Limits::default()).await;
    let target = format!("{}:9000", sink.network.address);

    let args = ["upload", "--target", &target, "--rate", "4000000", "--burst", "1000000000", "--every", "1", "--seconds", "30"];
    source.start(vec![program(&site, &args, true)]).await.expect("started");
    tokio::time::sleep(Duration::from_secs(4)).await;

    let [received, _, sent, _] = eth0(member(&site, &source));
    assert!(sent > 2_000_000 && sent > received * 10, "sent {sent}, received {received}");
    assert!(sent < 4 * 20_000_000, "the ceiling holds: {sent}");
    for pod in [source, sink] {
        pod.stop().await.expect("stopped");
    }
    remove(&site).await;
}

#[tokio::test]
async fn a_flood_reaches_its_victim_from_inside_another_container() {
    let Some(site) = site("flood").await else { return };
    let web = pod(&site, "web", Limits::default()).await;
    web.start(vec![program(&site, &["web", "--address", &web.network.address.to_string()], false)]).await.expect("started");
    let host = pod(&site, "session", Limits::default()).await;
    host.start(vec![program(&site, &["sink", "--address", &host.network.address.to_string()], false)]).await.expect("started");
    let target = format!("{}:8080", web.network.address);

    let args = ["load", "--target", &target, "--rate", "500", "--connections", "40", "--reuse", "10", "--seconds", "30"];
    let mut child = host.exec(&program(&site, &args, true)).expect("inside");
    tokio::time::sleep(Duration::from_secs(4)).await;

    assert_eq!(site.cgroups.processes(&container_path(&host)).len(), 2);
    let victim = member(&site, &web);
    let [_, packets, ..] = eth0(victim);
    assert!(packets > 500, "{packets} packets");
    assert!(tcp(victim, "PassiveOpens") > 40);
    child.kill().await.expect("killed");
    for pod in [host, web] {
        pod.stop().await.expect("stopped");
    }
    remove(&site).await;
}

#[tokio::test]
async fn a_failing_container_gets_a_new_id_per_life_and_back_off() {
    let Some(site) = site("crash").await else { return };
    let web = pod(&site, "web", Limits::default()).await;
    web.start(vec![program(&site, &["web", "--address", &web.network.address.to_string()], false)]).await.expect("started");
    let failing = pod(&site, "invoice", Limits::default()).await;
    let target = format!("{}:8080", web.network.address);

    failing.start(vec![program(&site, &["worker", "--target", &target, "--fail-after-ms", "200"], true)]).await.expect("started");
    for _ in 0..300 {
        if failing.failures_since(0).len() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    failing.stop().await.expect("stopped");

    let lives: Vec<_> = site.schedule().lives.iter().filter(|life| life.pod_uid == failing.uid && !life.sandbox).cloned().collect();
    assert!(lives.len() >= 3);
    let mut ids: Vec<_> = lives.iter().map(|life| life.container_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), lives.len());
    let pause = |place: usize| lives[place + 1].born_unix_ms - lives[place].gone_unix_ms;
    assert!(pause(0) < pause(1), "{} {}", pause(0), pause(1));
    assert!(pause(1) >= 1_000);
    web.stop().await.expect("stopped");
    remove(&site).await;
}
