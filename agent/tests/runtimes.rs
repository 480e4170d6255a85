//! Trees of other runtimes and drivers than the captured nodes have, made as those runtimes make them.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use vedette_agent::{
    config::{SensorConfig, WatchConfig},
    metrics::Metrics,
    sensor::Sensor,
};
use vedette_proto::{
    Block, Column, Observation,
    v1::{Batch, ContainerAdded},
};

const UID: &str = "a1fbc318-347b-4575-a8b3-010c05abc66b";

struct Tree {
    root: tempfile::TempDir,
    unified: bool,
    next_pid: u32,
    subtree: String,
}

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

impl Tree {
    fn new(unified: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("sys/fs/cgroup");
        fs::create_dir_all(&base).unwrap();
        if unified {
            fs::write(base.join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        } else {
            for mount in ["cpu,cpuacct", "memory", "pids", "blkio", "systemd", "unified"] {
                fs::create_dir(base.join(mount)).unwrap();
            }
        }
        // The host's own network: what its first process sees.
        let tree = Self { root, unified, next_pid: 100, subtree: String::new() };
        tree.write_dev(1, "eth0: 900000 900 0 0 0 0 0 0 7 7 0 0 0 0 0 0\n veth1: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\n");
        tree
    }

    fn write_dev(&self, pid: u32, interfaces: &str) {
        let folder = self.root.path().join(format!("proc/{pid}/net"));
        fs::create_dir_all(&folder).unwrap();
        let lo = "    lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
        fs::write(folder.join("dev"), format!("Inter-| Receive | Transmit\n face |bytes\n{lo}\n {interfaces}")).unwrap();
    }

    /// A container with one process; `cgroup` is what the process's own file says, where that is not simply its path.
    fn container(&mut self, path: &str, comm: &str, cgroup: Option<&str>) -> u32 {
        let base = self.root.path().join("sys/fs/cgroup");
        if self.unified {
            let folder = base.join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cpu.stat"), "usage_usec 1000\nuser_usec 600\nsystem_usec 400\n").unwrap();
            fs::write(folder.join("memory.current"), "8192\n").unwrap();
        } else {
            for mount in ["cpu,cpuacct", "memory", "pids", "blkio", "systemd", "unified"] {
                fs::create_dir_all(base.join(mount).join(path)).unwrap();
            }
            fs::write(base.join("cpu,cpuacct").join(path).join("cpuacct.usage"), "1000000\n").unwrap();
            fs::write(base.join("memory").join(path).join("memory.usage_in_bytes"), "8192\n").unwrap();
            fs::write(base.join("pids").join(path).join("pids.current"), "1\n").unwrap();
        }
        self.next_pid += 1;
        let pid = self.next_pid;
        let folder = self.root.path().join(format!("proc/{pid}"));
        fs::create_dir_all(&folder).unwrap();
        let cgroup = cgroup.map_or(format!("/{path}"), str::to_owned);
        let lines =
            if self.unified { format!("0::{cgroup}\n") } else { format!("4:cpu,cpuacct:{cgroup}\n1:name=systemd:{cgroup}\n0::{cgroup}\n") };
        fs::write(folder.join("cgroup"), lines).unwrap();
        fs::write(folder.join("status"), format!("Name:\t{comm}\nUid:\t0\t0\t0\t0\nCapEff:\t0000000000000000\n")).unwrap();
        fs::write(folder.join("stat"), format!("{pid} ({comm}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {pid} 0 0\n")).unwrap();
        self.write_dev(pid, "eth0: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n");
        pid
    }

    /// What is announced, and the rows of the tick after.
    fn watch(&self, watch: &[(&str, &str)]) -> (Vec<ContainerAdded>, Vec<(u32, Observation)>, Batch) {
        let watch = watch.iter().map(|(name, glob)| WatchConfig { name: (*name).into(), glob: (*glob).into() }).collect();
        let config =
            SensorConfig { root: self.root.path().to_owned(), cgroup_subtree: self.subtree.clone(), watch, ..SensorConfig::default() };
        let clock = std::sync::atomic::AtomicU64::new(1_000_000);
        let clock = Box::new(move || clock.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed));
        let mut sensor = Sensor::start(config, Metrics::default(), clock, 0, Vec::new(), 1).unwrap();
        let first = sensor.tick(1_000).unwrap();
        let mut added = first.added.clone();
        let second = sensor.tick(2_000).unwrap();
        added.extend(second.added);
        let third = sensor.tick(3_000).unwrap();
        let block = Block::decode(third.block.as_ref().unwrap(), 100).unwrap();
        (added, block.container_refs.into_iter().zip(block.rows).skip(1).collect(), first)
    }
}

