//! What is delivered is durable exactly once, whatever happens in between.

use vedette_proto::v1::{self, query_service_client::QueryServiceClient, stream_request::Message};

use crate::harness::{Agent, batch, channel, container, count, hello, message, now, start, token, with_token};

async fn nodes(channel: &tonic::transport::Channel, dir: &std::path::Path) -> Vec<v1::Node> {
    let mut client = QueryServiceClient::new(channel.clone());
    let request = with_token(v1::ListNodesRequest {}, &token(dir, "admin.token"));
    client.list_nodes(request).await.unwrap().into_inner().nodes
}

#[tokio::test]
async fn batches_are_acknowledged_and_stored() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let (mut agent, durable) = Agent::greet(&channel, &token(dir.path(), "agent.token"), hello("n1", 1)).await.unwrap();

    for sequence in 1..=5 {
        agent.batch(batch(sequence)).await;
    }
    agent.acknowledged(5).await.unwrap();

    assert_eq!(durable, 0);
    assert_eq!(count(&channel, dir.path(), "SELECT count(*) FROM observations").await, 10);
    assert_eq!(count(&channel, dir.path(), "SELECT sum(cpu_usage_us) FROM observations WHERE container_id <> ''").await, 15);
    let nodes = nodes(&channel, dir.path()).await;
    assert_eq!((nodes[0].state(), nodes[0].containers, nodes[0].observations), (v1::NodeState::Live, 1, 10));
    aggregator.stop().await;
}

#[tokio::test]
async fn what_is_sent_again_after_a_reconnect_is_acknowledged_and_not_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let token = token(dir.path(), "agent.token");
    let (mut first, _) = Agent::greet(&channel, &token, hello("n1", 1)).await.unwrap();
    first.batch(batch(1)).await;
    first.batch(batch(2)).await;
    first.acknowledged(2).await.unwrap();
    drop(first);

    let (mut second, durable) = Agent::greet(&channel, &token, hello("n1", 1)).await.unwrap();
    for sequence in 1..=3 {
        second.batch(batch(sequence)).await;
    }
    second.acknowledged(3).await.unwrap();

    assert_eq!(durable, 2);
    assert_eq!(count(&channel, dir.path(), "SELECT count(*) FROM observations").await, 6);
    assert_eq!(aggregator.shared.counters.duplicate_batches.get(), 2);
    aggregator.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_and_holds_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let before = channel(&aggregator, dir.path()).await;
    let secret = token(dir.path(), "agent.token");
    let (mut agent, _) = Agent::greet(&before, &secret, hello("n1", 1)).await.unwrap();
    for sequence in 1..=4 {
        agent.batch(batch(sequence)).await;
    }
    agent.acknowledged(2).await.unwrap();
    aggregator.stop().await;

    let aggregator = start(dir.path()).await;
    let after = channel(&aggregator, dir.path()).await;
    let (mut agent, durable) = Agent::greet(&after, &secret, hello("n1", 1)).await.unwrap();
    for sequence in durable + 1..=6 {
        agent.batch(batch(sequence)).await;
    }
    agent.acknowledged(6).await.unwrap();

    assert!(durable >= 2, "{durable} was durable, and 2 had been acknowledged");
    assert_eq!(count(&after, dir.path(), "SELECT count(*) FROM observations").await, 12);
    assert_eq!(count(&after, dir.path(), "SELECT sum(cpu_usage_us) FROM observations WHERE container_id <> ''").await, 21);
    aggregator.stop().await;
}

#[tokio::test]
async fn the_newest_stream_of_a_spool_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let token = token(dir.path(), "agent.token");
    let (mut first, _) = Agent::greet(&channel, &token, hello("n1", 1)).await.unwrap();
    first.batch(batch(1)).await;

    let (mut second, durable) = Agent::greet(&channel, &token, hello("n1", 1)).await.unwrap();
    let told = first.refused().await;
    second.batch(batch(durable + 1)).await;
    second.acknowledged(durable + 1).await.unwrap();

    assert_eq!(told.code(), tonic::Code::Aborted);
    assert!(told.message().contains("n1") && told.message().contains("newer stream"), "{}", told.message());
    aggregator.stop().await;
}

#[tokio::test]
async fn an_agent_of_another_version_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let older = v1::Hello { column_ids: vec![1, 2, 9_999], ..hello("n1", 1) };
    let (mut agent, _) = Agent::greet(&channel, &token(dir.path(), "agent.token"), older).await.unwrap();
    let mut newer = batch(1);
    let unknown = v1::Column { id: 9_999, presence: vec![], values: vec![7, 8] };
    newer.block.as_mut().unwrap().columns.push(unknown);

    agent.batch(newer).await;
    agent.acknowledged(1).await.unwrap();

    let known = "SELECT count(*) FROM observations WHERE cpu_usage_us = 1 AND memory_current_bytes IS NULL";
    assert_eq!(count(&channel, dir.path(), known).await, 2);
    aggregator.stop().await;
}

#[tokio::test]
async fn late_and_replayed_observations_are_told_by_their_time_and_origin() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let token = token(dir.path(), "agent.token");
    let at = |sequence, unix_ms| {
        let mut batch = batch(sequence);
        batch.block.as_mut().unwrap().unix_ms = unix_ms;
        batch
    };
    let (mut live, _) = Agent::greet(&channel, &token, hello("n1", 1)).await.unwrap();
    let replayed = v1::Hello { origin: v1::Origin::Replay.into(), replay_session: "again".into(), ..hello("n1", 2) };
    let (mut replay, _) = Agent::greet(&channel, &token, replayed).await.unwrap();

    live.batch(at(1, now() - 3_600_000)).await;
    live.batch(at(2, now())).await;
    live.acknowledged(2).await.unwrap();
    replay.batch(at(1, 1_500_000_000_000)).await;
    replay.acknowledged(1).await.unwrap();

    for (origin, cluster) in [("late", "default"), ("live", "default"), ("replay", "again")] {
        let sql = format!("SELECT count(*) FROM observations WHERE origin = '{origin}' AND cluster = '{cluster}'");
        assert_eq!(count(&channel, dir.path(), &sql).await, 2, "{origin}");
    }
    aggregator.stop().await;
}

