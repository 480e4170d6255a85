//! Every recording of the checkout, replayed as fast as it goes: history and labels are what its manifest says, whatever happens.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use vedette_tests::{
    aggregator::{self, Aggregator},
    checkout, cli, prerequisite,
};

/// The recording of the demonstration is always there.
fn demonstration() -> PathBuf {
    checkout::root().join("cli/demo")
}

fn recordings() -> Vec<PathBuf> {
    let folder = checkout::root().join("recordings");
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|dir| dir.join("manifest.json").is_file()).collect();
    found.sort();
    found.insert(0, demonstration());
    found
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn replay<'a>(dir: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["replay", dir.to_str().unwrap(), "-o", "json"][..], more].concat()
}

#[tokio::test]
async fn every_recording_is_in_history_as_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();

    for dir in recordings() {
        let manifest = manifest(&dir);
        let told = cli::json_lines(&aggregator, replay(&dir, &[])).unwrap();

        let name = manifest["name"].as_str().unwrap();
        let count = |sql: &str| sql.replace("NAME", name);
        let number = async |sql: &str| aggregator.number(&count(sql)).await.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(
            (&told[0]["session"], &told[0]["observations"], &told[0]["labels"]),
            (&manifest["name"], &manifest["rows"], &manifest["labels"])
        );
        assert_eq!(
            number("SELECT count(*) FROM observations WHERE cluster = 'NAME' AND origin = 'replay'").await,
            manifest["rows"],
            "{name}"
        );
        let of_containers = "SELECT count(*) FROM observations WHERE cluster = 'NAME' AND container_id <> ''";
        assert_eq!(number(of_containers).await, manifest["container_rows"], "{name}");
        assert_eq!(number("SELECT count(*) FROM labels WHERE cluster = 'NAME'").await, manifest["labels"], "{name}");
        assert_eq!(number("SELECT count(*) FROM containers WHERE cluster = 'NAME'").await, manifest["containers"], "{name}");
        // Event times are the recording's own.
        let (started, ended) = (manifest["started_unix_ms"].as_i64().unwrap(), manifest["ended_unix_ms"].as_i64().unwrap());
        let outside = format!(
            "SELECT count(*) FROM observations WHERE cluster = 'NAME' AND \
             (time < to_timestamp_millis({}) OR time > to_timestamp_millis({}))",
            started - 5_000,
            ended + 5_000
        );
        assert_eq!(number(&outside).await, 0, "{name}");
        let named = "SELECT count(*) FROM containers WHERE cluster = 'NAME' AND owner_kind <> 'Pod' AND owner_name <> ''";
        assert_eq!(number(named).await, manifest["containers"], "{name}");
    }
}

#[tokio::test]
async fn the_same_replay_again_adds_nothing_and_another_session_everything() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let dir = demonstration();
    let rows = manifest(&dir)["rows"].clone();

    let first = cli::json_lines(&aggregator, replay(&dir, &["--session", "once"])).unwrap();
    let second = cli::json_lines(&aggregator, replay(&dir, &["--session", "once"])).unwrap();
    let third = cli::json_lines(&aggregator, replay(&dir, &["--session", "again", "--unlabelled", "--node", "demo-node"])).unwrap();

    assert_eq!((&first[0]["added"], &first[0]["resumed"]), (&first[0]["labels"], &Value::from(0)));
    assert_eq!(second[0]["added"], 0);
    assert!(second[0]["resumed"].as_u64().unwrap() > 300, "{second:?}");
    assert_eq!((&third[0]["observations"], &third[0]["added"]), (&rows, &Value::from(0)));
    for (session, labels) in [("once", first[0]["labels"].as_i64().unwrap()), ("again", 0)] {
        let count = format!("SELECT count(*) FROM observations WHERE cluster = '{session}'");
        assert_eq!(aggregator.number(&count).await.unwrap(), rows, "{session}");
        let count = format!("SELECT count(*) FROM labels WHERE cluster = '{session}'");
        assert_eq!(aggregator.number(&count).await.unwrap(), labels, "{session}");
    }
}

#[tokio::test]
async fn a_replay_that_was_stopped_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let dir = demonstration();
    let rows = manifest(&dir)["rows"].as_i64().unwrap();
    // At this speed it takes 20 s; it is stopped once something of it is there.
    let mut slow = cli::command(&aggregator, replay(&dir, &["--speed", "20"])).spawn().unwrap();
    let count = "SELECT count(*) FROM observations WHERE cluster = 'demo-replay'";
    while aggregator.number(count).await.unwrap() < 100 {
        assert_eq!(slow.try_wait().unwrap(), None);
    }
    slow.kill().unwrap();
    slow.wait().unwrap();
    let before = aggregator.number(count).await.unwrap();

    let told = cli::json_lines(&aggregator, replay(&dir, &[])).unwrap();

    assert!(before < rows, "{before} of {rows}");
    assert!(told[0]["resumed"].as_u64().unwrap() > 0, "{told:?}");
    assert_eq!(aggregator.number(count).await.unwrap(), rows);
    assert_eq!(aggregator.number("SELECT count(*) FROM labels WHERE cluster = 'demo-replay'").await.unwrap(), manifest(&dir)["labels"]);
}