fn check(unified: bool, paths: &[(&str, &str, &str)]) {
    let mut tree = Tree::new(unified);
    let letters = ['a', 'b', 'c', 'd'];
    let paths: Vec<_> = paths
        .iter()
        .zip(letters)
        .map(|((path, comm, runtime), letter)| {
            (path.replace("UID_", &UID.replace('-', "_")).replace("UID", UID).replace("ID", &id(letter)), *comm, *runtime, letter)
        })
        .collect();
    for (path, comm, ..) in &paths {
        tree.container(path, comm, None);
    }

    let (added, rows, _) = tree.watch(&[]);

    let mut found: Vec<_> = added.iter().map(|added| (added.cgroup.clone(), added.container_id.clone(), added.runtime.clone())).collect();
    let mut expected: Vec<_> = paths
        .iter()
        .filter(|(path, comm, ..)| *comm != "pause" && !path.contains("conmon"))
        .map(|(path, _, runtime, letter)| (path.clone(), id(*letter), (*runtime).to_owned()))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for (reference, row) in &rows {
        assert_eq!((row.get(Column::CpuUsageUs), row.get(Column::MemoryCurrentBytes)), (Some(0), Some(8_192)), "container {reference}");
    }
    assert_eq!(rows.len(), expected.len());
    assert!(rows.iter().any(|(_, row)| row.get(Column::NetTxBytes) == Some(0)), "a network is read");
}

#[test]
fn crio_with_systemd_on_v2() {
    let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice";
    check(
        true,
        &[
            (&format!("{pod}/crio-ID.scope"), "pause", "cri-o"),
            (&format!("{pod}/crio-ID.scope"), "app", "cri-o"),
            (&format!("{pod}/crio-conmon-ID.scope"), "conmon", ""),
        ],
    );
}

/// OpenShift: the image of the infra container runs `pod`, crun puts a container's processes one cgroup deeper, conmon is in the pod's slice.
#[test]
fn crio_of_openshift_with_crun_on_v2() {
    let mut tree = Tree::new(true);
    let pod = format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
    let scope = |letter: char| format!("{pod}/crio-{}.scope", id(letter));
    tree.container(&scope('a'), "pod", None);
    tree.container(&format!("{pod}/crio-conmon-{}.scope", id('b')), "conmon", None);
    let nested = tree.container(&format!("{}/container", scope('b')), "app", None);
    // The scope counts what is below it.
    let scope_path = tree.root.path().join("sys/fs/cgroup").join(scope('b'));
    fs::write(scope_path.join("cpu.stat"), "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n").unwrap();
    fs::write(scope_path.join("memory.current"), "16384\n").unwrap();

    let (added, rows, first) = tree.watch(&[]);

    let found: Vec<_> = added.iter().map(|added| (&*added.container_id, &*added.runtime, &*added.pod_uid, &*added.cgroup)).collect();
    assert_eq!(found, [(&*id('b'), "cri-o", UID, &*scope('b'))], "neither the infra container nor conmon");
    assert_eq!(first.processes.iter().map(|process| process.comm.as_str()).collect::<Vec<_>>(), ["app"], "process {nested}");
    let row = &rows[0].1;
    let values = [Column::CpuUsageUs, Column::MemoryCurrentBytes, Column::NetTxBytes].map(|column| row.get(column));
    assert_eq!((rows.len(), values), (1, [Some(0), Some(16_384), Some(0)]));
}

/// CRI-O without infra containers, its default today: the pod's network is read through its first container.
#[test]
fn crio_without_infra_containers_on_v2() {
    let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice";
    let scope = format!("{pod}/crio-ID.scope");
    check(true, &[(&scope, "app", "cri-o"), (&scope, "sidecar", "cri-o")]);
}

#[test]
fn who_calls_itself_pod_elsewhere_is_observed() {
    let mut tree = Tree::new(true);
    let pod = format!("kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"));
    tree.container(&format!("{pod}/cri-containerd-{}.scope", id('a')), "pod", None);

    let (added, ..) = tree.watch(&[]);

    assert_eq!(added.iter().map(|added| added.container_id.clone()).collect::<Vec<_>>(), [id('a')]);
}

#[test]
fn crio_with_cgroupfs_on_v1() {
    check(false, &[("kubepods/besteffort/podUID/crio-ID", "pause", "cri-o"), ("kubepods/besteffort/podUID/crio-ID", "app", "cri-o")]);
}

#[test]
fn docker_with_systemd_on_v1() {
    let pod = "kubepods.slice/kubepods-podUID_.slice";
    check(false, &[(&format!("{pod}/docker-ID.scope"), "pause", "docker"), (&format!("{pod}/docker-ID.scope"), "app", "docker")]);
}

#[test]
fn docker_alone_on_v1_and_v2() {
    check(false, &[("docker/ID", "app", "docker")]);
    check(true, &[("system.slice/docker-ID.scope", "app", "docker")]);
}

