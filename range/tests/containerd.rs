//! Pods of a real containerd, as the kernel sees them. Needs root, and Debian's containerd and runc.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use vedette_range::{
    cgroups::{Cgroups, Limits},
    clean::{self, leftovers},
    guard::{Net, own_namespace},
    home::Home,
    network::Network,
    pod::{Pod, PodSpec, Program, Site},
    runtime::{Backend, Runtime},
    schedule::{Life, Schedule},
};

const BINARY: &str = env!("CARGO_BIN_EXE_vedette-range");

fn possible() -> bool {
    let installed = |name: &str| ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(name).exists());
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !installed("containerd") || !installed("runc") {
        "containerd and runc"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "this test needs {missing}");
    eprintln!("SKIPPED: this test needs {missing}");
    false
}

/// A site of its own, removed at the end of the test that made it.
async fn site(name: &str) -> Option<Arc<Site>> {
    if !possible() {
        return None;
    }
    let name = format!("vedette-test-cd-{name}-{}", std::process::id());
    let cgroups = Cgroups::find(&name).expect("cgroups");
    let home = Home::claim(&name, Path::new(BINARY)).expect("home");
    let runtime = Runtime::start(Backend::Containerd, &cgroups, &home).await.expect("containerd");
    let network = Network::create(Net::slash24(std::net::Ipv4Addr::new(10, 213, 9, 0))).await.expect("network");
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

fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("field").trim().to_owned()
}

fn member(site: &Site, path: &str) -> u32 {
    *site.cgroups.processes(path).first().expect("a process")
}

/// The `Tcp:` line of a process's namespace.
fn tcp(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp")).expect("net/snmp");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let (_, value) = names.split(' ').zip(values.split(' ')).find(|pair| pair.0 == name).expect("field");
    value.parse().expect("number")
}

fn namespace(pid: u32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("namespace")
}

fn lives(site: &Site, pod: &Pod) -> Vec<Life> {
    site.schedule().lives.iter().filter(|life| life.pod_uid == pod.uid && !life.sandbox).cloned().collect()
}

/// Waits for something that must come to pass.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// Runs this on a thread in the pod's network.
fn in_network<T: Send + 'static>(pod: &Pod, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = fs::File::open(pod.network.path()).expect("namespace");
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
        work()
    });
    thread.join().expect("worked")
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().expect("run");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Loop devices over files whose path contains this.
fn loop_devices(part: &str) -> usize {
    let devices = fs::read_dir("/sys/block").expect("devices").flatten();
    let files = devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| file.contains(part)).count()
}

