//! The agent's spool between two lives of its agent: what was lost is stated in history, and all the rest is there once.

#![allow(clippy::unwrap_used)]

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use prost::Message;
use vedette_proto::v1::Batch;
use vedette_tests::{
    agent::{self, Agent, Setup},
    aggregator::Aggregator,
    process::free_port,
    tree::Tree,
};

const NODE: &str = "files";
/// Each has a row a tick, so that a small spool is full soon.
const CONTAINERS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// Configures an agent that reads a tree of files and has a spool of the smallest size.
fn configure(folder: &Path, tree: &Tree, aggregator: &Aggregator, address: SocketAddr) -> SocketAddr {
    let setup = Setup {
        node: NODE.into(),
        spool: folder.join("spool"),
        aggregator: address,
        ca_file: aggregator.ca_file(),
        token_file: aggregator.agent_token_file(),
        more: String::new(),
    };
    let http = agent::configure(folder, &setup).unwrap();
    let path = folder.join("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    let root = format!("[sensor]\nroot = {:?}\n", tree.root().display().to_string());
    fs::write(path, text.replace("[sensor]\n", &root).replace("[outbox]\n", "[outbox]\nmax_bytes = 1048576\n")).unwrap();
    http
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()))
}

/// Waits until a metric of the agent reaches a value.
fn wait_for(agent: &mut Agent, metric: &str, least: f64) {
    let http = agent.http;
    let reached = || {
        let probe = vedette_tests::process::get(http, "/metrics");
        probe.is_ok_and(|(_, text)| agent::value(&text, metric).is_some_and(|value| value >= least))
    };
    agent.process.wait_for(&format!("{metric} reaches {least}"), PATIENCE, reached).unwrap();
}

/// Stops an agent that cannot deliver and has a grace; what it holds stays in the spool.
fn stop(mut agent: Agent) {
    agent.process.terminate().unwrap();
    assert!(agent.process.wait(PATIENCE).unwrap().success());
}

/// Waits until nothing waits in the spool but what was observed a moment ago.
fn wait_until_delivered(agent: &mut Agent) {
    let http = agent.http;
    let delivered = || {
        let probe = vedette_tests::process::get(http, "/metrics");
        probe.is_ok_and(|(_, text)| {
            let of = |metric| agent::value(&text, metric);
            of("vedette_agent_acknowledged_observations_total").is_some_and(|value| value > 0.0)
                && of("vedette_agent_outbox_batches").is_some_and(|value| value < 5.0)
        })
    };
    agent.process.wait_for("all is delivered", PATIENCE, delivered).unwrap();
}

/// One hole as history states it.
#[derive(Debug, PartialEq)]
struct Gap {
    batches: i64,
    observations: i64,
    reason: String,
    first_ms: i64,
    last_ms: i64,
}

async fn gaps(aggregator: &Aggregator) -> Vec<Gap> {
    let sql = format!(
        "select batches, observations, reason, cast(first_time as bigint) as first_ms, cast(last_time as bigint) as last_ms from gaps \
         where node = '{NODE}' order by first_ms"
    );
    let rows = aggregator.sql(&sql).await.unwrap();
    let number = |value: &serde_json::Value| value.as_i64().unwrap();
    rows.iter()
        .map(|row| Gap {
            batches: number(&row[0]),
            observations: number(&row[1]),
            reason: row[2].as_str().unwrap().to_owned(),
            first_ms: number(&row[3]),
            last_ms: number(&row[4]),
        })
        .collect()
}

/// Every row is there once; gives the times of the node's rows.
async fn times_once(aggregator: &Aggregator) -> Vec<i64> {
    let twice =
        format!("select container_id, time from observations where node = '{NODE}' group by container_id, time having count(*) > 1");
    assert_eq!(aggregator.sql(&twice).await.unwrap(), Vec::<Vec<serde_json::Value>>::new());
    let times =
        format!("select cast(time as bigint) as unix_ms from observations where node = '{NODE}' and container_id = '' order by unix_ms");
    let rows = aggregator.sql(&times).await.unwrap();
    rows.iter().map(|row| row[0].as_i64().unwrap()).collect()
}

/// The longest time between two rows of the node that no hole explains.
fn longest_unexplained(times: &[i64], gaps: &[Gap]) -> i64 {
    let explained = |from: i64, to: i64| gaps.iter().any(|gap| gap.first_ms <= to && gap.last_ms >= from);
    times.windows(2).filter(|pair| !explained(pair[0], pair[1])).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

#[tokio::test]
async fn a_reboot_with_a_kept_spool_states_a_hole_and_stores_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let tree = Tree::make(&folder.path().join("node"), 3, "11111111-0000-4000-8000-000000000000").unwrap();
    // Some are delivered and some are held when the node goes down without a word.
    let http = configure(folder.path(), &tree, &aggregator, aggregator.grpc);
    let mut agent = Agent::start_configured(folder.path(), http).unwrap();
    wait_for(&mut agent, "vedette_agent_acknowledged_observations_total", 30.0);
    agent.process.kill().unwrap();
    let http = configure(folder.path(), &tree, &aggregator, nobody());
    let mut agent = Agent::start_configured(folder.path(), http).unwrap();
    // Until it is told, an agent does not know which of those on disk were acknowledged.
    wait_for(&mut agent, "vedette_agent_outbox_batches", 60.0);
    agent.process.kill().unwrap();
    let before = times_once(&aggregator).await.len();

    tree.boot("22222222-0000-4000-8000-000000000000").unwrap();
    let http = configure(folder.path(), &tree, &aggregator, aggregator.grpc);
    let mut agent = Agent::start_configured(folder.path(), http).unwrap();
    wait_until_delivered(&mut agent);
    wait_for(&mut agent, "vedette_agent_ticks_total", 10.0);
    wait_until_delivered(&mut agent);

    let (times, gaps) = (times_once(&aggregator).await, gaps(&aggregator).await);
    assert!(
        (10..50).contains(&before) && times.len() >= 60,
        "{before} rows of the node before, {} now: what the spool held arrived",
        times.len()
    );
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].reason.starts_with("node restarted") && gaps[0].observations == 0, "{gaps:?}");
    assert!(longest_unexplained(&times, &gaps) < 2_500, "{times:?} {gaps:?}");
    stop(agent);
}

