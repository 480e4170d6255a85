//! The sensor over this machine's own cgroups. Needs root and cgroup v1 (the v2 side runs in the virtual machine's test).
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use vedette_agent::{
    config::SensorConfig,
    metrics::Metrics,
    sensor::{Sensor, monotonic},
};
use vedette_proto::{
    Block, Column, Observation,
    v1::{Batch, ContainerAdded},
};

const CONTROLLERS: [&str; 5] = ["cpuacct", "cpu", "memory", "pids", "blkio"];
const POD: &str = "kubepods/burstable/poda1fbc318-347b-4575-a8b3-010c05abc66b";

/// A part of the cgroup tree of this test's own, removed with everything in it.
struct Lab {
    name: String,
    children: Vec<Child>,
}

impl Lab {
    fn new(name: &str) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if !root || !Path::new("/sys/fs/cgroup/cpuacct").is_dir() {
            eprintln!("SKIPPED: needs root and cgroup v1 (root: {root})");
            return None;
        }
        Some(Self { name: format!("vedette-agent-{name}-{}", std::process::id()), children: Vec::new() })
    }

    fn places(&self, path: &str) -> impl Iterator<Item = PathBuf> {
        let path = format!("{}/{path}", self.name);
        CONTROLLERS.into_iter().map(move |controller| Path::new("/sys/fs/cgroup").join(controller).join(&path))
    }

    fn make(&self, path: &str) {
        self.places(path).for_each(|place| fs::create_dir_all(place).unwrap());
    }

    fn remove(&self, path: &str) {
        for place in self.places(path) {
            let deadline = Instant::now() + Duration::from_secs(5);
            // A process that was waited for can stay in its cgroup for an instant.
            while fs::remove_dir(&place).is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) && Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
    }

    /// Runs a shell script as the only process of a container; it is in its cgroups before the script's first word.
    fn run(&mut self, path: &str, script: &str) {
        let enter: String = self.places(path).map(|place| format!("echo $$ > {}/cgroup.procs; ", place.display())).collect();
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", &format!("{enter} ip link set lo up 2>/dev/null; {script}")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.children.push(child);
    }

    fn sensor(&self) -> Sensor {
        let config = SensorConfig { cgroup_subtree: self.name.clone(), ..SensorConfig::default() };
        Sensor::start(config, Metrics::default(), monotonic(), 0, Vec::new(), 1).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        // What a container's shell left running, found by its cgroup: its parent is gone.
        let place = format!("/sys/fs/cgroup/pids/{}", self.name);
        let kill = format!("find {place} -name cgroup.procs -exec cat {{}} + | xargs -r kill -9; sleep 0.2");
        let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
        for place in self.places("") {
            // Whatever was left by a failed assertion.
            let _ = Command::new("find").arg(&place).args(["-depth", "-type", "d", "-delete"]).stderr(Stdio::null()).status();
        }
    }
}

fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

fn row(batch: &Batch, reference: u32) -> Option<Observation> {
    let block = Block::decode(batch.block.as_ref()?, 100).unwrap();
    let place = block.container_refs.iter().position(|&other| other == reference)?;
    Some(block.rows[place])
}

/// Ticks every 200 ms until `enough` says so; taking notice of containers in between as the agent does.
fn tick_until(sensor: &mut Sensor, seen: &mut Vec<Batch>, mut enough: impl FnMut(&[Batch]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !enough(seen) {
        assert!(Instant::now() < deadline, "not seen in 30 s: {seen:#?}");
        let due = Instant::now() + Duration::from_millis(200);
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if sensor.wait(left) {
                sensor.take_events(0);
            }
        }
        seen.push(sensor.tick(0).unwrap());
    }
}

fn added(seen: &[Batch]) -> Vec<ContainerAdded> {
    seen.iter().flat_map(|batch| batch.added.clone()).collect()
}

#[test]
fn cpu_memory_and_processes_are_what_they_are() {
    let Some(mut lab) = Lab::new("values") else { return };
    let path = format!("{POD}/{}", id('a'));
    let mut sensor = lab.sensor();
    let mut seen = vec![sensor.tick(0).unwrap()];
    lab.make(&path);
    fs::write(lab.places(&path).nth(2).unwrap().join("memory.limit_in_bytes"), "268435456").unwrap();
    fs::write(lab.places(&path).nth(3).unwrap().join("pids.max"), "50").unwrap();
    // One process that computes, three that sleep, and 32 MiB held in a variable of the shell that waits.
    lab.run(&path, "sleep 60 & sleep 60 & sleep 60 & x=$(head -c 33554432 /dev/zero | tr '\\0' x); while :; do :; done");
    let held = |batch: &Batch| row(batch, 1).and_then(|row| row.get(Column::MemoryAnonBytes)).is_some_and(|bytes| bytes > 32 << 20);

    let started = Instant::now();
    let usage = lab.places(&path).next().unwrap().join("cpuacct.usage");
    tick_until(&mut sensor, &mut seen, |seen| {
        seen.iter().filter(|batch| held(batch)).count() >= 3 && started.elapsed() > Duration::from_secs(3)
    });

    let total_us: u64 = fs::read_to_string(usage).unwrap().trim().parse::<u64>().unwrap() / 1_000;
    let observed_us: u64 = seen.iter().filter_map(|batch| row(batch, 1)?.get(Column::CpuUsageUs)).sum();
    assert!(observed_us <= total_us && total_us - observed_us < 300_000, "from its birth on: observed {observed_us} of {total_us} us");
    let last = seen.iter().rev().find_map(|batch| row(batch, 1).filter(|row| row.get(Column::PidsCurrent).is_some())).unwrap();
    assert_eq!((last.get(Column::PidsCurrent), last.get(Column::PidsLimit)), (Some(4), Some(50)));
    assert_eq!(last.get(Column::MemoryLimitBytes), Some(268_435_456));
    assert!(last.get(Column::MemoryWorkingSetBytes).is_some_and(|bytes| bytes > 32 << 20 && bytes < 200 << 20));
    let announced = added(&seen);
    assert_eq!(announced.len(), 1);
    assert_eq!(
        (announced[0].memory_limit_bytes, announced[0].pids_limit, announced[0].already_running),
        (Some(268_435_456), Some(50), false)
    );
    let names: Vec<_> = seen.iter().flat_map(|batch| &batch.processes).map(|process| process.comm.as_str()).collect();
    assert!(names.contains(&"sh") && names.contains(&"sleep"), "{names:?}");
    assert!(last.get(Column::TcpActiveOpens).is_some(), "the pod's own network is read without a sandbox");
}

