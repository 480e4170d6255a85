//! The agent as it runs in a pod: uid 65532 without capabilities, in a PID and a cgroup namespace of its own, with the host's `/proc` and
//! `/sys/fs/cgroup` mounted read-only elsewhere. Needs root (to make the namespaces) and cgroup v1.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use vedette_agent::{config::OutboxConfig, disk_io::counting_files, metrics::Metrics, outbox::Outbox};
use vedette_proto::{Block, Column, Observation};

const CONTROLLERS: [&str; 5] = ["cpuacct", "cpu", "memory", "pids", "blkio"];

#[test]
fn everything_readable_is_read_without_any_privilege() {
    let root = rustix::process::geteuid().is_root();
    if !root || !Path::new("/sys/fs/cgroup/cpuacct").is_dir() {
        eprintln!("SKIPPED: needs root and cgroup v1 (root: {root})");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let lab = format!("vedette-agent-pod-{}", std::process::id());
    let container = format!("{lab}/kubepods/poda1fbc318-347b-4575-a8b3-010c05abc66b/{}", "e".repeat(64));
    let on_host = format!("{lab}/kubepods/podb1fbc318-347b-4575-a8b3-010c05abc66b/{}", "f".repeat(64));
    let pod = format!("{lab}/agent");
    let places = |path: &str| CONTROLLERS.map(|controller| Path::new("/sys/fs/cgroup").join(controller).join(path));
    let enter = |path: &str| places(path).map(|place| format!("echo $$ > {}/cgroup.procs", place.display())).join("\n");
    for place in places(&container).iter().chain(&places(&on_host)).chain(&places(&pod)) {
        fs::create_dir_all(place).unwrap();
    }
    // A pair of interfaces inside a namespace of its own: the container has an interface besides lo.
    let work = "ip link add eth0 type veth peer name far 2>/dev/null; ip link set eth0 up; ip link set lo up; unshare --net sleep 60 & while :; do :; done";
    let mut worker = Command::new("unshare")
        .args(["--net", "sh", "-c", &format!("{}\n{work}", enter(&container))])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut neighbour = Command::new("sh").args(["-c", &format!("{}\nexec sleep 60", enter(&on_host))]).spawn().unwrap();
    let dir = folder.path().display();
    let binary = folder.path().join("vedette-agent");
    fs::copy(env!("CARGO_BIN_EXE_vedette-agent"), &binary).unwrap();
    fs::write(
        folder.path().join("agent.toml"),
        format!(
            "node = \"n\"\ngrace_ms = 0\n[sensor]\nroot = \"{dir}/host\"\ncgroup_subtree = \"{lab}\"\ninterval_ms = 200\n[outbox]\ndir = \"{dir}/spool\"\n\
             [uplink]\nendpoint = \"https://127.0.0.1:1\"\nca_file = \"/nowhere\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
        ),
    )
    .unwrap();
    let script = format!(
        "set -e\n{enter}\nmkdir -p {dir}/host/proc {dir}/host/sys/fs/cgroup {dir}/spool\nchown 65532 {dir}/spool\nchmod 755 {dir}\n\
         mount --bind /proc {dir}/host/proc\nmount -o remount,bind,ro {dir}/host/proc\nmount --rbind /sys/fs/cgroup {dir}/host/sys/fs/cgroup\n\
         exec unshare --pid --cgroup --net --fork --mount-proc sh -c 'ip link set lo up; timeout --signal=TERM 5 setpriv --reuid=65532 --regid=65532 \
         --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs {binary} --config {dir}/agent.toml'\n",
        enter = enter(&pod),
        binary = binary.display(),
    );

    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();

    for child in [&mut worker, &mut neighbour] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // What the worker's shell began: its parent is gone.
    let rest = format!("cat /sys/fs/cgroup/pids/{container}/cgroup.procs | xargs -r kill -9; sleep 0.2");
    let _ = Command::new("sh").args(["-c", &rest]).stderr(Stdio::null()).status();
    for controller in CONTROLLERS {
        let _ = Command::new("find")
            .arg(format!("/sys/fs/cgroup/{controller}/{lab}"))
            .args(["-depth", "-type", "d", "-delete"])
            .stderr(Stdio::null())
            .status();
    }
    let log = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let spool = OutboxConfig { dir: folder.path().join("spool"), ..OutboxConfig::default() };
    let outbox = Outbox::open(spool, "", Metrics::default()).unwrap();
    let (mut merged, mut node, mut names, mut next) = (Observation::default(), Observation::default(), Vec::new(), 1);
    let (mut neighbours, mut of_neighbour) = (None, Observation::default());
    while let Some(batch) = outbox.read(next).unwrap() {
        next = batch.sequence + 1;
        let on_host = batch.added.iter().find(|added| added.container_id.starts_with('f'));
        neighbours = neighbours.or(on_host.map(|added| added.container_ref));
        names.extend(batch.processes.iter().map(|process| (process.comm.clone(), process.uid, process.foreign_network_namespace)));
        let Some(block) = &batch.block else { continue };
        let block = Block::decode(block, 100).unwrap();
        for (reference, row) in block.container_refs.iter().zip(&block.rows) {
            let into = match reference {
                0 => &mut node,
                reference if Some(*reference) == neighbours => &mut of_neighbour,
                _ => &mut merged,
            };
            row.iter().for_each(|(column, value)| into.set(column, value));
        }
    }
    assert!(names.contains(&("sh".to_owned(), 0, false)), "processes are mapped from another PID and cgroup namespace: {names:?}\n{log}");
    let mut foreign = names.iter().filter(|(.., foreign)| *foreign);
    assert!(names.contains(&("sleep".to_owned(), 0, true)), "that process has left its pod's network: {names:?}\n{log}");
    assert!(foreign.all(|(comm, ..)| comm == "sleep" || comm == "unshare"), "and no other: {names:?}\n{log}");
    let network = (of_neighbour.get(Column::CpuUsageUs).is_some(), of_neighbour.get(Column::NetRxBytes));
    assert_eq!(network, (true, None), "the host's network is nobody's: {of_neighbour:?}\n{log}");
    let disk_io = counting_files(Path::new("/proc"), Path::new("/sys/fs/cgroup/blkio"));
    assert_eq!(merged.get(Column::IoWriteBytes).is_some(), disk_io.is_some(), "absent where the kernel does not count: {merged:?}");
    let absent: Vec<_> = Column::ALL
        .iter()
        .filter(|column| {
            let (id, name) = (column.id(), column.name());
            let of_v2 = name.ends_with("_pressure_us");
            let of_limits =
                matches!(name, "cpu_periods" | "cpu_throttled_periods" | "cpu_throttled_us" | "memory_limit_bytes" | "pids_limit");
            id < 200 && !of_v2 && !of_limits && (disk_io.is_some() || !name.starts_with("io_")) && merged.get(**column).is_none()
        })
        .map(|column| column.name())
        .collect();
    assert!(absent.is_empty(), "not read: {absent:?}\n{log}");
    assert!(merged.get(Column::CpuUsageUs).is_some_and(|us| us > 10_000), "{merged:?}");
    for column in [
        Column::NodeCpuBusyUs,
        Column::NodeMemoryTotalBytes,
        Column::NodeCpuPressureUs,
        Column::NodeDiskWriteBytes,
        Column::NodeFsSizeBytes,
    ] {
        assert!(node.get(column).is_some(), "{} of the node is not read\n{log}", column.name());
    }
}
