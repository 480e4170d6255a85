//! The agent on a cgroup v2 node with the systemd driver: what it delivers, against the kernel's own figures.
//!
//! One boot serves every assertion: `tests/vm/agent.sh` says what happens in there.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use vedette_tests::{
    machine::{self, Console},
    sink::Line,
};

/// Some 80 s where nothing else runs; emulation suffers first where something does.
const LIMIT: Duration = Duration::from_secs(500);

/// Everything that the agent delivered of one container.
#[derive(Default, Debug)]
struct Delivered {
    cgroup: String,
    runtime: String,
    restarts: u32,
    cpu_limit_millicores: Option<u64>,
    memory_limit_bytes: Option<u64>,
    pids_limit: Option<u64>,
    removed: Option<bool>,
    rows: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Event time of each row.
    times: Vec<i64>,
    names: Vec<String>,
}

impl Delivered {
    fn values(&self, column: &str) -> Vec<u64> {
        self.rows.iter().filter_map(|row| row.get(column)?.as_u64()).collect()
    }

    fn sum(&self, column: &str) -> u64 {
        self.values(column).iter().sum()
    }

    fn last(&self, column: &str) -> Option<u64> {
        self.values(column).last().copied()
    }
}

/// Pod `letter`'s uid, as the scenario names it.
fn pod_uid(letter: char) -> String {
    format!("{}-0000-4000-8000-000000000000", letter.to_string().repeat(8))
}

struct Told {
    containers: BTreeMap<(String, String), Delivered>,
    node: Delivered,
}

impl Told {
    /// The container `digit` of pod `letter`.
    fn container(&self, letter: char, digit: char) -> &Delivered {
        let key = (pod_uid(letter), digit.to_string().repeat(64));
        self.containers.get(&key).unwrap_or_else(|| panic!("no container {digit} in pod {letter}: {:?}", self.containers.keys()))
    }
}

fn told(console: &Console) -> Told {
    let mut told = Told { containers: BTreeMap::new(), node: Delivered::default() };
    let mut keys: BTreeMap<u32, (String, String)> = BTreeMap::new();
    for text in console.after("GOT") {
        match serde_json::from_str(text).unwrap() {
            Line::Added { container, pod, id, cgroup, runtime, restarts, cpu_limit_millicores, memory_limit_bytes, pids_limit } => {
                let key = (pod, id);
                keys.insert(container, key.clone());
                let delivered = told.containers.entry(key).or_default();
                *delivered =
                    Delivered { cgroup, runtime, restarts, cpu_limit_millicores, memory_limit_bytes, pids_limit, ..Delivered::default() };
            }
            Line::Row { container, unix_ms, values } => {
                let delivered = if container == 0 { &mut told.node } else { told.containers.get_mut(&keys[&container]).unwrap() };
                delivered.rows.push(values);
                delivered.times.push(unix_ms);
            }
            Line::Removed { container, pod_remains } => told.containers.get_mut(&keys[&container]).unwrap().removed = Some(pod_remains),
            Line::Process { container, comm, .. } => told.containers.get_mut(&keys[&container]).unwrap().names.push(comm),
            Line::Hello { .. } | Line::Heartbeat { .. } | Line::Goodbye => {}
        }
    }
    told
}

/// `actual` lies within a share of `expected`.
fn near(what: &str, actual: u64, expected: u64, share: f64) {
    let off = (actual as f64 - expected as f64).abs();
    assert!(off <= expected as f64 * share, "{what}: the agent delivered {actual}, the kernel says {expected}");
}

