//! `vedette record`: a session on the real kernel becomes a recording whole or not at all, on the host and in the virtual machine.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vedette_tests::{aggregator::Aggregator, cli, machine, prerequisite, process::Process};

/// Half a minute of plan, and what a busy machine or an emulator needs besides.
const LIMIT: Duration = Duration::from_secs(500);

fn record(folder: &Path, more: &[&str]) -> Process {
    let out = folder.join("recordings").display().to_string();
    // A machine that runs tests does other things as well.
    let arguments = [&["record", "smoke", "--seed", "7", "--despite-load", "--out", &out][..], more].concat();
    Process::start("vedette", arguments, folder).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What every recording of the short plan must hold; gives its manifest.
fn check(dir: &Path) -> Value {
    let manifest: Value = serde_json::from_str(&fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap();
    let schedule: Value = serde_json::from_str(&fs::read_to_string(dir.join("schedule.json")).unwrap()).unwrap();
    let (containers, labels) = (lines(&dir.join("containers.jsonl")), lines(&dir.join("labels.jsonl")));
    let number = |field: &str| manifest[field].as_u64().unwrap();
    assert_eq!((number("containers"), number("labels")), (containers.len() as u64, labels.len() as u64));
    assert_eq!((&manifest["plan"], &manifest["seed"], &manifest["set"]), (&Value::from("smoke"), &Value::from(7), &Value::from("DEV")));
    assert!(number("container_rows") * 100 >= number("expected") * 85, "{manifest}");
    assert!(number("rows") > number("container_rows"), "the node has rows of its own");
    // Every container is one that the injector ran, under the name that it gave.
    let lives: BTreeSet<&str> = schedule["lives"].as_array().unwrap().iter().filter_map(|life| life["container_id"].as_str()).collect();
    for container in &containers {
        assert!(lives.contains(container["container_id"].as_str().unwrap()), "{container}");
        assert_eq!((&container["namespace"], &container["owner_kind"] == "Pod"), (&Value::from("shop"), false), "{container}");
    }
    // Its labels are the schedule's episodes, exact to the millisecond.
    let attacks: Vec<_> = schedule["episodes"].as_array().unwrap().iter().filter(|episode| episode["attack"] == true).collect();
    assert_eq!(attacks.len(), 10);
    for episode in attacks {
        let said = labels.iter().find(|label| label["attributes"]["episode"] == episode["episode"] && label["affected"] == false);
        let said = said.unwrap_or_else(|| panic!("nobody said {episode}"));
        assert_eq!((&said["kind"], &said["source"]), (&episode["kind"], &Value::from("simulation")));
        assert!(said["start_unix_ms"].as_i64() >= episode["start_unix_ms"].as_i64());
        assert!(said["end_unix_ms"].as_i64() <= episode["stop_unix_ms"].as_i64());
    }
    manifest
}

#[tokio::test]
async fn a_session_is_recorded_and_replayed() {
    if !prerequisite::root("recording on this machine") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();

    let mut recorder = record(folder.path(), &["--name", "host"]);
    let status = recorder.wait(LIMIT).unwrap();

    assert!(status.success(), "{}", recorder.log());
    let dir = folder.path().join("recordings/host");
    let manifest = check(&dir);
    let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 };
    assert_eq!((&manifest["backend"], &manifest["cgroup_version"]), (&Value::from("local"), &Value::from(version)));
    assert!((0.0..=1.0).contains(&manifest["foreign_cpu_share"].as_f64().unwrap()));
    assert_eq!(fs::read_dir(folder.path().join("recordings")).unwrap().count(), 1, "only the recording itself is left");
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let told = cli::json_lines(&aggregator, ["replay", dir.to_str().unwrap(), "-o", "json"]).unwrap();
    assert_eq!((&told[0]["observations"], &told[0]["labels"]), (&manifest["rows"], &manifest["labels"]));
    assert_eq!(aggregator.number("SELECT count(*) FROM observations WHERE cluster = 'host'").await.unwrap(), manifest["rows"]);
    // What agents told comes along: the processes' names, the pods' limits.
    let limited = "SELECT count(*) FROM observations WHERE cluster = 'host' AND memory_limit_bytes > 0";
    assert!(aggregator.number(limited).await.unwrap() > 0);
    // The same name again is refused before anything starts.
    let mut again = record(folder.path(), &["--name", "host"]);
    let status = again.wait(LIMIT).unwrap();
    assert!(!status.success() && again.log().contains("is there already"), "{}", again.log());
}

#[test]
fn ctrl_c_leaves_neither_half_a_recording_nor_a_process() {
    if !prerequisite::root("recording on this machine") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = record(folder.path(), &["--name", "stopped"]);
    let log = folder.path().join("vedette.log");
    recorder.wait_for("round 1", LIMIT, || fs::read_to_string(&log).is_ok_and(|text| text.contains("round 1"))).unwrap();
    let id = recorder.id();
    let started = children(id);

    kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), Signal::INT).unwrap();
    let status = recorder.wait(LIMIT).unwrap();

    assert_eq!(status.code(), Some(1), "{}", recorder.log());
    assert!(recorder.log().contains("stopped"), "{}", recorder.log());
    assert!(!folder.path().join("recordings/stopped").exists());
    assert!(started.len() >= 3, "range, agent and aggregator ran: {started:?}");
    gone(&started, &format!("vedette-record-{id}"));
}

#[test]
fn a_killed_recorder_takes_everything_with_it() {
    if !prerequisite::root("recording on this machine") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = record(folder.path(), &["--name", "killed"]);
    let log = folder.path().join("vedette.log");
    recorder.wait_for("round 1", LIMIT, || fs::read_to_string(&log).is_ok_and(|text| text.contains("round 1"))).unwrap();
    let id = recorder.id();
    let started = children(id);

    recorder.kill().unwrap();

    gone(&started, &format!("vedette-record-{id}"));
    assert!(!folder.path().join("recordings/killed").exists());
}

#[test]
fn a_session_in_the_virtual_machine_is_recorded_as_one_on_the_host() {
    if machine::image().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();

    let mut recorder = record(folder.path(), &["--name", "vm", "--backend", "vm"]);
    let status = recorder.wait(LIMIT).unwrap();

    assert!(status.success(), "{}", recorder.log());
    let manifest = check(&folder.path().join("recordings/vm"));
    assert_eq!((&manifest["backend"], &manifest["cgroup_version"]), (&Value::from("vm"), &Value::from(2)));
    assert_ne!(manifest["kernel"], fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
}

/// The processes that a process started.
fn children(id: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["--ppid", &id.to_string(), "-o", "pid="]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// Waits until these processes and everything of that run are gone. There is no event for the end of another's child.
fn gone(started: &[u32], root: &str) {
    let began = std::time::Instant::now();
    while started.iter().any(|id| Path::new(&format!("/proc/{id}")).exists()) || !left(root).is_empty() {
        assert!(began.elapsed() < LIMIT, "{started:?} or {:?} are not gone", left(root));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a run of this name left: its directory and its cgroups.
fn left(root: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/var/lib/vedette-range")]);
    places.map(|place| place.join(root)).filter(|place| place.exists()).collect()
}
