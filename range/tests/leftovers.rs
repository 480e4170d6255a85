//! Whatever happens to a run, nothing of it stays: stopped, killed at any moment, or sent where it must not go.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use vedette_range::clean::leftovers;

const BINARY: &str = env!("CARGO_BIN_EXE_vedette-range");

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: the range needs root");
    }
    root
}

/// Disks that are made, mounted and unmounted all the time.
const DISKS: &str = r#"
name: disks
description: for tests
workloads:
  web: {disk: 8MiB, program: {behaviour: web, address: "@self"}}
  job: {disk: 8MiB, replicas: 3, program: {behaviour: batch, dir: "@work", work_seconds: 1, rest_seconds: 1}}
phases:
  - name: all
    lasts: 20s
    episodes:
      - {act: rollout, in: job, at: 0s, lasts: 10s}
      - {act: disk-fill, at: 1s, lasts: 5s}
"#;

fn start(name: &str) -> Child {
    start_plan(name, "smoke")
}

fn start_plan(name: &str, plan: &str) -> Child {
    let mut command = Command::new(BINARY);
    command.args(["run", "--plan", plan, "--root-cgroup", name]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started")
}

fn behave(args: &[&str]) -> Output {
    Command::new(BINARY).arg("behave").args(args).output().expect("run")
}

#[test]
fn a_stopped_run_removes_itself() {
    if !is_root() {
        return;
    }
    let name = format!("vedette-test-stop-{}", std::process::id());
    let mut run = start(&name);
    std::thread::sleep(Duration::from_secs(3));

    kill_process(Pid::from_raw(i32::try_from(run.id()).expect("pid")).expect("pid"), Signal::TERM).expect("stopped");
    run.wait().expect("ended");

    assert_eq!(leftovers(&name).expect("looked"), Vec::<PathBuf>::new());
}

#[test]
fn a_run_killed_at_any_moment_is_removed_by_clean() {
    if !is_root() {
        return;
    }
    for attempt in 0..5 {
        let name = format!("vedette-test-kill{attempt}-{}", std::process::id());
        let after_ms: u64 = rand::random_range(50..4_000);
        let mut run = start(&name);
        std::thread::sleep(Duration::from_millis(after_ms));
        run.kill().expect("killed");
        run.wait().expect("ended");

        let cleaned = Command::new(BINARY).args(["clean", "--root-cgroup", &name]).output().expect("run");

        // Killed before it claimed its directory, there is nothing to clean and clean says so.
        let left = leftovers(&name).expect("looked");
        assert!(left.is_empty(), "killed after {after_ms} ms: {left:?}: {}", String::from_utf8_lossy(&cleaned.stderr));
    }
}

#[test]
fn disks_of_a_run_killed_at_any_moment_are_removed_by_clean() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let plan = folder.path().join("disks.yaml");
    std::fs::write(&plan, DISKS).expect("written");
    for attempt in 0..5 {
        let name = format!("vedette-test-disks{attempt}-{}", std::process::id());
        let after_ms: u64 = rand::random_range(100..6_000);
        let mut run = start_plan(&name, plan.to_str().expect("UTF-8"));
        std::thread::sleep(Duration::from_millis(after_ms));
        run.kill().expect("killed");
        run.wait().expect("ended");

        let cleaned = Command::new(BINARY).args(["clean", "--root-cgroup", &name]).output().expect("run");

        let left = leftovers(&name).expect("looked");
        assert!(left.is_empty(), "killed after {after_ms} ms: {left:?}: {}", String::from_utf8_lossy(&cleaned.stderr));
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(!mounts.contains(&name), "killed after {after_ms} ms");
    }
}

#[test]
fn a_living_run_is_not_cleaned() {
    if !is_root() {
        return;
    }
    let name = format!("vedette-test-alive-{}", std::process::id());
    let mut run = start(&name);
    std::thread::sleep(Duration::from_secs(2));

    let cleaned = Command::new(BINARY).args(["clean", "--root-cgroup", &name]).output().expect("run");

    assert!(!cleaned.status.success());
    assert!(String::from_utf8_lossy(&cleaned.stderr).contains("is alive"));
    kill_process(Pid::from_raw(i32::try_from(run.id()).expect("pid")).expect("pid"), Signal::TERM).expect("stopped");
    run.wait().expect("ended");
}

#[test]
fn no_program_sends_to_what_the_run_did_not_make() {
    let bounds = ["--allow", "10.213.9.0/24", "--host-namespace", "0"];
    let programs: [&[&str]; 5] = [
        &["connect", "--target", "192.0.2.1:80"],
        &["load", "--target", "127.0.0.1:80"],
        &["upload", "--target", "192.0.2.1:80", "--rate", "1", "--burst", "1", "--every", "1"],
        &["cache-client", "--target", "10.213.8.1:6379"],
        &["worker", "--target", "198.51.100.7:8080"],
    ];
    for program in programs {
        let output = behave(&[program, &bounds[..]].concat());

        assert!(!output.status.success(), "{program:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("refused"), "{program:?}");
    }
}

#[test]
fn no_program_sends_from_the_hosts_namespace() {
    let host = vedette_range::guard::own_namespace().expect("namespace").to_string();

    let output = behave(&["connect", "--sweep", "--allow", "10.213.9.0/24", "--host-namespace", &host]);

    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
}
