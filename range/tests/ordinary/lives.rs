//! What looks like a crash loop: it heals. And what must never happen: children that outlive, and traffic to strangers.

use std::process::Command;

use super::range::{Range, seconds, soon};

#[tokio::test]
async fn what_heals_fails_as_often_as_asked_and_then_stays() {
    let Some(range) = Range::new("heal").await else { return };
    let web = range.run("web", "web --address {address}").await;

    let command = "--fails 3 --fail-after-ms 150 --start-ms 50 --every-ms 100";
    let heal = range.run("billing", &format!("heal --dir {{dir}} --target {} {command}", web.at(8080))).await;
    soon("it failed three times", || heal.pod.failures_since(0).len() == 3).await;
    soon("it lives again", || heal.pod.container_id().is_some() && !heal.processes().is_empty()).await;
    let healthy = heal.pod.container_id();
    soon("it works", || heal.eth0().received > 20_000).await;

    assert_eq!(heal.pod.container_id(), healthy);
    assert_eq!(heal.pod.failures_since(0).len(), 3, "a crash loop goes on");
    range.end().await;
}

#[tokio::test]
async fn a_rollout_starts_up_and_fails_never() {
    let Some(range) = Range::new("rollout").await else { return };
    let web = range.run("web", "web --address {address}").await;
    let old = range.run("billing", &format!("worker --target {} --every-ms 100", web.at(8080))).await;
    soon("the old one works", || old.eth0().received > 10_000).await;

    let new = range.run("billing", &format!("heal --dir {{dir}} --target {} --fails 0 --start-ms 400", web.at(8080))).await;
    soon("the new one works", || new.eth0().received > 4_096).await;
    let started = new.cpu_ms();
    old.pod.stop().await.expect("stopped");
    seconds(1.5).await;

    assert!(started >= 350, "starting up is work: {started} ms");
    assert!(new.cpu_ms() - started < started, "and over then");
    assert!(new.pod.failures_since(0).is_empty() && old.pod.failures_since(0).is_empty());
    range.end().await;
}

#[tokio::test]
async fn children_die_with_a_program_that_is_killed_inside_a_container() {
    let Some(range) = Range::new("orphans").await else { return };
    let host = range.run("session", "sidecar --address {address}").await;
    let alone = host.processes();

    let build = host.program("build --dir {dir} --jobs 6 --units 500 --unit-ms 2000 --seconds 60");
    let mut child = host.pod.exec(&build).expect("inside");
    soon("it has children", || host.processes().len() >= alone.len() + 5).await;
    child.kill().await.expect("killed");

    soon("all are gone", || host.processes() == alone).await;
    range.end().await;
}

#[test]
fn no_ordinary_program_sends_to_what_the_run_did_not_make() {
    let programs = [
        "load --target 192.0.2.1:80",
        "chain --address 127.0.0.1 --next 192.0.2.1:80",
        "log-shipper --file /nowhere --target 192.0.2.1:9100",
        "health-checks --target 192.0.2.1:80",
        "discovery --target 10.213.8.9:80 --resolver 192.0.2.1:53",
        "discovery --target 192.0.2.1:80",
        "resync --target 192.0.2.1:443",
        "sale --target 192.0.2.1:80",
        "backup --dir /nowhere --target 192.0.2.1:9100",
        "image-push --target 192.0.2.1:9100",
        "heal --dir /nowhere --target 192.0.2.1:80",
        "program --recipe redis --dir /nowhere --address 192.0.2.1",
        "program --recipe redis --dir /nowhere --address 0.0.0.0",
        "program --recipe pgbench --dir /nowhere --target 192.0.2.1:5432",
    ];
    for program in programs {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vedette-range"));
        command.env_remove("RUST_BACKTRACE").arg("behave").args(program.split(' ')).args([
            "--allow",
            "10.213.8.0/24",
            "--host-namespace",
            "0",
        ]);

        let output = command.output().expect("run");

        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{program}");
        assert!(complaint.contains("refused: "), "{program}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{program}: {complaint}");
    }
}
