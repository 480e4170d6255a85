//! Stored history is judged like recordings are: by a model of the registry beside the one in service, and by what people labelled.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;
use vedette_detect::{Classifier, PAGE_FROM, TICKET_FROM};
use vedette_forest::Model;
use vedette_tests::{aggregator::Aggregator, checkout, cli};

/// The time of the demonstration's recording, as flags.
fn when(recording: &Path) -> [String; 4] {
    let manifest: Value = serde_json::from_str(&fs::read_to_string(recording.join("manifest.json")).unwrap()).unwrap();
    let at = |key: &str, more_ms: i64| {
        let unix_ms = manifest[key].as_i64().unwrap() + more_ms;
        jiff::Timestamp::from_millisecond(unix_ms).unwrap().to_string()
    };
    ["--since".into(), at("started_unix_ms", -1_000), "--until".into(), at("ended_unix_ms", 1_000)]
}

/// An aggregator that holds the demonstration's recording.
fn holding(folder: &Path, more: &[&str]) -> (Aggregator, [String; 4]) {
    let aggregator = Aggregator::start(folder).unwrap();
    let recording = checkout::root().join("cli/demo");
    let replay = [&["replay", recording.to_str().unwrap(), "-o", "json"], more].concat();
    cli::json_lines(&aggregator, replay).unwrap();
    (aggregator, when(&recording))
}

/// The shipped trees in a model that hardly ever tells anybody: its file, with its key beside it.
fn deaf(folder: &Path) -> String {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let shipped = Classifier::shipped().unwrap();
    let mut description = shipped.model().description().clone();
    description.card.extend([TICKET_FROM, PAGE_FROM].map(|key| (key.to_owned(), "1".to_owned())));
    let path = folder.join("deaf.vdtm");
    fs::write(&path, Model::new(description, shipped.model().forest().clone()).unwrap().to_bytes(&key)).unwrap();
    let digits: String = key.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.join("deaf.vdtm.pub"), digits).unwrap();
    path.display().to_string()
}

/// What a command says, as JSON, and what it says beside that.
fn ask(aggregator: &Aggregator, arguments: &[&str], when: &[String; 4]) -> (Value, String) {
    let arguments = arguments.iter().copied().chain(when.iter().map(String::as_str)).chain(["--cluster", "demo-replay", "-o", "json"]);
    let output = cli::run(aggregator, arguments).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")), err.into_owned())
}

#[test]
fn a_model_of_the_registry_is_played_over_history_beside_the_one_in_service() {
    let folder = tempfile::tempdir().unwrap();
    let (aggregator, when) = holding(folder.path(), &[]);
    let file = deaf(folder.path());
    assert!(cli::run(&aggregator, ["model", "add", &file]).unwrap().status.success());
    let listed = cli::run(&aggregator, ["model", "list", "-o", "json"]).unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = listed.as_array().unwrap().iter().find(|model| model["state"] == "idle").unwrap()["id"].as_str().unwrap();

    let (asked, said) = ask(&aggregator, &["backtest", "--model", id], &when);
    let (itself, _) = ask(&aggregator, &["backtest", "--model", "serving"], &when);

    let lines = |lines: &Value| lines.as_array().unwrap().clone();
    let told = |all: &Value| lines(all).into_iter().filter(|line| line["state"] != "gone").count();
    assert!(told(&asked) < told(&itself), "{asked:#} {itself:#}");
    let beside = format!("over the same rows {id} alone tells 0, the model in service alone ");
    assert!(said.contains(&beside) && !said.contains(&format!("{beside}0")), "{said}");
    assert!(lines(&asked).iter().all(|line| line["serving"].is_boolean()), "{asked:#}");
    assert!(lines(&itself).iter().all(|line| line["serving"].is_null()), "{itself:#}");
}

#[test]
fn labelled_history_is_evaluated_and_too_few_labels_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let (aggregator, when) = holding(folder.path(), &[]);

    let (figures, said) = ask(&aggregator, &["evaluate", "--history"], &when);

    assert!(said.contains("too few labels") && said.contains("mining"), "{said}");
    let value = |model: &str, metric: &str| {
        let of = |figure: &&Value| figure["model"] == model && figure["metric"] == metric && figure["dataset"] == "history";
        figures.as_array().unwrap().iter().find(of).and_then(|figure| figure["value"].as_f64())
    };
    let told = value("model in service", "attacks told").unwrap();
    assert!((0.2..=1.0).contains(&told), "{told}");
    assert!(value("signatures alone", "attacks told").is_some());
}

#[test]
fn history_that_nobody_labelled_cannot_be_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let (aggregator, when) = holding(folder.path(), &["--unlabelled"]);

    let arguments = ["evaluate", "--history", "--cluster", "demo-replay"].into_iter().chain(when.iter().map(String::as_str));
    let output = cli::run(&aggregator, arguments).unwrap();

    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && said.contains("nobody labelled anything"), "{said}");
}
