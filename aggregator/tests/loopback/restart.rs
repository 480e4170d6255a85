//! What the aggregator still knows after a restart: nodes that were there, and incidents that were open.

use vedette_aggregator::serve::{self, Aggregator};
use vedette_proto::{
    Block, Column, Observation,
    v1::{self, query_service_client::QueryServiceClient, stream_request::Message},
};

use crate::harness::{Agent, batch, channel, config, hello, message, now, start, token, with_token};

type Query = QueryServiceClient<tonic::transport::Channel>;

async fn query(aggregator: &Aggregator, dir: &std::path::Path) -> Query {
    QueryServiceClient::new(channel(aggregator, dir).await)
}

async fn incidents(query: &mut Query, dir: &std::path::Path) -> Vec<v1::Incident> {
    let request = with_token(v1::ListIncidentsRequest::default(), &token(dir, "admin.token"));
    query.list_incidents(request).await.unwrap().into_inner().incidents
}

/// Waits for incidents that are as wanted; the clock decides, so it may take as long as it takes.
async fn until(query: &mut Query, dir: &std::path::Path, wanted: impl Fn(&[v1::Incident]) -> bool) -> Vec<v1::Incident> {
    for _ in 0..600 {
        let found = incidents(query, dir).await;
        if wanted(&found) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("not within a minute: {:?}", incidents(query, dir).await);
}

/// Silence is judged quickly, so that a test need not wait for it.
async fn impatient(dir: &std::path::Path) -> Aggregator {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = config(dir);
    config.policy.observe_days = 0;
    config.detect.silence_start_grace_seconds = 2;
    config.detect.silence_ticket_seconds = 2;
    config.detect.silence_page_seconds = 4;
    serve::start(config).await.unwrap()
}

#[tokio::test]
async fn a_node_that_dies_while_the_aggregator_is_down_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let before = channel(&aggregator, dir.path()).await;
    let secret = token(dir.path(), "agent.token");
    let mut agents = Vec::new();
    for (node, leaves) in [("dies", false), ("leaves", true), ("returns", false)] {
        let (mut agent, _) = Agent::greet(&before, &secret, hello(node, node.as_bytes()[0])).await.unwrap();
        agent.batch(batch(1)).await;
        agent.acknowledged(1).await.unwrap();
        if leaves {
            agent.send(message(Message::Goodbye(v1::Goodbye { reason: "scaled down".into() }))).await;
            agent.ended().await.unwrap();
        }
        agents.push(agent);
    }
    aggregator.stop().await;
    drop(agents);

    let aggregator = impatient(dir.path()).await;
    let after = channel(&aggregator, dir.path()).await;
    let (returned, _) = Agent::greet(&after, &secret, hello("returns", b'r')).await.unwrap();
    let heartbeats = tokio::spawn(async move {
        loop {
            let beat = v1::Heartbeat { unix_ms: now(), sensor_ready: true, ..v1::Heartbeat::default() };
            returned.send(message(Message::Heartbeat(beat))).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    let mut query = query(&aggregator, dir.path()).await;
    let paged = until(&mut query, dir.path(), |found| found.iter().any(|one| one.severity() == v1::Severity::Page)).await;

    assert_eq!(paged.iter().map(|one| &one.nodes[..]).collect::<Vec<_>>(), [["dies"]]);
    assert_eq!(aggregator.shared.fleet.status().nodes_known, 3);
    heartbeats.abort();
    aggregator.stop().await;
}

#[tokio::test]
async fn an_open_incident_keeps_its_id_and_resolves_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let before = channel(&aggregator, dir.path()).await;
    let secret = token(dir.path(), "agent.token");
    let (mut agent, _) = Agent::greet(&before, &secret, hello("n1", 1)).await.unwrap();
    // Event time is what the agent says: a minute ago the kernel killed a process.
    let began = now() - 50_000;
    agent.batch(killed(1, began, true)).await;
    agent.acknowledged(1).await.unwrap();
    let mut asked = query(&aggregator, dir.path()).await;
    let opened = until(&mut asked, dir.path(), |found| found.len() == 1).await;
    aggregator.stop().await;

    let aggregator = start(dir.path()).await;
    let mut asked = query(&aggregator, dir.path()).await;
    let restored = incidents(&mut asked, dir.path()).await;
    let after = channel(&aggregator, dir.path()).await;
    let (mut agent, _) = Agent::greet(&after, &secret, hello("n1", 1)).await.unwrap();
    agent.batch(killed(2, began + 1_000, true)).await;
    for second in 2..=45 {
        agent.batch(killed(second as u64 + 1, began + second * 1_000, false)).await;
    }
    agent.acknowledged(46).await.unwrap();
    let resolved = until(&mut asked, dir.path(), |found| found[0].resolved_unix_ms > 0).await;

    assert_eq!((opened[0].id, restored[0].id, restored[0].resolved_unix_ms), (1, 1, 0));
    assert_eq!((resolved.len(), resolved[0].id), (1, 1));
    assert_eq!(resolved[0].resolved_unix_ms, began + 31_000);
    aggregator.stop().await;
}

fn killed(sequence: u64, unix_ms: i64, killed: bool) -> v1::Batch {
    let mut row = Observation::default();
    row.set(Column::IntervalUs, 1_000_000);
    row.set(Column::OomKills, u64::from(killed));
    let block = Block { unix_ms, container_refs: vec![1], rows: vec![row] };
    v1::Batch { sequence, block: Some(block.encode()), ..v1::Batch::default() }
}