#[tokio::test]
async fn a_full_spool_drops_its_oldest_and_history_states_exactly_that_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let tree = Tree::make(&folder.path().join("node"), CONTAINERS, "boot").unwrap();
    let http = configure(folder.path(), &tree, &aggregator, nobody());
    let mut agent = Agent::start_configured(folder.path(), http).unwrap();
    // The first to go is a segment of one batch: that of the announcements.
    wait_for(&mut agent, "vedette_agent_dropped_batches_total", 10.0);
    let dropped = agent.metric("vedette_agent_dropped_batches_total").unwrap().unwrap();
    agent.process.kill().unwrap();

    let http = configure(folder.path(), &tree, &aggregator, aggregator.grpc);
    let mut agent = Agent::start_configured(folder.path(), http).unwrap();
    wait_until_delivered(&mut agent);

    let (times, gaps) = (times_once(&aggregator).await, gaps(&aggregator).await);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = &gaps[0];
    assert_eq!(gap.reason, "spool full");
    assert!(gap.batches as f64 >= dropped, "{gap:?}, and {dropped} were counted");
    // The first two ticks have no rows of containers: they are compared with what comes after.
    assert_eq!(gap.observations, (gap.batches - 2) * i64::from(CONTAINERS), "{gap:?}");
    assert!(gap.last_ms < times[0], "what is left is newer than what was dropped");
    assert!(longest_unexplained(&times, &gaps) < 2_500, "{times:?}");
    let rows = format!(
        "select count(*) from observations where node = '{NODE}' and container_id <> '' and time < to_timestamp_millis({})",
        times[5]
    );
    assert_eq!(aggregator.number(&rows).await.unwrap(), 5 * i64::from(CONTAINERS), "each tick that is left has every row");
    stop(agent);
}

/// Changes one batch of the newest segment, as a bug or a flipped bit would: its sum is right, its content is not. Gives what it held.
fn spoil(spool: &Path, place: usize) -> (u64, i64) {
    let mut segments: Vec<_> = fs::read_dir(spool)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    segments.sort();
    let path = segments.last().unwrap();
    let bytes = fs::read(path).unwrap();
    let (mut at, mut spoilt, mut number, mut held) = (0, Vec::new(), 0, None);
    while at + 8 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let mut payload = bytes[at + 8..at + 8 + length].to_vec();
        at += 8 + length;
        // The first frame is the segment's header.
        if number == place + 1 {
            let mut batch = Batch::decode(&payload[..]).unwrap();
            let block = batch.block.as_mut().unwrap();
            held = Some((batch.sequence, block.container_refs.len() as i64 - 1));
            *block.container_refs.last_mut().unwrap() = 4_000_000;
            payload = batch.encode_to_vec();
        }
        number += 1;
        spoilt.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        spoilt.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        spoilt.extend_from_slice(&payload);
    }
    fs::write(path, spoilt).unwrap();
    held.expect("so many batches are held")
}

#[tokio::test]
async fn a_batch_that_the_aggregator_refuses_is_given_up_stated_and_holds_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let tree = Tree::make(&folder.path().join("node"), 3, "boot").unwrap();
    let http = configure(folder.path(), &tree, &aggregator, nobody());
    let mut agent = Agent::start_configured(folder.path(), http).unwrap();
    wait_for(&mut agent, "vedette_agent_outbox_batches", 30.0);
    agent.process.kill().unwrap();
    let (sequence, observations) = spoil(&folder.path().join("spool"), 14);
    assert_eq!(observations, 3);

    let http = configure(folder.path(), &tree, &aggregator, aggregator.grpc);
    let mut agent = Agent::start_configured(folder.path(), http).unwrap();
    wait_until_delivered(&mut agent);

    let (times, gaps) = (times_once(&aggregator).await, gaps(&aggregator).await);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let refused = Gap { batches: 1, observations, reason: "refused".into(), ..gaps[0] };
    assert_eq!(gaps[0], refused);
    assert!(times.len() >= 29, "the {} others went through", times.len());
    assert!(times[13] < gaps[0].first_ms && gaps[0].last_ms < times[14], "the hole is where the batch was: {gaps:?} {times:?}");
    assert_eq!(agent.metric("vedette_agent_dropped_batches_total{reason=\"refused\"}").unwrap(), Some(1.0));
    assert_eq!(agent.metric("vedette_agent_dropped_observations_total{reason=\"refused\"}").unwrap(), Some(3.0));
    let log = agent.process.log();
    let given_up: Vec<_> = log.lines().filter(|line| line.contains("a batch is given up")).collect();
    assert_eq!(given_up.len(), 1, "{log}");
    assert!(given_up[0].contains(&format!("sequence={sequence}")) && given_up[0].contains("4000000 was never added"), "{}", given_up[0]);
    stop(agent);
}
