//! House rules that no lint knows, each with its reason.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf, process::Command};

use vedette_tests::checkout;

/// A file that cannot be read in one sitting; the reason to split it comes with this number.
const MOST_LINES: usize = 800;
/// From here on a file is asked whether it is one thing; said, not failed.
const MANY_LINES: usize = 400;

/// Tracked files with one of these endings, as (path below the checkout, text).
fn tracked(endings: &[&str]) -> Vec<(String, String)> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(checkout::root()).output().unwrap();
    assert!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<_> = names
        .split('\0')
        .filter(|name| !name.is_empty() && endings.iter().any(|ending| name.ends_with(ending)))
        .filter_map(|name| Some((name.to_owned(), fs::read_to_string(checkout::root().join(name)).ok()?)))
        .collect();
    assert!(!files.is_empty(), "no tracked file ends with {endings:?}");
    files
}

fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn every_rust_file_opens_with_a_sentence_about_itself() {
    let silent: Vec<_> = tracked(&[".rs"]).into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();

    none(&silent, "a reader wants to know first what the file holds");
}

#[test]
fn no_file_is_named_for_nothing() {
    let vague: Vec<_> = tracked(&[""])
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| {
            let stem = PathBuf::from(path).file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
            path.split('/')
                .map(str::to_lowercase)
                .chain([stem])
                .any(|part| ["util", "utils", "helper", "helpers", "common", "misc"].contains(&part.as_str()))
        })
        .collect();

    none(&vague, "a file is named for the one thing it holds");
}

#[test]
fn every_rust_file_can_be_read_in_one_sitting() {
    let mut endless = Vec::new();
    for (path, text) in tracked(&[".rs"]) {
        let lines = text.lines().count();
        if lines > MANY_LINES {
            eprintln!("{path}: {lines} lines: is it one thing?");
        }
        if lines > MOST_LINES {
            endless.push(format!("{path}: {lines} lines"));
        }
    }

    none(&endless, "split by noun");
}

#[test]
fn nothing_tracked_knows_a_machine_or_a_registry() {
    // Put together here, or this file would be the first to break the rule.
    let folders = ["work", "farm", "root"].map(|name| format!("/{name}/"));
    let hosts = [["crates", "io/"], ["pypi", "org"], ["registry.npmjs", "org"], ["deb.debian", "org"]].map(|parts| parts.join("."));
    let allowed_before = |character: char| character.is_alphanumeric() || "._}-)\"".contains(character);
    let mut found = Vec::new();
    for (path, text) in tracked(&[""]) {
        if path == "Cargo.lock" || path.ends_with("package-lock.json") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let folder =
                folders.iter().any(|folder| line.match_indices(folder.as_str()).any(|(at, _)| !line[..at].ends_with(allowed_before)));
            if folder || hosts.iter().any(|host| line.contains(host.as_str())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }

    none(&found, "a fresh clone works anywhere, with whatever registry it is given");
}

#[test]
fn nothing_tracked_is_put_off() {
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|parts| parts.concat());
    let macros = [["todo", "!("], ["unimplemented", "!("]].map(|parts| parts.concat());
    let mut found = Vec::new();
    for (path, text) in tracked(&[".rs", ".proto", ".toml", ".sh", ".py", ".md"]) {
        for (number, line) in text.lines().enumerate() {
            let word = line.split(|character: char| !character.is_alphanumeric()).any(|part| words.iter().any(|word| word == part));
            if word || macros.iter().any(|name| line.contains(name.as_str())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }

    none(&found, "what is unfinished is an issue, or plainly stated in the docs");
}

#[test]
fn every_shipped_toml_file_parses() {
    let broken: Vec<_> = tracked(&[".toml"])
        .into_iter()
        .filter_map(|(path, text)| Some(format!("{path}: {}", text.parse::<toml::Table>().err()?)))
        .collect();

    none(&broken, "a shipped file can be used as it is");
}

#[test]
fn no_test_is_ignored() {
    let attribute = ["#[", "ignore"].concat();
    let ignored: Vec<_> = tracked(&[".rs"]).into_iter().filter(|(_, text)| text.contains(&attribute)).map(|(path, _)| path).collect();

    none(&ignored, "a test runs, or says why it cannot (vedette_tests::prerequisite)");
}

/// The value of a dotted key in a shipped configuration file.
fn shipped(path: &str, key: &str) -> String {
    let table: toml::Table = fs::read_to_string(checkout::root().join(path)).unwrap().parse().unwrap();
    let mut value = toml::Value::Table(table);
    for part in key.split('.') {
        value = value.get(part).unwrap_or_else(|| panic!("{path} has no {key}")).clone();
    }
    value.as_str().unwrap_or_else(|| panic!("{key} in {path} is not text")).to_owned()
}

#[test]
fn an_agent_looks_for_the_aggregator_where_it_listens() {
    let port = |address: String| address.rsplit(':').next().map(str::to_owned);

    let (listens, looks) = (shipped("aggregator/aggregator.toml", "grpc.listen"), shipped("agent/agent.toml", "uplink.endpoint"));

    assert_eq!(port(listens), port(looks));
}