/// Neither processes nor mounts nor loop devices of a run are there; what the kernel takes down itself may take it a moment.
fn check_nothing_is_left(name: &str, when: &str) {
    let processes = || {
        let entries = fs::read_dir("/proc").expect("proc").flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(name)).count()
    };
    let mounts = || fs::read_to_string("/proc/self/mounts").expect("mounts").matches(name).count();
    for _ in 0..200 {
        if (processes(), mounts(), loop_devices(name)) == (0, 0, 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{when}: {} processes, {} mounts, {} loop devices", processes(), mounts(), loop_devices(name));
}

async fn remove(site: &Site) {
    clean::remove(&site.cgroups, &site.home).await.expect("removed");
    assert_eq!(site.cgroups.leftovers(), Vec::<PathBuf>::new());
    assert!(!site.home.exists());
}

/// The value of a limit in any hierarchy, v1 or v2.
fn limit(site: &Site, path: &str, v1: &str, v2: &str) -> String {
    let files = site.cgroups.dirs(path).flat_map(|dir| [dir.join(v1), dir.join(v2)]);
    files.map(fs::read_to_string).find_map(Result::ok).expect("limit").trim().to_owned()
}

#[tokio::test]
async fn a_pod_is_a_kubelets_and_is_gone_after() {
    let Some(site) = site("shape").await else { return };
    let limits = Limits { cpu_millicores: Some(500), memory_bytes: Some(64 << 20), pids: Some(99) };

    let pod = pod(&site, "web", limits).await;
    let address = pod.network.address.to_string();
    pod.start(vec![program(&site, &["web", "--address", &address], false)]).await.expect("started");

    let (path, pod_path) = (container_path(&pod), format!("kubepods/burstable/pod{}", pod.uid));
    let sandbox = site.schedule().lives.iter().find(|life| life.sandbox).expect("sandbox").container_id.clone();
    for id in [&sandbox, &pod.container_id().expect("running")] {
        assert!(site.cgroups.dirs(&pod_path).all(|dir| dir.join(id).is_dir()), "{id} in every hierarchy");
    }
    let named = vedette_agent::name::identify(&format!("{}/{path}", site.cgroups.root())).expect("the agent knows the path");
    assert_eq!((named.pod_uid.as_str(), Some(named.container_id)), (pod.uid.as_str(), pod.container_id()));
    assert_eq!(named.pod_path, format!("{}/{pod_path}", site.cgroups.root()));
    let main = member(&site, &path);
    let pause = member(&site, &format!("{pod_path}/{sandbox}"));
    until("the programs run", || [(main, "helper"), (pause, "pause")].iter().all(|&(pid, name)| status(pid, "Name") == name)).await;
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(namespace(main, kind), namespace(pause, kind), "{kind}");
        assert_ne!(namespace(main, kind), namespace(std::process::id(), kind), "{kind}");
    }
    assert_ne!(namespace(main, "pid"), namespace(pause, "pid"));
    assert_eq!(limit(&site, &path, "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert!(limit(&site, &path, "cpu.cfs_quota_us", "cpu.max").starts_with("50000"));
    for path in [&path, &pod_path] {
        assert_eq!(limit(&site, path, "pids.max", "pids.max"), "99");
    }
    // What a runtime gives by default, and no more.
    assert_eq!(status(main, "CapEff"), "00000000a80425fb");

    pod.stop().await.expect("stopped");
    assert!(site.cgroups.all_dirs(&pod_path).all(|dir| !dir.exists()));
    let gone: Vec<_> = site.schedule().lives.iter().map(|life| life.gone_unix_ms > 0).collect();
    assert_eq!(gone, [true, true]);
    remove(&site).await;
}

#[tokio::test]
async fn a_container_has_the_hosts_programs_its_own_directory_and_nothing_else_of_the_host() {
    let Some(site) = site("root").await else { return };
    let (work, shared, others) = (site.home.dir().join("work/one"), site.home.dir().join("work/shared"), site.home.dir().join("work/two"));
    for dir in [&work, &shared, &others] {
        fs::create_dir_all(dir).expect("directory");
    }
    let dirs = vec![work.clone(), shared.clone()];
    let spec = PodSpec { owner_kind: "Deployment", owner_name: "job".to_owned(), limits: Limits::default(), dirs };
    let pod = Pod::create(&site, spec).await.expect("pod");
    let dir = work.to_string_lossy().into_owned();

    pod.start(vec![program(&site, &["batch", "--dir", &dir, "--work-seconds", "60"], false)]).await.expect("started");

    until("the job writes", || fs::read_dir(&work).expect("directory").count() == 1).await;
    // The job is the first process of its own PID namespace, and names its file after that.
    assert!(work.join("index-1").exists());
    let root = PathBuf::from(format!("/proc/{}/root", member(&site, &container_path(&pod))));
    for path in ["usr/bin/env", "lib64", "etc/passwd", "tmp"] {
        assert!(root.join(path).exists(), "{path}");
    }
    for path in ["etc/shadow", "etc/ssh", "home", "var/lib/dpkg", "run/containerd"] {
        assert!(!root.join(path).exists(), "{path}");
    }
    let inside = |dir: &Path| root.join(dir.strip_prefix("/").expect("absolute"));
    assert_eq!([&work, &shared, &others].map(|dir| inside(dir).is_dir()), [true, true, false]);
    fs::write(inside(&shared).join("from-inside"), "").expect("written");
    assert!(shared.join("from-inside").exists());
    let written = fs::write(root.join("usr/written-by-a-test"), "");
    assert!(written.is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem));
    pod.stop().await.expect("stopped");
    remove(&site).await;
}

#[tokio::test]
async fn pods_reach_each_other_and_a_program_started_inside_is_one_of_its_container() {
    let Some(site) = site("traffic").await else { return };
    let web = pod(&site, "web", Limits::default()).await;
    web.start(vec![program(&site, &["web", "--address", &web.network.address.to_string()], false)]).await.expect("started");
    let host = pod(&site, "session", Limits::default()).await;
    host.start(vec![program(&site, &["sink", "--address", &host.network.address.to_string()], false)]).await.expect("started");
    let (path, victim) = (container_path(&host), member(&site, &container_path(&web)));
    let main = member(&site, &path);
    let target = format!("{}:8080", web.network.address);
    let args = ["load", "--target", &target, "--rate", "200", "--connections", "20", "--reuse", "10", "--seconds", "600"];

    let mut child = host.exec(&program(&site, &args, true)).expect("inside");

    until("the victim is connected to", || tcp(victim, "PassiveOpens") > 20).await;
    let inside: Vec<_> = site.cgroups.processes(&path).into_iter().filter(|&pid| pid != main).collect();
    assert_eq!(inside.len(), 1, "{inside:?}");
    let helper = inside[0];
    assert_eq!(status(helper, "Name"), "helper");
    for kind in ["net", "pid", "mnt", "ipc", "uts", "cgroup"] {
        assert_eq!(namespace(helper, kind), namespace(main, kind), "{kind}");
    }
    for field in ["CapEff", "CapPrm", "CapBnd", "CapInh", "Seccomp", "NoNewPrivs"] {
        assert_eq!(status(helper, field), status(main, field), "{field}");
    }
    for name in ["cgroup", "oom_score_adj"] {
        let read = |pid: u32| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("file");
        assert_eq!(read(helper), read(main), "{name}");
    }

    child.kill().await.expect("killed");
    until("the program is gone", || site.cgroups.processes(&path) == [main]).await;
    for pod in [host, web] {
        pod.stop().await.expect("stopped");
    }
    remove(&site).await;
}

#[tokio::test]
async fn what_a_program_inside_leaves_behind_does_not_count_as_processes_for_ever() {
    let Some(site) = site("orphans").await else { return };
    let pod = pod(&site, "render", Limits { pids: Some(64), ..Limits::default() }).await;
    pod.start(vec![program(&site, &["idle", "--seconds", "600"], false)]).await.expect("started");
    let path = container_path(&pod);
    let count = || limit(&site, &path, "pids.current", "pids.current").parse::<u64>().expect("number");
    until("the program runs", || status(member(&site, &path), "Name") == "helper" && count() == 2).await;

    let mut bomb = pod.exec(&program(&site, &["fork-bomb", "--rate", "1000", "--seconds", "600"], false)).expect("inside");
    until("there are many", || count() > 30).await;
    bomb.kill().await.expect("killed");

    until("only what was there before", || count() == 2).await;
    pod.stop().await.expect("stopped");
    remove(&site).await;
}

#[tokio::test]
async fn a_failing_container_comes_back_under_a_new_id_in_the_same_sandbox_with_back_off() {
    let Some(site) = site("crash").await else { return };
    let web = pod(&site, "web", Limits::default()).await;
    web.start(vec![program(&site, &["web", "--address", &web.network.address.to_string()], false)]).await.expect("started");
    let failing = pod(&site, "invoice", Limits::default()).await;
    let target = format!("{}:8080", web.network.address);

    failing.start(vec![program(&site, &["worker", "--target", &target, "--fail-after-ms", "200"], true)]).await.expect("started");
    until("it failed three times", || failing.failures_since(0).len() >= 3).await;
    failing.stop().await.expect("stopped");

    let lives = lives(&site, &failing);
    let mut ids: Vec<_> = lives.iter().map(|life| life.container_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), lives.len());
    let pause = |place: usize| lives[place + 1].born_unix_ms - lives[place].gone_unix_ms;
    assert!(pause(0) < pause(1), "{} {}", pause(0), pause(1));
    assert!(pause(1) >= 1_000);
    for life in &lives[..3] {
        assert!(life.born_unix_ms <= life.ended_unix_ms && life.ended_unix_ms <= life.gone_unix_ms, "{life:?}");
        assert!(life.ended_unix_ms - life.born_unix_ms >= 200, "{life:?}");
    }
    let sandboxes = site.schedule().lives.iter().filter(|life| life.pod_uid == failing.uid && life.sandbox).count();
    assert_eq!(sandboxes, 1);
    web.stop().await.expect("stopped");
    remove(&site).await;
}

