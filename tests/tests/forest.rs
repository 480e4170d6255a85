//! The export in the seed's layout is what the original's model was trained on: scikit-learn's random forest trains on it.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;
use vedette_tests::{aggregator::Aggregator, checkout, cli, prerequisite};

#[test]
fn scikit_learns_random_forest_trains_on_the_seed_export_of_a_replay() {
    let python = checkout::cache().join("python/bin/python");
    if !prerequisite::file(&python, "make prepare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let recording = checkout::root().join("cli/demo");
    cli::json_lines(&aggregator, ["replay", recording.to_str().unwrap(), "-o", "json"]).unwrap();
    let csv = folder.path().join("seed.csv");
    let export = ["export", "--layout", "seed", "--cluster", "demo-replay", "--out", csv.to_str().unwrap()];
    let exported = cli::run(&aggregator, export).unwrap();
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));

    let trained = Command::new(python).arg(checkout::root().join("tests/python/forest.py")).arg(&csv).output().unwrap();

    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let told: Value = serde_json::from_slice(&trained.stdout).unwrap();
    assert_eq!(told["columns"], serde_json::json!(["timestamp", "restarts", "cpu", "memory", "net_tx", "net_rx", "label"]));
    // 388 s of ten seconds each; five attacks of 26 s and more in each round, with pauses between.
    assert!((38..=42).contains(&told["rows"].as_u64().unwrap()), "{told}");
    assert!((15..=35).contains(&told["anomalies"].as_u64().unwrap()), "{told}");
    assert_eq!(told["classes"], serde_json::json!(["anomaly", "normal"]));
    assert!(told["accuracy_on_its_own_rows"].as_f64().unwrap() >= 0.95, "{told}");
    // Rows near each other are much alike: a figure for a test of plumbing, not of detection.
    assert!(told["accuracy_cross_validated"].as_f64().unwrap() > told["accuracy_of_always"].as_f64().unwrap(), "{told}");
    assert_eq!(told["importances"].as_object().unwrap().len(), 5);
}