#[test]
fn podman_on_v2() {
    check(true, &[("machine.slice/libpod-ID.scope", "app", "podman"), ("machine.slice/libpod-conmon-ID.scope", "conmon", "")]);
}

#[test]
fn a_node_in_a_container_is_one_container_unless_it_is_the_subtree() {
    let mut tree = Tree::new(false);
    let node = format!("docker/{}", id('a'));
    let pod = format!("{node}/kubelet/kubepods/burstable/pod{UID}");
    tree.container(&node, "systemd", None);
    tree.container(&format!("{pod}/{}", id('b')), "pause", None);
    tree.container(&format!("{pod}/{}", id('c')), "app", None);

    let (outside, ..) = tree.watch(&[]);
    tree.subtree = node;
    let (inside, ..) = tree.watch(&[]);

    let found =
        |added: &[ContainerAdded]| added.iter().map(|added| (added.container_id.clone(), added.pod_uid.clone())).collect::<Vec<_>>();
    assert_eq!(found(&outside), [(id('a'), String::new())]);
    assert_eq!(found(&inside), [(id('c'), UID.to_owned())]);
}

#[test]
fn a_container_cannot_pass_its_processes_off_as_anothers() {
    let mut tree = Tree::new(true);
    let other = format!("kubepods/besteffort/pod{}/{}", UID.replace("a1f", "b1f"), id('b'));
    let own = format!("kubepods/burstable/pod{UID}/{}", id('a'));
    tree.container(&other, "app", None);
    tree.container(&own, "web", None);
    tree.container(&format!("{own}/{other}"), "miner", None);
    tree.container(&format!("{own}/{}", id('b')), "scanner", Some(&format!("/../../burstable/pod{UID}/{}/{}", id('a'), id('b'))));

    let (added, _, first) = tree.watch(&[]);

    assert_eq!(added.len(), 2);
    let of = |letter: char| {
        let container = added.iter().find(|added| added.container_id == id(letter)).unwrap().container_ref;
        let names = first.processes.iter().filter(|process| process.container_ref == container).map(|process| process.comm.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!((of('a'), of('b')), (vec!["web".to_owned(), "miner".into(), "scanner".into()], vec!["app".to_owned()]));
}

#[test]
fn from_another_cgroup_namespace_processes_are_matched_by_container_id() {
    let mut tree = Tree::new(true);
    let pod = format!("kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"));
    let name = format!("cri-containerd-{}.scope", id('a'));
    tree.container(&format!("{pod}/{name}"), "app", Some(&format!("/../{name}")));

    let (_, rows, first) = tree.watch(&[]);

    assert_eq!(first.processes.iter().map(|process| process.comm.as_str()).collect::<Vec<_>>(), ["app"]);
    assert_eq!(rows[0].1.get(Column::NetRxBytes), Some(0));
}

#[test]
fn a_watched_cgroup_is_observed_without_kubernetes_and_without_the_hosts_network() {
    let mut tree = Tree::new(true);
    let pid = tree.container("system.slice/db.service", "postgres", None);
    tree.container("system.slice/cron.service", "cron", None);
    let dev = |pid: u32| tree.root.path().join(format!("proc/{pid}/net/dev"));
    fs::remove_file(dev(pid)).unwrap();
    fs::hard_link(dev(1), dev(pid)).unwrap();

    let (added, rows, _) = tree.watch(&[("databases", "system.slice/db*")]);

    assert_eq!(added.len(), 1);
    let expected = ("db.service", "cgroup", "databases", "system.slice/db.service");
    assert_eq!(
        (added[0].container_id.as_str(), added[0].runtime.as_str(), added[0].watch_name.as_str(), added[0].cgroup.as_str()),
        expected
    );
    assert_eq!((rows[0].1.get(Column::CpuUsageUs), rows[0].1.get(Column::NetRxBytes)), (Some(0), None));
}

#[test]
fn a_second_container_called_pause_is_observed() {
    let mut tree = Tree::new(true);
    let pod = format!("kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"));
    for letter in ['a', 'b'] {
        tree.container(&format!("{pod}/cri-containerd-{}.scope", id(letter)), "pause", None);
    }

    let (added, ..) = tree.watch(&[]);

    assert_eq!(added.iter().map(|added| added.container_id.clone()).collect::<Vec<_>>(), [id('b')]);
}

#[test]
fn an_unreadable_tree_is_an_error_that_names_it() {
    let config = SensorConfig { root: Path::new("/nowhere").to_owned(), ..SensorConfig::default() };

    let error = Sensor::start(config, Metrics::default(), vedette_agent::sensor::monotonic(), 0, Vec::new(), 1).err().unwrap();

    assert!(error.to_string().starts_with("cannot read cgroup root /nowhere/sys/fs/cgroup"), "{error}");
}