#[tokio::test]
async fn a_container_killed_at_its_memory_limit_is_a_failed_life() {
    let Some(site) = site("oom").await else { return };
    let limits = Limits { memory_bytes: Some(24 << 20), ..Limits::default() };
    let pod = pod(&site, "cache", limits).await;
    let address = pod.network.address;
    pod.start(vec![program(&site, &["cache", "--address", &address.to_string()], false)]).await.expect("started");
    let first = pod.container_id().expect("running");
    until("it listens", || in_network(&pod, move || TcpStream::connect((address, 6379)).is_ok())).await;

    // Twice its limit; the connection ends with the container.
    let _ = in_network(&pod, move || {
        let mut stream = TcpStream::connect((address, 6379))?;
        for key in 0..3_000 {
            stream.write_all(format!("S {key} 16000\n").as_bytes())?;
            stream.write_all(&[7; 16_000])?;
        }
        Ok::<(), std::io::Error>(())
    });
    until("another life", || pod.container_id().is_some_and(|id| id != first)).await;
    pod.stop().await.expect("stopped");

    let lives = lives(&site, &pod);
    assert_eq!(lives.iter().map(|life| (life.container_id == first, life.failed)).collect::<Vec<_>>(), [(true, true), (false, false)]);
    remove(&site).await;
}