/// What a replay says that must fail; it is one line.
fn refusal(aggregator: &Aggregator, arguments: Vec<&str>) -> String {
    let output = cli::run(aggregator, arguments).unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn what_is_no_whole_recording_is_refused_with_one_clear_line_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let change = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let copied = copy(&demonstration());
        let path = copied.path().join(file);
        fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
        copied
    };
    let text =
        |from: &'static str, to: &'static str| move |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replacen(from, to, 1).into_bytes();
    let cut = change("observations.parquet", &|mut bytes| bytes.split_off(bytes.len() / 2));
    let flipped = change("observations.parquet", &|mut bytes| {
        bytes[40_000] ^= 1;
        bytes
    });
    let said = change("labels.jsonl", &text("\"mining\"", "\"scan\"  "));
    let newer = change("manifest.json", &text("\"format\": 1", "\"format\": 2"));
    let counted = change("manifest.json", &text("\"rows\": 4459", "\"rows\": 4458"));
    let escaping = change("manifest.json", &text("\"labels.jsonl\"", "\"../labels.jsonl\""));
    let bare = tempfile::tempdir().unwrap();
    fs::copy(demonstration().join("observations.parquet"), bare.path().join("observations.parquet")).unwrap();

    let no_manifest = bare.path().join("observations.parquet");
    let demonstration = demonstration();
    let cases = [
        (replay(cut.path(), &[]), "observations.parquet has"),
        (replay(flipped.path(), &[]), "is not what the manifest says"),
        (replay(said.path(), &[]), "labels.jsonl is not what the manifest says"),
        (replay(newer.path(), &[]), "has format 2, this program reads format 1"),
        (replay(counted.path(), &[]), "has 4459 rows, the manifest says 4458"),
        (replay(escaping.path(), &[]), "../labels.jsonl"),
        (replay(bare.path(), &[]), "no manifest.json in it"),
        (replay(&no_manifest, &[]), "no manifest.json beside it"),
        (replay(Path::new("nowhere"), &[]), "nowhere"),
        (replay(&demonstration, &["--node", "other"]), "has no node other; it has demo-node"),
        (replay(&demonstration, &["--session", "test"]), "own cluster"),
        (replay(&demonstration, &["--session", "CAPITALS"]), "a-z"),
        (replay(&demonstration, &["--speed", "slow"]), "or max"),
    ];
    for (arguments, expected) in cases {
        let shown = format!("{arguments:?}");
        let output = cli::run(&aggregator, arguments.clone()).unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(expected), "{shown}: {told}");
        if !told.starts_with("error:") {
            assert_eq!(refusal(&aggregator, arguments), told);
        }
    }

    assert_eq!(aggregator.number("SELECT count(*) FROM observations").await.unwrap(), 0);
    assert_eq!(aggregator.number("SELECT count(*) FROM labels").await.unwrap(), 0);
}

#[tokio::test]
async fn a_session_that_holds_another_recording_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let dir = demonstration();
    let rows = manifest(&dir)["rows"].clone();
    cli::json_lines(&aggregator, replay(&dir, &[])).unwrap();
    // The same rows in another file: another recording.
    let other = copy(&dir);
    let path = other.path().join("observations.parquet");
    let output = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(16).position(|window| window == b"vedette-history ").unwrap();
    bytes[at] = b'V';
    fs::write(&path, bytes).unwrap();
    let output = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
    let changed = String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let manifest = fs::read_to_string(other.path().join("manifest.json")).unwrap().replace(&digest, &changed);
    fs::write(other.path().join("manifest.json"), manifest).unwrap();

    let told = refusal(&aggregator, replay(other.path(), &[]));

    assert!(told.contains("of another recording") && told.contains("--session"), "{told}");
    assert_eq!(aggregator.number("SELECT count(*) FROM observations").await.unwrap(), rows);
}

#[tokio::test]
async fn several_nodes_are_played_side_by_side_or_one_of_them_alone() {
    let python = checkout::cache().join("python/bin/python");
    if !prerequisite::file(&python, "make prepare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // What the signatures tell of the demonstration is known.
    let (grpc, http) = aggregator::configure(folder.path(), "[detect]\nmodel = \"none\"").unwrap();
    let aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    let dir = folder.path().join("two-nodes");
    let made = std::process::Command::new(python)
        .arg(checkout::root().join("tests/python/two_nodes.py"))
        .args([&demonstration(), &dir])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let rows = manifest(&demonstration())["rows"].as_i64().unwrap();

    let both = cli::json_lines(&aggregator, replay(&dir, &[])).unwrap();
    let one = cli::json_lines(&aggregator, replay(&dir, &["--session", "alone", "--node", "second-node"])).unwrap();

    assert_eq!((&both[0]["observations"], &one[0]["observations"]), (&Value::from(2 * rows), &Value::from(rows)));
    for (cluster, node, expected) in
        [("two-nodes", "demo-node", rows), ("two-nodes", "second-node", rows), ("alone", "second-node", rows), ("alone", "demo-node", 0)]
    {
        let count = format!("SELECT count(*) FROM observations WHERE cluster = '{cluster}' AND node = '{node}'");
        assert_eq!(aggregator.number(&count).await.unwrap(), expected, "{cluster} {node}");
    }
    // Two nodes that do the same at the same time are found twice, each for itself.
    let incidents = "SELECT count(*) FROM incidents WHERE cluster = 'two-nodes' AND nodes LIKE '%NODE%' AND kind <> 'normal'";
    for node in ["demo-node", "second-node"] {
        assert!(aggregator.number(&incidents.replace("NODE", node)).await.unwrap() >= 5, "{node}");
    }
}
