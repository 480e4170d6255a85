//! A stock Python client with reflection: lists the services, watches incidents, exports history.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;
use vedette_proto::v1::{Batch, ContainerAdded, ContainerRemoved, stream_request};
use vedette_tests::{
    aggregator::Aggregator,
    checkout,
    feeder::{Feed, Node},
    prerequisite,
};

const CONTAINERS: u32 = 3;
const SECONDS: u64 = 40;

/// A container that fails at once, four times in a row: a fact that takes no baseline to see.
fn crash(node: &Node, sequence: u64, container_ref: u32, restarts: u32) -> Batch {
    let mut batch = node.batch(sequence);
    let unix_ms = batch.block.as_ref().map_or(0, |block| block.unix_ms);
    batch.added.push(ContainerAdded {
        container_ref,
        pod_uid: "cccccccc-0000-4000-8000-000000000000".into(),
        container_id: format!("{container_ref:064x}"),
        cgroup: format!("/kubepods/besteffort/podcccccccc-0000-4000-8000-000000000000/{container_ref:064x}"),
        runtime: "containerd".into(),
        first_seen_unix_ms: unix_ms - 500,
        restarts,
        ..ContainerAdded::default()
    });
    batch.removed.push(ContainerRemoved { container_ref, unix_ms, pod_remains: true });
    batch
}

#[tokio::test]
async fn a_stock_python_client_lists_watches_and_exports() {
    let python = checkout::cache().join("python/bin/python");
    if !prerequisite::file(&python, "make prepare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let node = Node::new("python", CONTAINERS, SECONDS as i64);
    let mut feed = Feed::open(&aggregator, &node).await.unwrap();
    feed.deliver(&node, 1..=SECONDS).await.unwrap();
    for failure in 0..4 {
        let batch = crash(&node, SECONDS + 1 + u64::from(failure), 100 + failure, failure);
        feed.send(stream_request::Message::Batch(batch)).await.unwrap();
    }
    while feed.acknowledged < SECONDS + 4 {
        feed.receive().await.unwrap();
    }

    let client = checkout::root().join("tests/python/client.py");
    let asked = Command::new(python)
        .arg(client)
        .arg(format!("127.0.0.1:{}", aggregator.grpc.port()))
        .args([aggregator.ca_file(), aggregator.token_file()])
        .output()
        .unwrap();

    let errors = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{errors}\n{}", aggregator.process.log());
    let answer: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let services: Vec<_> = answer["services"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for service in ["Export", "Ingest", "Label", "Query"] {
        assert!(services.contains(&format!("vedette.v1.{service}Service").as_str()), "{services:?}");
    }
    assert!(services.contains(&"grpc.health.v1.Health"), "{services:?}");
    let rows = (SECONDS + 4) * u64::from(CONTAINERS);
    let usage: u64 =
        (1..=SECONDS + 4).map(|sequence| (1..=CONTAINERS).map(|container| sequence * 1_000 + u64::from(container)).sum::<u64>()).sum();
    assert_eq!(answer["csv_rows"], rows);
    assert_eq!(answer["csv_cpu_usage_us"], usage);
    assert_eq!(answer["jsonl_rows"], rows);
    assert_eq!(answer["seed_header"], serde_json::json!(["timestamp", "restarts", "cpu", "memory", "net_tx", "net_rx", "label"]));
    assert!(answer["seed_rows"].as_u64().unwrap() >= SECONDS / 10, "{answer}");
    assert_eq!(answer["parquet_is_parquet"], true);
    let watched = answer["changes"].as_array().unwrap();
    assert!(watched.iter().any(|change| change["incident"]["kind"] == "KIND_CRASH_LOOP"), "no crash loop among {watched:?}");
}
