//! `vedette simulate`: labels that are exactly what happened, clear errors, and nothing left behind however it ends. Needs root.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vedette_tests::{aggregator::Aggregator, process::Process};

/// The short plan takes 55 s; a busy machine starts and removes pods slowly.
const LIMIT: Duration = Duration::from_secs(240);

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: the range needs root");
    }
    root
}

/// Runs `vedette` to its end: whether it went well, and all that it printed.
fn vedette(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut process = Process::start("vedette", arguments, folder).unwrap();
    let status = process.wait(LIMIT).unwrap();
    let log = process.log();
    fs::remove_file(folder.join("vedette.log")).unwrap();
    (status.success(), log)
}

/// What a run of this name left: its directory and its cgroups.
fn left(root: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
    let places = hierarchies.chain([PathBuf::from("/sys/fs/cgroup"), PathBuf::from("/var/lib/vedette-range")]);
    places.map(|place| place.join(root)).filter(|place| place.exists()).collect()
}

fn name(test: &str) -> String {
    format!("vedette-test-{test}-{}", std::process::id())
}

#[test]
fn its_labels_are_the_phases_of_the_original_session() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let endpoint = format!("https://localhost:{}", aggregator.grpc.port());
    let data = folder.path().join("data").display().to_string();
    let file = folder.path().join("schedule.json");
    let (out, root) = (file.display().to_string(), name("labels"));
    let connect = ["--endpoint", &endpoint, "--data-dir", &data];

    let (well, said) = vedette(
        folder.path(),
        &[&["simulate", "seed-session-short", "--root-cgroup", &root, "--schedule-out", &out][..], &connect].concat(),
    );
    assert!(well, "{said}");
    let (well, labels) = vedette(folder.path(), &[&["label", "list", "-o", "json"][..], &connect].concat());

    assert!(well, "{labels}");
    let labels: Vec<Value> = serde_json::from_str(&labels).unwrap();
    let schedule: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let episodes = schedule["episodes"].as_array().unwrap();
    assert_eq!(episodes.len(), 5);
    let attacks: Vec<_> = labels.iter().filter(|label| label["kind"] != "normal" && label["affected"] != true).collect();
    // One per container; the crash loop's containers have one together.
    assert_eq!(attacks.len(), 5, "{attacks:#?}");
    for episode in episodes {
        let label = attacks.iter().find(|label| label["kind"] == episode["kind"]).unwrap();
        let text = label.to_string();
        for (field, value) in [("phase", &episode["phase"]), ("act", &episode["act"]), ("placement", &episode["placement"])] {
            assert!(text.contains(value.as_str().unwrap()), "no {field} {value} in {text}");
        }
    }
    assert!(labels.iter().any(|label| label["kind"] == "normal"));
    for phase in ["phase mining", "phase dos", "phase exfiltration", "phase normal after exfiltration"] {
        assert!(said.contains(phase), "{said}");
    }
    assert_eq!(left(&root), Vec::<PathBuf>::new());
}

#[test]
fn a_wrong_plan_is_one_clear_line_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.yaml");
    fs::write(&file, "name: mine\ndescription: x\nworkloads:\n  web: {program: {behaviour: web, adress: x}}\nphases: []\n").unwrap();
    let path = file.display().to_string();

    let (unknown, said) = vedette(folder.path(), &["simulate", "nothing", "--no-labels"]);
    let (wrong, shown) = vedette(folder.path(), &["simulate", &path, "--no-labels"]);

    assert!(!unknown && said.starts_with("vedette: no plan named \"nothing\": there are demo, ") && said.lines().count() == 1, "{said}");
    let expected = format!("vedette: plan {path}: workloads.web.program: unknown field `adress` of behaviour web, it has address, ");
    assert!(!wrong && shown.starts_with(&expected) && shown.contains("line 4") && shown.lines().count() == 1, "{shown}");
}

#[test]
fn a_dry_run_prints_what_would_happen_and_when() {
    let folder = tempfile::tempdir().unwrap();

    let (well, said) = vedette(folder.path(), &["simulate", "seed-session", "--dry-run"]);

    assert!(well, "{said}");
    assert!(said.contains("5m      5m     = mining") && said.contains("5 attacks ("), "{said}");
}

#[test]
fn control_c_removes_everything_and_says_so_by_its_exit_code() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = name("interrupted");
    let mut process = Process::start("vedette", ["simulate", "smoke", "--no-labels", "--root-cgroup", &root], folder.path()).unwrap();
    let log = folder.path().join("vedette.log");
    process.wait_for("the first phase", LIMIT, || fs::read_to_string(&log).is_ok_and(|said| said.contains("phase round 1"))).unwrap();

    kill_process(Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let status = process.wait(LIMIT).unwrap();

    assert!(!status.success());
    assert!(process.log().contains("vedette: stopped; what the run made is removed"), "{}", process.log());
    assert_eq!(left(&root), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_one_leaves_is_removed_by_clean() {
    if !is_root() {
        return;
    }
    for attempt in 0..3u64 {
        let folder = tempfile::tempdir().unwrap();
        let root = name(&format!("killed{attempt}"));
        let mut process = Process::start("vedette", ["simulate", "smoke", "--no-labels", "--root-cgroup", &root], folder.path()).unwrap();
        std::thread::sleep(Duration::from_millis(700 * (attempt + 1)));
        process.kill().unwrap();

        // The range notices by itself and removes what it made; until then it is alive, and clean says so.
        for _ in 0..600 {
            let (well, said) = vedette(folder.path(), &["simulate", "--clean", "--root-cgroup", &root]);
            if well || said.contains("no run named") {
                break;
            }
            assert!(said.contains("is alive"), "{said}");
            std::thread::sleep(Duration::from_millis(100));
        }

        assert_eq!(left(&root), Vec::<PathBuf>::new());
    }
}