#[test]
fn what_the_agent_delivers_from_a_cgroup_v2_node_is_what_the_kernel_says() {
    let Some(image) = machine::image() else { return };

    let console = machine::boot(image, "agent", LIMIT).unwrap();
    let told = told(&console);

    let failures: Vec<_> = console.after("FAIL").collect();
    let log: Vec<_> = console.after("AGENT").collect();
    assert!(failures.is_empty(), "in the machine failed {failures:?}; the agent's log:\n{}", log.join("\n"));

    let hog = told.container('b', 'b');
    assert_eq!(hog.runtime, "containerd");
    assert!(hog.cgroup.ends_with(&format!("/cri-containerd-{}.scope", "b".repeat(64))), "{}", hog.cgroup);
    assert_eq!(hog.cpu_limit_millicores, Some(200));
    // Between the last row and the scenario's reading of the truth lie up to two ticks of some 50.
    near("cpu usage", hog.sum("cpu_usage_us"), console.truth("hog_usage_us").unwrap(), 0.1);
    near("cpu per second", hog.sum("cpu_usage_us") * 1_000_000 / hog.sum("interval_us"), 200_000, 0.15);
    // The slow tier's last reading is up to six seconds old.
    near("throttled time", hog.sum("cpu_throttled_us"), console.truth("hog_throttled_us").unwrap(), 0.25);
    near("pressure on cpu", hog.sum("cpu_pressure_us"), console.truth("hog_psi_cpu_us").unwrap(), 0.25);

    let memory = told.container('c', 'c');
    assert_eq!(memory.memory_limit_bytes, Some(64 << 20));
    near("anonymous memory", memory.last("memory_anon_bytes").unwrap(), console.truth("memory_anon_bytes").unwrap(), 0.02);
    assert!(memory.last("memory_anon_bytes").unwrap() >= 40 << 20);
    assert_eq!(memory.last("memory_limit_bytes"), Some(64 << 20));

    let pids = told.container('d', 'd');
    assert_eq!(pids.last("pids_current"), Some(console.truth("pids_current").unwrap()));
    assert_eq!(pids.last("pids_current"), Some(11));
    assert_eq!((pids.last("pids_limit"), pids.pids_limit), (Some(20), Some(20)));

    let server = told.container('e', 'e');
    near("bytes sent", server.sum("net_tx_bytes"), console.truth("server_tx_bytes").unwrap(), 0.01);
    assert!(server.sum("net_tx_bytes") >= 20 * 262_144);
    assert_eq!(server.sum("tcp_passive_opens"), 20);
    assert_eq!(server.sum("tcp_active_opens"), 0);

    let (failed, successor) = (told.container('f', '1'), told.container('f', '2'));
    assert_eq!(failed.removed, Some(true), "the pod lives on");
    assert_eq!((failed.restarts, successor.restarts), (0, 1));
    assert_eq!(successor.removed, None);

    let brief = told.container('0', '5');
    assert!(brief.removed.is_some(), "a container of 50 ms is seen to come and go");

    let killed: u64 = told.containers.iter().filter(|((pod, _), _)| *pod == pod_uid('9')).map(|(_, one)| one.sum("oom_kills")).sum();
    assert_eq!(killed, console.truth("oom_kills").unwrap());
    assert!(killed >= 1);

    assert!(told.node.sum("node_cpu_busy_us") >= hog.sum("cpu_usage_us"));
    let total = told.node.last("node_memory_total_bytes").unwrap();
    assert!((900 << 20..1 << 30).contains(&total), "a machine of 1 GiB has {total} bytes");
}

/// The first tick after a birth may be the one that finds the container, the second has nothing to compare with.
const FIRST_TICKS_MS: i64 = 2_500;

#[test]
fn the_agent_sees_every_container_that_the_range_runs_on_cgroup_v2() {
    let Some(image) = machine::image() else { return };

    let console = machine::boot(image, "range", LIMIT).unwrap();
    let told = told(&console);

    let failures: Vec<_> = console.after("FAIL").collect();
    let logs: Vec<_> = console.after("RANGE").chain(console.after("AGENT")).collect();
    assert!(failures.is_empty(), "in the machine failed {failures:?}:\n{}", logs.join("\n"));
    let schedule: serde_json::Value = serde_json::from_str(console.after("SCHEDULE").next().unwrap()).unwrap();
    let lives: Vec<_> = schedule["lives"].as_array().unwrap().iter().filter(|life| life["sandbox"] == false).collect();
    assert!(lives.len() >= 10, "the range ran {} containers", lives.len());
    let (mut expected, mut delivered) = (0, 0);
    for life in lives {
        let key = (life["pod_uid"].as_str().unwrap().to_owned(), life["container_id"].as_str().unwrap().to_owned());
        let seen = told.containers.get(&key).unwrap_or_else(|| panic!("the agent never saw {life}"));
        assert!(seen.removed.is_some(), "the agent never noticed the end of {life}");
        // Ticks, not seconds: an emulated machine that starves skips some, and says so by longer intervals.
        let (born, ended) = (life["born_unix_ms"].as_i64().unwrap(), life["ended_unix_ms"].as_i64().unwrap());
        let within = |times: &[i64]| times.iter().filter(|&&time| time > born + FIRST_TICKS_MS && time < ended).count();
        expected += within(&told.node.times);
        delivered += within(&seen.times);
    }
    assert!(expected >= 30, "only {expected} observations could be expected");
    assert!(delivered * 100 >= expected * 95, "{delivered} observations of {expected}");
    let (first, last) = (told.node.times.first().unwrap(), told.node.times.last().unwrap());
    near("time covered", told.node.sum("interval_us"), u64::try_from(last - first).unwrap() * 1_000, 0.05);

    // Attacks of this plan last three seconds; what is emulated starts slowly, and a scan, a flood or an upload may be over before
    // its program or the slow tier gets a turn. What holds all the same, both rounds together:
    let mut moved: BTreeMap<&str, u64> = BTreeMap::new();
    for episode in schedule["episodes"].as_array().unwrap().iter().filter(|episode| episode["attack"] == true) {
        let uid = episode["pod_uid"].as_str().unwrap();
        let pod = || told.containers.iter().filter(move |((pod, _), _)| pod == uid).map(|(_, seen)| seen);
        let sum = |column| pod().map(|seen| seen.sum(column)).sum::<u64>();
        let kind = episode["kind"].as_str().unwrap();
        *moved.entry(kind).or_default() += match kind {
            "mining" => sum("cpu_usage_us"),
            "crash_loop" => pod().map(|seen| u64::from(seen.restarts)).sum(),
            "scan" | "exfiltration" | "flood" => 0,
            other => panic!("an attack of kind {other} has no assertion"),
        };
    }
    for (kind, least) in [("mining", 300_000), ("crash_loop", 1)] {
        assert!(moved[kind] >= least, "{kind}: {} of at least {least}; all: {moved:?}", moved[kind]);
    }
}

