//! Crash loops: how a container ends is what the kernel says of it.

use std::os::unix::process::ExitStatusExt;

use vedette_proto::Column;

use crate::stage::{Stage, limits, said};

#[tokio::test]
async fn a_container_ends_by_its_code_or_by_a_fault() {
    let Some(stage) = Stage::make("ends").await else { return };

    let exit = stage.tries(limits(0, 0), &["fail", "--how", "exit", "--after-ms", "50"]).await;
    let fault = stage.tries(limits(0, 0), &["fail", "--how", "segfault", "--after-ms", "50"]).await;

    assert_eq!(exit.status.code(), Some(1), "{}", said(&exit));
    assert_eq!(fault.status.signal(), Some(11), "{:?} {}", fault.status, said(&fault));
    assert!(!fault.status.core_dumped());
    stage.end([]).await;
}

#[tokio::test]
async fn taking_more_memory_than_the_limit_is_an_oom_kill() {
    let Some(stage) = Stage::make("oom").await else { return };
    let host = stage.runs("invoice", limits(96, 64), &["idle", "--seconds", "600"]).await;

    let program = stage.program(&["fail", "--how", "oom", "--after-ms", "50"]);
    let output = stage.tries_inside(&host, &program.args).await;

    assert_eq!(output.status.signal(), Some(9), "{:?} {}", output.status, said(&output));
    let row = host.until("an OOM kill", |row, _| row.get(Column::OomKills) >= Some(1)).await;
    assert!(row.get(Column::MemoryLimitHits) >= Some(1), "{row:?}");
    assert_eq!(host.processes().len(), 1, "only the greedy one was killed");
    stage.end([host]).await;
}

#[tokio::test]
async fn a_container_that_fails_is_started_again_with_a_new_id() {
    let Some(stage) = Stage::make("again").await else { return };

    let failing = stage.runs("invoice", limits(96, 64), &["fail", "--how", "segfault", "--after-ms", "100"]).await;
    for _ in 0..800 {
        if failing.pod.failures_since(0).len() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    let mut ids = failing.pod.container_ids(0, i64::MAX);
    assert!(ids.len() >= 2);
    ids.dedup();
    assert_eq!(ids.len(), failing.pod.container_ids(0, i64::MAX).len());
    stage.end([failing]).await;
}