#[tokio::test]
async fn a_replay_names_its_containers_and_an_agent_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let token = token(dir.path(), "agent.token");
    let named = v1::ContainerAdded {
        recorded_workload: Some(v1::Workload {
            cluster: "elsewhere".into(),
            namespace: "shop".into(),
            owner_kind: "Deployment".into(),
            owner_name: "web".into(),
            container_name: "nginx".into(),
        }),
        recorded_pod_name: "web-1".into(),
        ..container(1)
    };
    let replayed = v1::Hello { origin: v1::Origin::Replay.into(), replay_session: "again".into(), containers: vec![], ..hello("n1", 2) };
    let (mut replay, _) = Agent::greet(&channel, &token, replayed).await.unwrap();

    // The recording's clock was a year ahead of this one.
    let mut first = batch(1);
    first.added.push(v1::ContainerAdded { first_seen_unix_ms: now() + 365 * 86_400_000, ..named.clone() });
    first.block.as_mut().unwrap().unix_ms = now() + 365 * 86_400_000;
    replay.batch(first).await;
    replay.acknowledged(1).await.unwrap();
    let refused = Agent::greet(&channel, &token, v1::Hello { containers: vec![named], ..hello("n1", 1) }).await.err().unwrap();

    let sql = "SELECT count(*) FROM observations WHERE cluster = 'again' AND owner_name = 'web' AND container_name = 'nginx' \
               AND pod_name = 'web-1' AND time > now()";
    assert_eq!(count(&channel, dir.path(), sql).await, 1);
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("recorded_workload"), "{}", refused.message());
    aggregator.stop().await;
}

#[tokio::test]
async fn goodbye_and_removal_show_in_the_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let (mut agent, _) = Agent::greet(&channel, &token(dir.path(), "agent.token"), hello("n1", 1)).await.unwrap();
    let mut first = batch(1);
    first.added.push(container(2));
    first.removed.push(v1::ContainerRemoved { container_ref: 1, unix_ms: now(), pod_remains: true });

    agent.batch(first).await;
    agent.acknowledged(1).await.unwrap();
    agent.send(message(Message::Goodbye(v1::Goodbye { reason: "terminated".into() }))).await;
    let end = agent.ended().await;

    assert!(end.is_ok(), "{end:?}");
    while aggregator.shared.counters.streams.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(nodes(&channel, dir.path()).await[0].state(), v1::NodeState::Left);
    let (alive, _) = aggregator.shared.fleet.containers(&v1::Selector::default(), false, 10);
    assert_eq!(alive.iter().map(|container| &container.container_id).collect::<Vec<_>>(), [&container(2).container_id]);
    aggregator.stop().await;
}

#[tokio::test]
async fn a_hole_that_was_stated_is_a_gap_in_history() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let (mut agent, _) = Agent::greet(&channel, &token(dir.path(), "agent.token"), hello("n1", 1)).await.unwrap();
    let mut after_hole = batch(5);
    let (first_unix_ms, last_unix_ms) = (now() - 5_000, now() - 2_000);
    after_hole.dropped = Some(v1::Dropped { batches: 3, observations: 6, first_unix_ms, last_unix_ms, reason: "spool full".into() });

    agent.batch(batch(1)).await;
    agent.batch(after_hole).await;
    agent.acknowledged(5).await.unwrap();

    assert_eq!(count(&channel, dir.path(), "SELECT count(*) FROM gaps").await, 1);
    assert_eq!(nodes(&channel, dir.path()).await[0].dropped, 6);
    assert_eq!(aggregator.shared.counters.observations.get(), 4);
    aggregator.stop().await;
}

#[tokio::test]
async fn rows_of_a_wrong_time_are_a_gap_and_the_stream_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let day = 86_400_000;
    let ahead = v1::ContainerAdded { first_seen_unix_ms: now() + day, ..container(1) };
    let hello = v1::Hello { containers: vec![ahead], ..hello("n1", 1) };
    let (mut agent, _) = Agent::greet(&channel, &token(dir.path(), "agent.token"), hello).await.unwrap();
    let off_by = |sequence, ms| {
        let mut batch = batch(sequence);
        batch.block.as_mut().unwrap().unix_ms = now() + ms;
        batch
    };

    agent.batch(off_by(1, 120_000)).await;
    agent.batch(off_by(2, -25 * 3_600_000)).await;
    agent.batch(batch(3)).await;
    agent.acknowledged(3).await.unwrap();

    let refused = aggregator.shared.counters.refused();
    assert_eq!((refused["future"], refused["too_old"]), (1, 1));
    assert_eq!(aggregator.shared.counters.times_ahead.get(), 1);
    assert_eq!(count(&channel, dir.path(), "SELECT count(*) FROM observations").await, 2);
    assert_eq!(count(&channel, dir.path(), "SELECT sum(observations) FROM gaps").await, 4);
    let explained = "SELECT count(*) FROM gaps WHERE reason LIKE '%in the future%' OR reason LIKE '%25 h old%'";
    assert_eq!(count(&channel, dir.path(), explained).await, 2);
    aggregator.stop().await;
}
