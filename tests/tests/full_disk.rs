//! A full disk, on either side: a clear error, nothing acknowledged is lost, and recovery once there is room again.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use vedette_tests::{
    agent::{Agent, Setup},
    aggregator::Aggregator,
    feeder::{Feed, Node, now_unix_ms},
    prerequisite,
    process::{self, free_port},
};

/// A small file system, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path).status().unwrap();
        assert!(mounted.success(), "cannot mount a tmpfs on {}", path.display());
        Self(path.to_owned())
    }

    /// Fills what is left, also what became free since.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = File::options().create(true).append(true).open(&path).unwrap();
        let block = vec![0u8; 64 << 10];
        while ballast.write_all(&block).is_ok() {}
        while ballast.write_all(&[0; 512]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is still going away may hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whether a log says that the disk is full.
fn says_full(log: &str) -> bool {
    let log = log.to_lowercase();
    log.contains("no space left") || log.contains("disk full") || log.contains("disk is full") || log.contains("enospc")
}

#[tokio::test]
async fn history_on_a_full_disk_acknowledges_nothing_says_why_and_recovers() {
    if !prerequisite::root("mounting a small file system") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&folder.path().join("data"), "48m");
    let mut aggregator = Aggregator::start(folder.path()).unwrap();
    let node = Node::new("full", 50, 1_800);
    let mut feed = Feed::open(&aggregator, &node).await.unwrap();
    feed.deliver(&node, 1..=50).await.unwrap();

    let ballast = disk.fill();
    let delivered = tokio::time::timeout(Duration::from_secs(10), feed.deliver(&node, 51..=5_000)).await;
    let acknowledged = feed.acknowledged;
    assert!(!matches!(delivered, Ok(Ok(()))), "5,000 batches were acknowledged on a full disk");
    let limit = Duration::from_secs(10);
    let log = folder.path().join("vedette-aggregator.log");
    aggregator.process.wait_for("the log says that the disk is full", limit, || says_full(&fs::read_to_string(&log).unwrap())).unwrap();
    fs::remove_file(ballast).unwrap();

    // The stream may have been refused; the process must not need a restart.
    let last = acknowledged + 200;
    let mut recovered = Err(anyhow::anyhow!("not tried"));
    for _ in 0..50 {
        recovered = async {
            let mut feed = Feed::open(&aggregator, &node).await?;
            assert!(feed.welcomed >= acknowledged, "acknowledged {acknowledged}, but only {} are durable", feed.welcomed);
            let next = feed.welcomed + 1;
            feed.deliver(&node, next..=last.max(next)).await
        }
        .await;
        if recovered.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    recovered.unwrap();
    let rows = "from observations where node = 'full' and container_id <> ''";
    let count = aggregator.number(&format!("select count(*) {rows}")).await.unwrap();
    let distinct = aggregator.number(&format!("select count(*) from (select distinct container_id, time {rows})")).await.unwrap();
    assert_eq!(count, distinct);
    assert!(count >= i64::try_from(last * 50).unwrap(), "{count} rows of {last} acknowledged batches");
}

#[tokio::test]
async fn a_spool_on_a_full_disk_says_so_and_loses_nothing_unsaid() {
    if !prerequisite::root("mounting a small file system") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"), "4m");
    let setup = |address| Setup {
        node: "spool".into(),
        spool: folder.path().join("disk/spool"),
        aggregator: address,
        ca_file: aggregator.ca_file(),
        token_file: aggregator.agent_token_file(),
        more: String::new(),
    };
    // First to an address where nobody listens: everything stays in the spool.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let mut agent = Agent::start(folder.path(), &setup(nobody)).unwrap();
    let ballast = disk.fill();

    let log = folder.path().join("vedette-agent.log");
    let limit = Duration::from_secs(20);
    agent.process.wait_for("the log says that the disk is full", limit, || says_full(&fs::read_to_string(&log).unwrap())).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    fs::remove_file(ballast).unwrap();
    agent
        .process
        .wait_for("the log says that it goes on", limit, || fs::read_to_string(&log).unwrap().contains("takes batches again"))
        .unwrap();
    agent.process.terminate().unwrap();
    agent.process.wait(Duration::from_secs(20)).unwrap();
    let stopped = now_unix_ms();
    let _agent = Agent::start(folder.path(), &setup(aggregator.grpc)).unwrap();

    // What did not fit waited in memory: either there is no hole, or history states it.
    let of_first_run = format!("from observations where node = 'spool' and container_id = '' and time < to_timestamp_millis({stopped})");
    let hole = format!(
        "select coalesce(max(step), 0) from (select cast(time as bigint) - lag(cast(time as bigint)) over (order by time) as step {of_first_run})"
    );
    for _ in 0..100 {
        let rows = aggregator.number(&format!("select count(*) {of_first_run}")).await.unwrap();
        let later = format!("select count(*) from observations where node = 'spool' and time > to_timestamp_millis({stopped})");
        if rows > 10 && aggregator.number(&later).await.unwrap() > 5 {
            let hole_ms = aggregator.number(&hole).await.unwrap();
            let gaps = aggregator.number("select count(*) from gaps where node = 'spool'").await.unwrap();
            assert!(hole_ms < 2_500 || gaps > 0, "a hole of {hole_ms} ms that nothing states");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("what the spool held did not arrive\n{}\n{}", fs::read_to_string(log).unwrap(), aggregator.process.log());
}

/// Waits until a metric of the agent has a value.
fn wait_for_metric(agent: &mut Agent, name: &str, value: f64) {
    let http = agent.http;
    let read = move || process::get(http, "/metrics").is_ok_and(|(_, text)| text.lines().any(|line| line == format!("{name} {value}")));
    agent.process.wait_for(&format!("{name} is {value}"), Duration::from_secs(20), read).unwrap();
}

#[tokio::test]
async fn with_a_full_disk_under_the_spool_the_agent_goes_on_delivering_also_after_a_kill() {
    if !prerequisite::root("mounting a small file system") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"), "4m");
    let setup = Setup {
        node: "brimful".into(),
        spool: folder.path().join("disk/spool"),
        aggregator: aggregator.grpc,
        ca_file: aggregator.ca_file(),
        token_file: aggregator.agent_token_file(),
        more: String::new(),
    };
    let rows_since = async |since: i64| {
        let sql = format!(
            "select count(*) from observations where node = 'brimful' and container_id = '' and time > to_timestamp_millis({since})"
        );
        aggregator.number(&sql).await.unwrap()
    };
    let delivers = async |agent: &Agent| {
        let since = now_unix_ms();
        for _ in 0..200 {
            if rows_since(since).await >= 20 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nothing new arrives\n{}", agent.process.log());
    };
    let mut agent = Agent::start(folder.path(), &setup).unwrap();
    delivers(&agent).await;
    wait_for_metric(&mut agent, "vedette_agent_spool_writable", 1.0);

    let ballast = disk.fill();
    wait_for_metric(&mut agent, "vedette_agent_spool_writable", 0.0);
    delivers(&agent).await;
    // Giving up its state, or a segment that is acknowledged, makes room, and the agent takes it: before the kill there is none again.
    disk.fill();
    wait_for_metric(&mut agent, "vedette_agent_spool_writable", 0.0);
    let dropped = agent.metric("vedette_agent_dropped_observations_total").unwrap().unwrap_or(0.0);
    assert_eq!(dropped, 0.0, "with the link up nothing is lost");
    agent.process.kill().unwrap();
    let mut agent = Agent::start(folder.path(), &setup).unwrap();
    delivers(&agent).await;
    fs::remove_file(ballast).unwrap();
    wait_for_metric(&mut agent, "vedette_agent_spool_writable", 1.0);
    delivers(&agent).await;

    let twice = "select time, count(*) from observations where node = 'brimful' and container_id = '' group by time having count(*) > 1";
    assert_eq!(aggregator.sql(twice).await.unwrap(), Vec::<Vec<serde_json::Value>>::new());
    let stated = "select count(*) from gaps where node = 'brimful' and reason like 'the agent ended without having saved all batches%'";
    assert_eq!(aggregator.number(stated).await.unwrap(), 1, "what the kill may have cost is stated");
}