/// Some three minutes where nothing else runs.
const POD_LIMIT: Duration = Duration::from_secs(540);

#[test]
fn the_agents_pod_in_a_real_containerd_on_cgroup_v2_reports_what_every_other_pod_did() {
    let Some(image) = machine::image_with_containerd() else { return };

    let console = machine::boot(image, "pod", POD_LIMIT).unwrap();
    let told = told(&console);

    let failures: Vec<_> = console.after("FAIL").collect();
    let logs: Vec<_> = console.after("STEP").chain(console.after("AGENT")).chain(console.after("CONTAINERD")).collect();
    assert!(failures.is_empty(), "in the machine failed {failures:?}:\n{}", logs.join("\n"));

    // As unprivileged as the manifest says: nobody, no capability, no new privileges, filtered.
    let status: Vec<_> = console.after("STATUS").collect();
    for field in ["Uid: 65532 65532 65532 65532", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"] {
        assert!(status.contains(&field), "no {field:?} in {status:?}");
    }
    assert_eq!(console.truth("exit_code").unwrap(), 0, "{}", logs.join("\n"));
    assert_eq!(console.truth("left").unwrap(), 0, "cgroups of the run are left");
    assert!(console.after("GOT").any(|line| line.contains(r#""is":"goodbye""#)), "it left without a word");

    // Every life of every pod, itself included, under the uid and the id that containerd gave.
    let mut lives: BTreeMap<&str, Vec<&Delivered>> = BTreeMap::new();
    for line in console.after("POD") {
        let [name, uid, id] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let seen = told.containers.get(&(uid.to_owned(), id.to_owned()));
        lives.entry(name).or_default().push(seen.unwrap_or_else(|| panic!("{line} is missing in {:?}", told.containers.keys())));
    }
    let count = |name: &str| lives[name].len();
    assert_eq!((count("agent"), count("web"), count("miner"), count("visitor"), count("crashy")), (1, 1, 1, 1, 3));
    let restarts: Vec<_> = lives["crashy"].iter().map(|life| life.restarts).collect();
    assert_eq!(restarts, [0, 1, 2]);

    // What was last counted is at most a tick and a half old.
    let truth = |name: &str| console.truth(name).unwrap();
    let cpu = lives["miner"][0].sum("cpu_usage_us");
    let (before, after) = (truth("miner_cpu_before_us"), truth("miner_cpu_after_us"));
    assert!((before.saturating_sub(1_500_000)..=after).contains(&cpu), "{cpu} us, the kernel says {before} to {after}");
    assert!(cpu >= 1_000_000, "a fifth of a core for at least twelve ticks: {cpu} us");
    let web = lives["web"][0];
    let (before, after) = (truth("web_rx_before_bytes"), truth("web_rx_after_bytes"));
    let rx = web.sum("net_rx_bytes");
    assert!((before * 8 / 10..=after).contains(&rx), "{rx} bytes, the kernel says {before} to {after}");
    assert!(web.sum("tcp_passive_opens") > 0, "nobody visited");
    let own = lives["agent"][0];
    assert_eq!(own.memory_limit_bytes, Some(96 << 20));
    assert!(own.values("memory_current_bytes").iter().all(|&bytes| bytes > 0 && bytes < 96 << 20));
}
