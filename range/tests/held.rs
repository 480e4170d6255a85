//! What the range's image does inside pods that a kubelet looks after: programs held by a connection, and containers whose program changes.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// A busy machine starts a process slowly.
const SOON: Duration = Duration::from_secs(10);

fn range(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vedette-range"));
    command.args(arguments).stderr(Stdio::null());
    command
}

/// A held program, its input, and its first word.
fn held(arguments: &[&str]) -> (Child, ChildStdin, BufReader<std::process::ChildStdout>, Value) {
    let mut child = range(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let began = word(&mut lines);
    (child, stdin, lines, began)
}

fn word(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

const IDLE: [&str; 5] = ["--milliseconds=60000", "--", "behave", "idle", "--seconds=60"];

#[test]
fn a_program_ends_when_it_is_let_go_and_its_room_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let room = folder.path().join("of-mining");
    let flag = format!("--room={}", room.display());
    let (mut child, mut stdin, mut lines, began) = held(&[&["held", &flag][..], &IDLE].concat());
    assert!(room.is_dir());
    let asked = Instant::now();

    stdin.write_all(b"enough\n").unwrap();
    let ended = word(&mut lines);

    assert!(child.wait().unwrap().success() && asked.elapsed() < SOON);
    assert!(ended["early"].is_null() && ended["ended_unix_ms"].as_i64() >= began["began_unix_ms"].as_i64(), "{began} {ended}");
    assert!(!room.exists());
}

#[test]
fn a_program_does_not_outlive_the_connection_that_holds_it() {
    let (mut child, stdin, mut lines, _) = held(&[&["held"][..], &IDLE].concat());
    let asked = Instant::now();

    drop(stdin);
    let ended = word(&mut lines);

    assert!(child.wait().unwrap().success() && asked.elapsed() < SOON);
    assert!(ended["early"].is_null(), "{ended}");
}

#[test]
fn an_end_of_its_own_is_told_with_its_status() {
    let (mut child, _stdin, mut lines, _) = held(&["held", "--milliseconds=60000", "--", "behave", "fail", "--after-ms=50"]);

    let ended = word(&mut lines);

    assert!(child.wait().unwrap().success());
    assert_eq!(ended["early"], "exit status: 1", "{ended}");
}

#[test]
fn a_container_has_one_program_per_life_and_ends_as_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let book = format!("--book={}", folder.path().join("lives").display());
    let life = || {
        let lives = [r#"--life=["behave","fail","--after-ms=50"]"#, r#"--life=["behave","idle","--seconds=0"]"#];
        let output: Output = range(&["keep", &book, lives[0], lives[1]]).output().unwrap();
        output.status.code()
    };

    let codes = [life(), life(), life()];

    assert_eq!(codes, [Some(1), Some(0), Some(0)]);
}