#[test]
fn a_container_that_lives_fifty_milliseconds_is_announced_and_its_restart_counted() {
    let Some(mut lab) = Lab::new("short") else { return };
    lab.make(POD);
    let mut sensor = lab.sensor();
    let mut seen = vec![sensor.tick(0).unwrap()];
    for letter in ['a', 'b', 'c'] {
        let path = format!("{POD}/{}", id(letter));
        lab.make(&path);
        lab.run(&path, "exec sleep 0.05");
        lab.children.last_mut().unwrap().wait().unwrap();
        lab.remove(&path);
    }

    tick_until(&mut sensor, &mut seen, |seen| seen.iter().map(|batch| batch.removed.len()).sum::<usize>() == 3);

    let announced: Vec<_> = added(&seen).into_iter().map(|added| (added.container_id, added.slot, added.restarts)).collect();
    assert_eq!(announced, [(id('a'), 0, 0), (id('b'), 0, 1), (id('c'), 0, 2)]);
    assert!(seen.iter().flat_map(|batch| &batch.removed).all(|removed| removed.pod_remains));
}

#[test]
fn restarts_are_in_the_next_row_of_the_same_place() {
    let Some(mut lab) = Lab::new("restarts") else { return };
    let (first, second) = (format!("{POD}/{}", id('a')), format!("{POD}/{}", id('b')));
    lab.make(&first);
    lab.run(&first, "read wait");
    let mut sensor = lab.sensor();
    let mut seen = Vec::new();
    tick_until(&mut sensor, &mut seen, |seen| seen.iter().any(|batch| row(batch, 1).is_some()));

    drop(lab.children[0].stdin.take());
    lab.children[0].wait().unwrap();
    lab.remove(&first);
    lab.make(&second);
    lab.run(&second, "read wait");
    tick_until(&mut sensor, &mut seen, |seen| seen.iter().filter(|batch| row(batch, 2).is_some()).count() >= 3);

    assert_eq!(added(&seen).iter().map(|added| (added.slot, added.restarts)).collect::<Vec<_>>(), [(0, 0), (0, 1)], "{seen:#?}");
    let restarts: Vec<u64> = seen.iter().filter_map(|batch| row(batch, 2)?.get(Column::Restarts)).collect();
    assert_eq!(restarts[..3], [1, 0, 0]);
    assert_eq!(added(&seen).iter().map(|added| (added.slot, added.restarts)).collect::<Vec<_>>(), [(0, 0), (0, 1)]);
}

#[test]
fn a_sandbox_has_no_rows_until_it_works() {
    let Some(mut lab) = Lab::new("sandbox") else { return };
    let (sandbox, main) = (format!("{POD}/{}", id('a')), format!("{POD}/{}", id('b')));
    let folder = tempfile::tempdir().unwrap();
    let pause = folder.path().join("pause");
    let shell = fs::canonicalize("/bin/sh").unwrap();
    fs::copy(shell, &pause).unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "read wait\nwhile :; do :; done\n").unwrap();
    lab.make(&sandbox);
    lab.run(&sandbox, &format!("exec {} {}", pause.display(), script.display()));
    let mut sensor = lab.sensor();
    let mut seen = Vec::new();
    // Long enough for its process to be called pause, and then some slow ticks.
    std::thread::sleep(Duration::from_millis(300));
    lab.make(&main);
    lab.run(&main, "read wait");
    tick_until(&mut sensor, &mut seen, |seen| seen.len() > 15);
    assert_eq!(added(&seen).iter().map(|added| added.container_id.clone()).collect::<Vec<_>>(), [id('b')]);

    // It begins to work: calling itself pause hides nothing.
    drop(lab.children[0].stdin.take());
    tick_until(&mut sensor, &mut seen, |seen| seen.iter().any(|batch| row(batch, 2).is_some()));

    assert_eq!(added(&seen)[1].container_id, id('a'));
}