#[tokio::test]
async fn a_disk_is_a_file_system_of_its_own_in_the_container() {
    let Some(site) = site("disk").await else { return };
    let (image, work) = (site.home.dir().join("disk.img"), site.home.dir().join("work/disk"));
    fs::create_dir_all(&work).expect("directory");
    fs::File::create(&image).and_then(|file| file.set_len(32 << 20)).expect("file");
    let image_text = image.to_string_lossy().into_owned();
    let work_text = work.to_string_lossy().into_owned();
    run("mkfs.ext4", &["-q", "-F", &image_text]);
    run("mount", &["-t", "ext4", "-o", "loop", &image_text, &work_text]);
    let spec = PodSpec { owner_kind: "Deployment", owner_name: "job".to_owned(), limits: Limits::default(), dirs: vec![work.clone()] };

    let pod = Pod::create(&site, spec).await.expect("pod");
    pod.start(vec![program(&site, &["batch", "--dir", &work_text, "--work-seconds", "60"], false)]).await.expect("started");

    until("the job writes", || work.join("index-1").exists()).await;
    let root = format!("/proc/{}/root{work_text}", member(&site, &container_path(&pod)));
    assert_eq!(fs::metadata(root).expect("inside").dev(), fs::metadata(&work).expect("outside").dev());
    assert_ne!(fs::metadata(&work).expect("outside").dev(), fs::metadata(site.home.dir()).expect("home").dev());
    assert_eq!(loop_devices(&image_text), 1);
    pod.stop().await.expect("stopped");
    run("umount", &[&work_text]);
    until("the loop device is free", || loop_devices(&image_text) == 0).await;
    remove(&site).await;
}

#[test]
fn a_run_killed_at_any_moment_leaves_what_clean_removes() {
    if !possible() {
        return;
    }
    for attempt in 0..4 {
        let name = format!("vedette-test-cd-kill{attempt}-{}", std::process::id());
        let after_ms: u64 = rand::random_range(50..12_000);
        let mut command = Command::new(BINARY);
        command.args(["run", "--plan", "smoke", "--backend", "containerd", "--root-cgroup", &name]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        std::thread::sleep(Duration::from_millis(after_ms));
        child.kill().expect("killed");
        child.wait().expect("ended");

        let cleaned = Command::new(BINARY).args(["clean", "--root-cgroup", &name]).output().expect("run");

        // Killed before it claimed its directory, there is nothing to clean and clean says so.
        let told = String::from_utf8_lossy(&cleaned.stderr).into_owned();
        assert_eq!(leftovers(&name).expect("looked"), Vec::<PathBuf>::new(), "killed after {after_ms} ms: {told}");
        check_nothing_is_left(&name, &format!("killed after {after_ms} ms"));
    }
}

/// A pod with a disk of its own, for as long as it takes.
const WITH_A_DISK: &str = r#"
name: disk
description: for a test
workloads:
  job: {disk: 32MiB, program: {behaviour: batch, dir: "@work"}}
phases:
  - {name: all, lasts: 10m}
"#;

#[test]
fn a_killed_runs_disks_are_taken_down_by_the_kernel_before_anybody_cleans() {
    if !possible() {
        return;
    }
    let name = format!("vedette-test-cd-killdisk-{}", std::process::id());
    let plan = tempfile::NamedTempFile::with_suffix(".yaml").expect("file");
    fs::write(plan.path(), WITH_A_DISK).expect("written");
    let mut command = Command::new(BINARY);
    command.args(["run", "--backend", "containerd", "--root-cgroup", &name, "--plan"]).arg(plan.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let begun = lines.map_while(Result::ok).find(|line| line.contains(r#""event":"phase""#));
    assert!(begun.is_some() && loop_devices(&name) == 1);

    child.kill().expect("killed");
    child.wait().expect("ended");

    check_nothing_is_left(&name, "killed");
    let cleaned = Command::new(BINARY).args(["clean", "--root-cgroup", &name]).output().expect("run");
    assert!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    assert_eq!(leftovers(&name).expect("looked"), Vec::<PathBuf>::new());
}

#[test]
fn a_stopped_run_removes_itself() {
    if !possible() {
        return;
    }
    let name = format!("vedette-test-cd-stop-{}", std::process::id());
    let mut command = Command::new(BINARY);
    command.args(["run", "--plan", "smoke", "--backend", "containerd", "--root-cgroup", &name]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    // Some time into the plan.
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let begun = lines.map_while(Result::ok).find(|line| line.contains(r#""event":"start""#));
    assert!(begun.is_some());

    kill_process(Pid::from_raw(i32::try_from(child.id()).expect("pid")).expect("pid"), Signal::TERM).expect("stopped");
    child.wait().expect("ended");

    assert_eq!(leftovers(&name).expect("looked"), Vec::<PathBuf>::new());
    check_nothing_is_left(&name, "stopped");
}
