//! `kill -9` of a process that appends and seals: whatever it acknowledged is there exactly once.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use crate::support::{SPOOL, START, ask, batch, config, subject};
use vedette_history::{Config, History};

const DIR: &str = "VEDETTE_TEST_HISTORY";

fn small(dir: &std::path::Path) -> Config {
    // A segment is full after ten batches, so that nearly every instant is one of sealing.
    Config { seal_rows: 20, ..config(dir) }
}

/// The process that is killed: appends from where it is, says each acknowledged sequence, seals and merges meanwhile.
async fn append_until_killed(dir: &std::path::Path) {
    let history = History::open(small(dir)).await.unwrap();
    let subjects = [subject("web"), subject("db")];
    let first = history.acknowledged("node-a", &SPOOL) + 1;
    let maintaining = history.clone();
    tokio::spawn(async move {
        loop {
            maintaining.maintain(START + 7_200_000, &[]).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for sequence in first.. {
        history.append(batch(&subjects, sequence, START + sequence as i64)).await.unwrap();
        println!("\nacknowledged {sequence}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_there_once() {
    // The test starts itself as the process that it kills.
    if let Some(dir) = std::env::var_os(DIR) {
        return append_until_killed(dir.as_ref()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut told = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::what_was_acknowledged_before_a_kill_is_there_once", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let until = told + 13 + round * 7;
        // The pipe stays open: a child that cannot print would end by itself.
        while let Some(Ok(line)) = lines.next() {
            if let Some(sequence) = line.strip_prefix("acknowledged ") {
                told = sequence.parse().unwrap();
            }
            if told >= until {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told >= until, "the process ended by itself at {told}");

        let history = History::open(small(dir.path())).await.unwrap();

        let acknowledged = history.acknowledged("node-a", &SPOOL);
        assert!(acknowledged >= told, "{told} was acknowledged, {acknowledged} is stored");
        let sql = "SELECT count(*), count(distinct cpu_usage_us), max(cpu_usage_us) / 1000 FROM observations";
        let rows = acknowledged as i64 * 2;
        assert_eq!(ask(&history, sql).await.unwrap(), [[Some(rows), Some(rows), Some(acknowledged as i64)]]);
        history.close().await.unwrap();
        told = acknowledged;
    }
}
