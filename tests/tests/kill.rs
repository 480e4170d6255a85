//! `kill -9` of either side, mid-stream: what was acknowledged is in history exactly once, what the agent holds is not lost.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, time::Duration};

use vedette_tests::{
    agent::{Agent, Setup},
    aggregator::Aggregator,
    feeder::{Feed, Node},
};

const ROUNDS: u64 = 3;
const PER_ROUND: u64 = 400;
const CONTAINERS: u32 = 20;

#[tokio::test]
async fn an_aggregator_killed_mid_stream_has_every_acknowledged_observation_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut aggregator = Aggregator::start(folder.path()).unwrap();
    let node = Node::new("killed", CONTAINERS, 1_800);

    for round in 0..ROUNDS {
        let mut feed = Feed::open(&aggregator, &node).await.unwrap();
        let first = feed.welcomed + 1;
        // Killed after half of them were sent: the second half is cut off somewhere.
        feed.deliver(&node, first..=first + PER_ROUND / 2).await.unwrap();
        let delivery = async { feed.deliver(&node, feed.acknowledged + 1..=first + PER_ROUND).await };
        let murder = async {
            tokio::time::sleep(Duration::from_millis(5 + 15 * round)).await;
            aggregator.process.kill()
        };
        let (_, killed) = tokio::join!(delivery, murder);
        killed.unwrap();
        let acknowledged = feed.acknowledged;

        aggregator = Aggregator::start_configured(folder.path(), aggregator.grpc, aggregator.http).unwrap();

        let mut feed = Feed::open(&aggregator, &node).await.unwrap();
        assert!(feed.welcomed >= acknowledged, "acknowledged {acknowledged}, but only {} are durable", feed.welcomed);
        // An agent that did not get the last acknowledgements sends them again.
        for sequence in acknowledged.saturating_sub(10).max(1)..=feed.welcomed {
            let again = vedette_proto::v1::stream_request::Message::Batch(node.batch(sequence));
            feed.send(again).await.unwrap();
        }
        let next = feed.welcomed + 1;
        feed.deliver(&node, next..=first + PER_ROUND).await.unwrap();
        feed.leave().await.unwrap();
    }

    let sent = ROUNDS * (PER_ROUND + 1);
    let observations = i64::try_from(sent * u64::from(CONTAINERS)).unwrap();
    let usage: u64 = (1..=sent).map(|n| (1..=CONTAINERS).map(|c| n * 1_000 + u64::from(c)).sum::<u64>()).sum();
    let rows = "from observations where node = 'killed' and container_id <> ''";
    assert_eq!(aggregator.number(&format!("select count(*) {rows}")).await.unwrap(), observations);
    let distinct = format!("select count(*) from (select distinct container_id, time {rows})");
    assert_eq!(aggregator.number(&distinct).await.unwrap(), observations);
    assert_eq!(aggregator.number(&format!("select sum(cpu_usage_us) {rows}")).await.unwrap(), i64::try_from(usage).unwrap());
}

fn setup(aggregator: &Aggregator, spool: &Path) -> Setup {
    Setup {
        node: "agent".into(),
        spool: spool.to_owned(),
        aggregator: aggregator.grpc,
        ca_file: aggregator.ca_file(),
        token_file: aggregator.agent_token_file(),
        more: String::new(),
    }
}

/// Rows of the node itself so far.
async fn rows(aggregator: &Aggregator) -> i64 {
    aggregator.number("select count(*) from observations where node = 'agent' and container_id = ''").await.unwrap()
}

/// Waits until history holds more than `rows` of the node's own observations.
async fn wait_for_more(aggregator: &Aggregator, than: i64) -> i64 {
    let mut now = 0;
    for _ in 0..200 {
        now = rows(aggregator).await;
        if now > than {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("history stays at {now} rows, expected more than {than}\n{}", aggregator.process.log());
}

#[tokio::test]
async fn what_an_agent_holds_survives_both_kills_and_arrives_once() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let mut aggregator = Aggregator::start(folder.path()).unwrap();
    let agent = Agent::start(folder.path(), &setup(&aggregator, &spool)).unwrap();
    let before = wait_for_more(&aggregator, 20).await;

    // The aggregator is gone for three seconds; the agent goes on, and is killed while it holds them.
    let (grpc, http) = (aggregator.grpc, aggregator.http);
    aggregator.process.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(agent);
    aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    let agent = Agent::start(folder.path(), &setup(&aggregator, &spool)).unwrap();
    wait_for_more(&aggregator, before + 40).await;
    drop(agent);

    // Same boot, but the spool is lost with its pod: a new spool id, nothing collides.
    fs::remove_dir_all(&spool).unwrap();
    let held = rows(&aggregator).await;
    let agent = Agent::start(folder.path(), &setup(&aggregator, &spool)).unwrap();
    wait_for_more(&aggregator, held + 20).await;
    agent.process.terminate().unwrap();

    let twice = "select container_id, cgroup, time, count(*) from observations where node = 'agent' group by container_id, cgroup, time having count(*) > 1";
    let twice = aggregator.sql(twice).await.unwrap();
    assert!(
        twice.is_empty(),
        "{} observations are stored more than once, such as {:?}",
        twice.len(),
        twice.iter().take(5).collect::<Vec<_>>()
    );
    // In the three seconds without aggregator there were some thirty ticks; a busy machine may skip a few.
    let gap = "select max(step) from (select cast(time as bigint) - lag(cast(time as bigint)) over (order by time) as step \
               from observations where node = 'agent' and container_id = '' order by time)";
    let gap_ms = aggregator.number(gap).await.unwrap();
    assert!(gap_ms < 2_500, "history has a hole of {gap_ms} ms: what the agent held was lost");
}
