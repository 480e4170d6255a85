//! A small shop on one node, fed row by row: ordinary work, then a sweep and a miner, under names that an attacker chose.

use vedette_proto::{
    Block, Column, Observation,
    v1::{Batch, ContainerAdded, Hello, Peer, PeersSeen, ProcessSeen},
};
use vedette_tests::feeder::{Node, now_unix_ms};

/// Seconds of ordinary work before the attack: a baseline takes one.
pub const CALM: u64 = 150;
/// A name that a web page must not take for markup.
pub const MARKUP: &str = "<script>alert(1)</script>";
/// The pod of the same; and what its process calls itself: it clears a terminal, and turns the line around.
const POD: &str = "<img src=x onerror=alert(1)>-0";
const COMM: &str = "\u{1b}[2J<b>\u{202e}x";

/// What a container does in a second.
#[derive(Clone, Copy)]
struct Load {
    cores: f64,
    requests: f64,
    opens: f64,
    fails: f64,
}

/// Owner, pod, cores and requests in ordinary times; the first two are replicas.
const PODS: [(&str, &str, f64, f64); 6] = [
    ("web", "web-0", 0.08, 20.0),
    ("web", "web-1", 0.07, 18.0),
    ("cart", "cart-0", 0.05, 9.0),
    ("db", "db-0", 0.12, 30.0),
    (MARKUP, POD, 0.04, 5.0),
    ("mail", "mail-0", 0.01, 1.0),
];

/// The node and what was sent of it.
pub struct Shop {
    node: Node,
}

impl Shop {
    /// One whose ordinary work ends now.
    pub fn new() -> Self {
        Self { node: Node::new("worker-1", PODS.len() as u32, CALM as i64 + 1) }
    }

    /// The identity file's lines.
    pub fn identities(&self) -> String {
        let line = |(added, (owner, pod, ..)): (ContainerAdded, (&str, &str, f64, f64))| {
            let said = serde_json::json!({
                "pod_uid": added.pod_uid, "namespace": "shop", "pod": pod, "owner_kind": "Deployment", "owner_name": owner, "containers": ["app"],
            });
            format!("{said}\n")
        };
        self.node.added().into_iter().zip(PODS).map(line).collect()
    }

    /// The opening message.
    pub fn hello(&self) -> Hello {
        self.node.hello()
    }

    /// The sequence whose time is now.
    pub fn due(&self) -> u64 {
        u64::try_from((now_unix_ms() - self.node.start_unix_ms) / 1_000 + 1).unwrap_or(0)
    }

    /// The batch of a sequence; from [`CALM`] on the attack goes on.
    pub fn batch(&self, sequence: u64) -> Batch {
        let attacked = sequence > CALM;
        let unix_ms = self.node.start_unix_ms + (sequence as i64 - 1) * 1_000;
        let mut rows = vec![node_row(attacked)];
        for (place, (_, _, cores, requests)) in PODS.into_iter().enumerate() {
            let ordinary = Load { cores, requests, opens: 0.2, fails: 0.0 };
            let load = match (attacked, place) {
                (true, 0) => Load { opens: 200.0, fails: 14.0, cores: 0.2, ..ordinary },
                (true, 4) => Load { cores: 0.95, ..ordinary },
                _ => ordinary,
            };
            rows.push(row(load, sequence, place as u64));
        }
        let block = Block { unix_ms, container_refs: (0..=PODS.len() as u32).collect(), rows };
        let mut batch = Batch { sequence, block: Some(block.encode()), ..Batch::default() };
        if sequence == CALM + 5 {
            let peer =
                |last: u8, connecting| Peer { address: format!("10.0.0.{last}"), port: 443, connections: 12, connecting, inbound: false };
            let peers = vec![peer(1, 3), peer(2, 12), peer(3, 12)];
            batch.peers.push(PeersSeen { container_ref: 1, unix_ms, peers, other_connections: 211 });
            let seen =
                |container_ref, comm: &str| ProcessSeen { container_ref, comm: comm.into(), uid: 33, unix_ms, ..ProcessSeen::default() };
            batch.processes.extend([seen(1, "nmap"), seen(5, COMM)]);
        }
        batch
    }
}

/// A little noise that is the same every time.
fn jitter(value: f64, sequence: u64, salt: u64) -> u64 {
    let mixed = (sequence * 31 + salt * 17).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (value * (0.9 + 0.2 * (mixed % 1_000) as f64 / 1_000.0)) as u64
}

fn row(load: Load, sequence: u64, salt: u64) -> Observation {
    use Column as C;
    let mut row = Observation::default();
    for interval in [C::IntervalUs, C::SlowIntervalUs, C::RareIntervalUs] {
        row.set(interval, 1_000_000);
    }
    for (column, value) in [
        (C::CpuUsageUs, load.cores * 1e6),
        (C::CpuSystemUs, load.cores * 0.1e6),
        (C::NetRxBytes, load.requests * 600.0 + load.opens * 60.0),
        (C::NetTxBytes, load.requests * 2_400.0 + load.opens * 74.0),
        (C::NetRxPackets, load.requests * 6.0 + load.opens),
        (C::NetTxPackets, load.requests * 5.0 + load.opens),
    ] {
        row.set(column, jitter(value, sequence, salt));
    }
    for (column, value) in [
        (C::TcpActiveOpens, load.opens),
        (C::TcpPassiveOpens, load.requests * 0.1),
        (C::TcpAttemptFails, load.fails),
        (C::TcpEstabResets, 0.0),
        (C::TcpOutResets, 0.0),
        (C::TcpEstablished, 4.0),
        (C::MemoryCurrentBytes, 90e6),
        (C::MemoryWorkingSetBytes, 64e6),
        (C::MemoryAnonBytes, 48e6),
        (C::PidsCurrent, 7.0),
        (C::RawSockets, 0.0),
        (C::PacketSockets, 0.0),
        (C::ArpIncomplete, 0.0),
    ] {
        row.set(column, value as u64);
    }
    row
}

fn node_row(attacked: bool) -> Observation {
    use Column as C;
    let mut row = Observation::default();
    for (column, value) in [
        (C::IntervalUs, 1_000_000),
        (C::SlowIntervalUs, 1_000_000),
        (C::NodeCpuBusyUs, if attacked { 1_900_000 } else { 700_000 }),
        (C::NodeCpuIdleUs, if attacked { 2_100_000 } else { 3_300_000 }),
        (C::NodeLoad1Milli, 1_200),
        (C::NodeMemoryTotalBytes, 16 << 30),
        (C::NodeMemoryAvailableBytes, 9 << 30),
        (C::NodeContainers, PODS.len() as u64),
        (C::NodeFsSizeBytes, 100 << 30),
        (C::NodeFsAvailableBytes, 60 << 30),
    ] {
        row.set(column, value);
    }
    row
}
