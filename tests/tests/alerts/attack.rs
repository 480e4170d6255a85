//! Fifty replicas of one workload in which something happens at once.

use std::{fs, path::Path};

use serde_json::json;
use vedette_proto::{
    Block, Column, Observation,
    v1::{Batch, stream_request::Message},
};
use vedette_tests::{
    aggregator::Aggregator,
    feeder::{Feed, Node, now_unix_ms},
};

pub const REPLICAS: u32 = 50;

/// A node with the replicas, whose first batch lies so many seconds in the past.
pub fn node(seconds: i64) -> Node {
    Node::new("worker-1", REPLICAS, seconds)
}

/// The lines that say who the replicas are, as configuration.
pub fn identity(folder: &Path, node: &Node) -> String {
    let pod = |(place, added): (usize, vedette_proto::v1::ContainerAdded)| {
        let pod = json!({"pod_uid": added.pod_uid, "namespace": "shop", "pod": format!("web-{place}"), "owner_kind": "Deployment", "owner_name": "web",
                         "containers": ["app"]});
        format!("{pod}\n")
    };
    let file = folder.join("identity.jsonl");
    fs::write(&file, node.added().into_iter().enumerate().map(pod).collect::<String>()).unwrap();
    // A test may take longer than silence does.
    format!("[detect]\nsilence_start_grace_seconds = 3600\n[identity]\nfile = {:?}\n", file.display().to_string())
}

/// What happens in them: the kernel kills a process for want of memory, in all of them at once, or it does not.
pub fn batch(node: &Node, sequence: u64, killed: bool) -> Batch {
    let mut row = Observation::default();
    row.set(Column::IntervalUs, 1_000_000);
    row.set(Column::CpuUsageUs, 10_000);
    row.set(Column::OomKills, u64::from(killed));
    let unix_ms = node.start_unix_ms + (i64::try_from(sequence).unwrap() - 1) * 1_000;
    let block = Block { unix_ms, container_refs: (1..=node.containers).collect(), rows: vec![row; node.containers as usize] };
    Batch { sequence, block: Some(block.encode()), ..Batch::default() }
}

/// Delivers batches, and waits until they are durable.
pub async fn deliver(aggregator: &Aggregator, node: &Node, sequences: std::ops::RangeInclusive<u64>, killed: bool) {
    assert!(node.start_unix_ms + i64::try_from(*sequences.end()).unwrap() * 1_000 <= now_unix_ms(), "not in the future");
    let mut feed = Feed::open(aggregator, node).await.unwrap();
    let last = *sequences.end();
    for sequence in sequences {
        feed.send(Message::Batch(batch(node, sequence, killed))).await.unwrap();
    }
    while feed.acknowledged < last {
        feed.receive().await.unwrap();
    }
}
