//! Plans on the real kernel: what the injector writes down is what the plan said, placement by placement. Needs root.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use vedette_range::clean::leftovers;

const BINARY: &str = env!("CARGO_BIN_EXE_vedette-range");

/// Whether this machine can run a backend; if not, that is said.
fn possible(backend: &str) -> bool {
    let installed = |name: &str| ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(name).exists());
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if backend == "containerd" && !(installed("containerd") && installed("runc")) {
        "containerd and runc"
    } else {
        return true;
    };
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "this test needs {missing}");
    eprintln!("SKIPPED: this test needs {missing}");
    false
}

/// Runs a plan to its end; the schedule.
fn schedule(name: &str, plan: &str, backend: &str, more: &[&str]) -> Option<Value> {
    if !possible(backend) {
        return None;
    }
    let root = format!("vedette-test-{name}-{backend}-{}", std::process::id());
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("schedule.json");
    let mut command = Command::new(BINARY);
    command.args(["run", "--plan", plan, "--backend", backend, "--root-cgroup", &root]).args(more).arg("--schedule-out").arg(&file);

    let output = command.stdin(Stdio::null()).output().expect("run");

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(leftovers(&root).expect("looked"), Vec::<PathBuf>::new());
    let schedule: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("schedule")).expect("JSON");
    assert_eq!(schedule["backend"], backend);
    Some(schedule)
}

/// The same with a plan of this file.
fn schedule_of(name: &str, plan: &str, backend: &str, more: &[&str]) -> Option<Value> {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("plan.yaml");
    std::fs::write(&file, plan).expect("written");
    schedule(name, file.to_str().expect("UTF-8"), backend, more)
}

fn list<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().unwrap_or_else(|| panic!("{field} is no list"))
}

fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_else(|| panic!("{field} is no number"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is no text"))
}

#[test]
fn the_original_session_runs_with_its_phases() {
    let Some(schedule) = schedule("seed", "seed-session-short", "local", &[]) else { return };

    is_the_original_session(&schedule);
}

#[test]
fn the_original_session_runs_with_its_phases_in_a_containerd() {
    let Some(schedule) = schedule("seed", "seed-session-short", "containerd", &[]) else { return };

    is_the_original_session(&schedule);
}

fn is_the_original_session(schedule: &Value) {
    let phases = list(schedule, "phases");
    let names: Vec<_> = phases.iter().map(|phase| text(phase, "name")).collect();
    let expected = [
        "normal",
        "mining",
        "normal after mining",
        "scan",
        "normal after scan",
        "dos",
        "normal after dos",
        "crash loop",
        "normal after crash loop",
        "exfiltration",
        "normal after exfiltration",
    ];
    assert_eq!(names, expected);
    let begin = number(&phases[0], "start_unix_ms");
    for (place, pair) in phases.windows(2).enumerate() {
        assert_eq!(number(&pair[0], "stop_unix_ms"), number(&pair[1], "start_unix_ms"));
        // A clock that is late is a busy machine; one that is early is wrong.
        let at = i64::try_from(place + 1).expect("small") * 5_000;
        assert!(number(&pair[1], "start_unix_ms") - begin >= at - 10, "{} began early", names[place + 1]);
    }

    let episodes = list(schedule, "episodes");
    let kinds: Vec<_> = episodes.iter().map(|episode| text(episode, "kind")).collect();
    assert_eq!(kinds, ["mining", "scan", "flood", "crash_loop", "exfiltration"]);
    for episode in episodes {
        let phase = phases.iter().find(|phase| phase["name"] == episode["phase"]).expect("its phase");
        assert!(number(episode, "start_unix_ms") >= number(phase, "start_unix_ms"), "{episode}");
        assert!(number(episode, "stop_unix_ms") > number(episode, "start_unix_ms"), "{episode}");
        assert_eq!(text(episode, "ended_early"), "", "{episode}");
        assert!(!list(episode, "spans").is_empty(), "{episode}");
    }
    let crash = &episodes[3];
    assert!(list(crash, "container_ids").len() >= 3, "{crash}");
    assert!(number(crash, "onset_unix_ms") > number(crash, "start_unix_ms"), "a crash loop is known from its third failure on");
    let flood = &episodes[2];
    assert_eq!(text(flood, "owner_name"), "web");
    let mut touched: Vec<_> =
        list(schedule, "affected").iter().filter(|one| one["kind"] == "flood").map(|one| text(one, "owner_name")).collect();
    touched.retain(|owner| *owner == "load-web" || *owner == "load-api");
    assert_eq!(touched, ["load-web"], "only the victim's own load is touched");
}

/// Every placement, every way to start something, and a disk, in a quarter of a minute.
const PLACEMENTS: &str = r#"
name: placements
description: for tests
backoff: 1s
workloads:
  web: {program: {behaviour: web, address: "@self"}}
  one: {program: {behaviour: worker, target: "@web:8080"}}
  two: {replicas: 2, program: {behaviour: worker, target: "@web:8080"}}
  # Large enough: the batch job would fail on a full disk, and take what runs beside it along.
  disk: {disk: 64MiB, program: {behaviour: batch, dir: "@work", work_seconds: 1, rest_seconds: 1}}
  three: {program: {behaviour: worker, target: "@web:8080"}}
  four: {program: {behaviour: worker, target: "@web:8080"}}
  store: {program: {behaviour: store, address: "@self"}}
  writer: {program: {behaviour: log-writer, file: "@shared/one.log", rate: 100}}
  shipper: {program: {behaviour: log-shipper, file: "@shared/one.log", target: "@store:9100"}}
targets: {service: ["@web:8080"]}
new_pods: {program: {behaviour: worker, target: "@web:8080"}}
acts:
  work:
    kind: mining
    role: look-alike
    says: works
    do: {program: {behaviour: worker, target: $service}}
  fill:
    kind: disk_fill
    role: attack
    says: fills
    do: {program: {behaviour: disk-fill, dir: "@work", mib_per_second: 4}}
    placebo: {program: {behaviour: disk-fill, dir: "@work", most_mib: 1}}
    needs: {disk: 64MiB}
phases:
  - name: all
    lasts: 14s
    episodes:
      - {act: mining-sha256, placement: new, at: 1s, lasts: 4s}
      - {act: mining-sha256, in: two, placement: replicas, at: 1s, lasts: 4s}
      - {act: fill, in: disk, at: 1s, lasts: 6s}
      - {act: work, in: one, placement: rollout, at: 7s, lasts: 4s}
      - {act: crash-exit, in: three, at: 1s, lasts: 6s, intensity: {after_ms: 200}}
      - {act: rollout, in: four, at: 2s, lasts: 8s}
"#;

#[test]
fn every_placement_is_written_down_as_it_was() {
    let Some(schedule) = schedule_of("placements", PLACEMENTS, "local", &[]) else { return };

    is_every_placement(&schedule);
}

#[test]
fn every_placement_is_written_down_as_it_was_in_a_containerd() {
    let Some(schedule) = schedule_of("placements", PLACEMENTS, "containerd", &[]) else { return };

    is_every_placement(&schedule);
}

fn is_every_placement(schedule: &Value) {
    let pods_of = |owner: &str| -> Vec<String> {
        list(schedule, "pods").iter().filter(|pod| pod["owner_name"] == owner).map(|pod| text(pod, "pod_uid").to_owned()).collect()
    };
    let episode = |act: &str, placement: &str| {
        let mut found = list(schedule, "episodes").iter().filter(|one| one["act"] == act && one["placement"] == placement);
        found.next().unwrap_or_else(|| panic!("no {act} placed {placement}"))
    };
    let span_pods = |episode: &Value| -> Vec<String> {
        let mut pods: Vec<_> = list(episode, "spans").iter().map(|span| text(span, "pod_uid").to_owned()).collect();
        pods.dedup();
        pods
    };
    assert_eq!(list(schedule, "episodes").len(), 6);

    let new = episode("mining-sha256", "new");
    let life = list(schedule, "lives").iter().find(|life| life["pod_uid"] == new["pod_uid"] && life["sandbox"] == false).expect("its life");
    let span = &list(new, "spans")[0];
    assert_eq!(number(span, "start_unix_ms"), number(life, "born_unix_ms"), "bad from its first instant");

    assert_eq!(span_pods(episode("mining-sha256", "replicas")), pods_of("two"));

    let rolled = episode("work", "rollout");
    let ones = pods_of("one");
    assert_eq!(ones.len(), 2, "the pod was replaced");
    assert_eq!(span_pods(rolled), ones[1..], "what follows a rollout is in the new pod");
    assert_eq!((text(rolled, "role"), &rolled["attack"]), ("look-alike", &Value::Bool(false)));

    assert_eq!(span_pods(episode("rollout", "inside")), pods_of("four"));
    assert_eq!(pods_of("four").len(), 2);

    let crash = episode("crash-exit", "inside");
    assert!(list(crash, "container_ids").len() >= 3, "{crash}");
    let after = list(schedule, "lives").iter().rfind(|life| life["pod_uid"] == crash["pod_uid"]).expect("lives");
    assert_eq!(after["failed"], false, "its own program is back at the end: {after}");

    let fill = episode("fill", "inside");
    assert_eq!(text(fill, "ended_early"), "", "it fills a disk of its own: {fill}");

    let normal: Vec<_> =
        list(schedule, "normal").iter().filter(|normal| normal["episode"] != "").map(|normal| text(normal, "episode")).collect();
    assert!(normal.contains(&"work") && normal.contains(&"rollout"), "look-alikes are normal by their names: {normal:?}");
    assert!(!normal.iter().any(|name| name.starts_with("mining")), "attacks are not: {normal:?}");
}

/// On and off by a behaviour of its own, and by being started and stopped.
const BURSTS: &str = r#"
name: bursts
description: for tests
workloads:
  web: {program: {behaviour: web, address: "@self"}}
  one: {program: {behaviour: worker, target: "@web:8080"}}
  two: {program: {behaviour: worker, target: "@web:8080"}}
targets: {service: ["@web:8080"]}
acts:
  work: {kind: mining, role: look-alike, says: works, do: {program: {behaviour: worker, target: $service}}}
phases:
  - name: all
    lasts: 100s
    episodes:
      - {act: mining-sha256, in: one, placement: on_off, at: 10s, lasts: 80s}
      - {act: work, in: two, placement: on_off, at: 10s, lasts: 80s}
"#;

#[test]
fn on_and_off_is_on_and_off_ten_times_as_fast() {
    let Some(schedule) = schedule_of("bursts", BURSTS, "local", &["--speed", "10"]) else { return };

    for episode in list(&schedule, "episodes") {
        let bursts = list(episode, "bursts");
        assert_eq!(bursts.len(), 4, "{episode}");
        for burst in bursts {
            assert!(number(burst, "start_unix_ms") >= number(episode, "start_unix_ms"), "{episode}");
            assert!(number(burst, "stop_unix_ms") <= number(episode, "stop_unix_ms"), "{episode}");
        }
    }
    assert_eq!(schedule["speed"], 10.0);
}

/// A disk that is filled below a program that writes to it, and an episode that keeps its files where its host does.
const ROOMS: &str = r#"
name: rooms
description: for tests
backoff: 1s
workloads:
  logs: {disk: 64MiB, program: {behaviour: log-writer, file: "@work/app.log", rate: 100}}
  store: {program: {behaviour: compaction, dir: "@work", segment_mib: 1, rate_mib: 1, seconds: 600}}
acts:
  fill:
    kind: disk_fill
    role: attack
    says: fills
    do: {program: {behaviour: disk-fill, dir: "@work", mib_per_second: 64}}
    placebo: {program: {behaviour: disk-fill, dir: "@work", most_mib: 1}}
    needs: {disk: 64MiB}
  merge:
    kind: disk_fill
    role: look-alike
    says: merges
    do: {program: {behaviour: compaction, dir: "@work", segment_mib: 1, rate_mib: 1}}
phases:
  - name: all
    lasts: 14s
    episodes:
      - {act: fill, in: logs, placement: inside, at: 1s, lasts: 5s}
      - {act: merge, in: store, placement: inside, at: 1s, lasts: 8s}
"#;

#[test]
fn a_disk_that_was_filled_has_room_again_and_an_episode_has_its_own_files() {
    let Some(schedule) = schedule_of("rooms", ROOMS, "local", &[]) else { return };

    has_rooms(&schedule);
}

#[test]
fn a_disk_that_was_filled_has_room_again_and_an_episode_has_its_own_files_in_a_containerd() {
    let Some(schedule) = schedule_of("rooms", ROOMS, "containerd", &[]) else { return };

    has_rooms(&schedule);
}

fn has_rooms(schedule: &Value) {
    let episodes = list(schedule, "episodes");
    let episode = |act: &str| episodes.iter().find(|one| one["act"] == act).unwrap_or_else(|| panic!("no {act}"));
    let lives_of = |pod: &Value| -> Vec<&Value> {
        list(schedule, "lives").iter().filter(|life| life["pod_uid"] == *pod && life["sandbox"] == false).collect()
    };
    let host = lives_of(&episode("fill")["pod_uid"]);
    assert!(host.len() >= 2 && host[0]["failed"] == true, "the disk was full: {host:?}");
    assert_eq!(host[host.len() - 1]["failed"], false, "and is not any more: {host:?}");

    let merge = episode("merge");
    assert_eq!(text(merge, "ended_early"), "", "the host's lock is another one: {merge}");
    let host = lives_of(&merge["pod_uid"]);
    assert_eq!(host.len(), 1, "nobody took its files: {host:?}");
}

/// Two episodes in a container that fails now and then: one that finds it in back-off and then running, one that finds it in back-off only.
const BACK_OFF: &str = r#"
name: back-off
description: for tests
backoff: 6s
workloads:
  web: {program: {behaviour: web, address: "@self"}}
  one: {program: {behaviour: fail, after_ms: 1000}}
targets: {service: ["@web:8080"]}
acts:
  work: {kind: mining, role: look-alike, says: works, do: {program: {behaviour: worker, target: $service}}}
  more: {kind: mining, role: look-alike, says: works, do: {program: {behaviour: worker, target: $service}}}
phases:
  - name: all
    lasts: 16s
    episodes:
      - {act: work, in: one, placement: inside, at: 5s, lasts: 7s}
      - {act: more, in: one, placement: inside, at: 13s, lasts: 2s}
"#;

#[test]
fn a_container_in_back_off_is_waited_for_and_what_never_ran_is_not_recorded() {
    let Some(schedule) = schedule_of("back-off", BACK_OFF, "local", &[]) else { return };

    waits_for_containers(&schedule);
}

#[test]
fn a_container_in_back_off_is_waited_for_and_what_never_ran_is_not_recorded_in_a_containerd() {
    let Some(schedule) = schedule_of("back-off", BACK_OFF, "containerd", &[]) else { return };

    waits_for_containers(&schedule);
}

fn waits_for_containers(schedule: &Value) {
    let episodes = list(schedule, "episodes");
    let [work] = episodes.as_slice() else { panic!("one of two ran: {episodes:?}") };
    assert_eq!(text(work, "act"), "work");
    let [span] = list(work, "spans").as_slice() else { panic!("it ran in one life: {work}") };
    let life = list(schedule, "lives").iter().find(|life| life["container_id"] == span["container_id"]).expect("its life");
    assert!(number(work, "start_unix_ms") >= number(life, "born_unix_ms"), "it began in {life}: {work}");
    assert_eq!(number(span, "start_unix_ms"), number(work, "start_unix_ms"));
    assert!(number(work, "stop_unix_ms") <= number(life, "gone_unix_ms"), "it ended with {life}: {work}");
}
