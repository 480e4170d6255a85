//! A model earns its place: two are compared on sessions that neither was made with, and the aggregator believes no other comparison.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;
use vedette_detect::{Classifier, PAGE_FROM, promotion::SESSIONS_LEARNT};
use vedette_forest::{Forest, Model, Node, Tree};
use vedette_tests::{
    aggregator::{self, Aggregator},
    checkout, cli, prerequisite,
};

/// As few as a comparison needs.
const SESSIONS: [&str; 5] = ["edge-01", "edge-02", "edge-03", "shop-01", "shop-02"];

/// A model of the test's own, which knows no session of these: the shipped trees, which page for nothing; or one leaf that calls everything ordinary.
fn model(folder: &Path, name: &str, is_deaf: bool) -> PathBuf {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let shipped = Classifier::shipped().unwrap();
    let mut description = shipped.model().description().clone();
    description.card.retain(|key, _| !key.starts_with("session"));
    description.card.insert(SESSIONS_LEARNT.to_owned(), "elsewhere-01".to_owned());
    description.card.insert(PAGE_FROM.to_owned(), "1".to_owned());
    let forest = if is_deaf {
        let normal = description.classes.iter().map(|class| f32::from(u8::from(class == "normal"))).collect();
        let deaf = Forest::new(description.columns.len(), description.classes.len(), &[Tree { nodes: vec![Node::Leaf(normal)] }]);
        deaf.unwrap()
    } else {
        shipped.model().forest().clone()
    };
    let path = folder.join(name);
    fs::write(&path, Model::new(description, forest).unwrap().to_bytes(&key)).unwrap();
    fs::write(folder.join(format!("{name}.pub")), key_of(&key)).unwrap();
    path
}

fn key_of(key: &Ed25519KeyPair) -> String {
    key.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A command that says everything it has to say: its exit code, and all of that.
fn say(aggregator: &Aggregator, arguments: &[&str]) -> (Option<i32>, String) {
    let output = cli::run(aggregator, arguments).unwrap();
    (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_better_model_is_promoted_and_a_worse_or_another_one_is_refused_with_the_reason() {
    let recordings = checkout::root().join("recordings");
    if !SESSIONS.iter().all(|session| prerequisite::file(&recordings.join(session).join("manifest.json"), "make recordings")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sessions = folder.path().join("sessions");
    fs::create_dir(&sessions).unwrap();
    SESSIONS.iter().for_each(|session| symlink(recordings.join(session), sessions.join(session)).unwrap());
    let sessions = sessions.display().to_string();
    let (deaf, keen) = (model(folder.path(), "deaf.vdtm", true), model(folder.path(), "keen.vdtm", false));
    let key = fs::read_to_string(folder.path().join("deaf.vdtm.pub")).unwrap();
    let more = format!("[detect]\nmodel = {:?}\nmodel_keys = [{key:?}]\n", deaf.display().to_string());
    let (grpc, http) = aggregator::configure(folder.path(), &more).unwrap();
    let aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    let say = |arguments: &[&str]| say(&aggregator, arguments);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let compare = |model: &str, against: &str, out: &str| {
        say(&["evaluate", "--recordings", &sessions, "--model", model, "--against", against, "--comparison-out", out])
    };

    // What serves is asked of the aggregator, key and all.
    let serving = path("serving.vdtm");
    assert_eq!(say(&["model", "show", "serving", "--out", &serving]).0, Some(0));
    let (better, worse) = (path("better.json"), path("worse.json"));
    let (passed, told) = compare(&path("keen.vdtm"), &serving, &better);
    assert_eq!(passed, Some(0), "{told}");
    assert!(told.contains("passed: vedette model promote"), "{told}");
    let written = json(Path::new(&better));
    let names: Vec<&str> = written["session_names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, SESSIONS);
    assert_eq!((&written["passed"], &written["resamplings"]), (&Value::from(true), &Value::from(10_000)));
    let scan = written["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "scan").unwrap();
    assert!(scan["told_by_model"].as_u64() > scan["told_by_against"].as_u64(), "{written}");

    // Better: it serves.
    let (keen_id, deaf_id) = (written["model"].as_str().unwrap(), written["against"].as_str().unwrap());
    assert_eq!(say(&["model", "add", keen.to_str().unwrap()]).0, Some(0));
    let (none, refused) = say(&["model", "promote", keen_id]);
    assert!(none == Some(1) && refused.contains("no comparison"), "{refused}");
    let (promoted, told) = say(&["model", "promote", keen_id, "--comparison", &better]);
    assert!(promoted == Some(0) && told.contains("serves now"), "{told}");

    // A comparison of another model: refused, and so is the same one the other way round.
    let (other, refused) = say(&["model", "promote", deaf_id, "--comparison", &better]);
    assert!(other == Some(1) && refused.contains(&format!("the comparison is of {keen_id}, not of {deaf_id}")), "{refused}");

    // Worse: the comparison says so, and the aggregator refuses with the kind that would suffer, also where somebody says that it passed.
    let (failed, told) = compare(&deaf.display().to_string(), &path("keen.vdtm"), &worse);
    assert!(failed == Some(1) && told.contains("fails: scan:"), "{told}");
    let mut lie = json(Path::new(&worse));
    lie["passed"] = true.into();
    fs::write(path("lie.json"), lie.to_string()).unwrap();
    for comparison in [&worse, &path("lie.json")] {
        let (refused, why) = say(&["model", "promote", deaf_id, "--comparison", comparison]);
        assert!(refused == Some(1) && why.contains("did not pass: ") && why.contains("scan:"), "{why}");
    }
    let serving: Value = serde_json::from_str(&say(&["model", "show", "serving", "-o", "json"]).1).unwrap();
    assert_eq!(serving["id"], keen_id);

    // Sessions that one of them was made with: none is left.
    let (unfair, why) = compare(&path("keen.vdtm"), "shipped", &path("unfair.json"));
    assert!(unfair == Some(1) && SESSIONS.iter().all(|session| why.contains(session)), "{why}");
    assert!(!Path::new(&path("unfair.json")).exists());
}
