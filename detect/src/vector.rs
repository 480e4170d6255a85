//! One container as the kind classifier sees it: what differs from its workload's normal, and proportions that need no normal.
//!
//! Nothing here is a level: no bytes, no cores, no age, no names, no time of day, so that what is learnt on one cluster holds on another.
//! Only columns that cgroup v1 and v2 define alike. What is not known is NaN.

use vedette_proto::Feature;

use crate::view::View;

/// Features told as their distance beyond the band of the workload, log space: 0 within, 0.7 is twice as much as was ever normal.
pub(crate) const BEYOND: [Feature; 26] = [
    Feature::CpuCores,
    Feature::CpuSystemCores,
    Feature::MemoryWorkingSetBytes,
    Feature::MemoryAnonBytes,
    Feature::RxBytesPerSec,
    Feature::TxBytesPerSec,
    Feature::TxExcessBytesPerSec,
    Feature::RxPacketsPerSec,
    Feature::TxPacketsPerSec,
    Feature::UdpInPerSec,
    Feature::UdpOutPerSec,
    Feature::UdpNoPortsPerSec,
    Feature::TcpActiveOpensPerSec,
    Feature::TcpPassiveOpensPerSec,
    Feature::TcpAttemptFailsPerSec,
    Feature::TcpEstabResetsPerSec,
    Feature::TcpOutResetsPerSec,
    Feature::TcpEstablished,
    Feature::TcpRetransmitsPerSec,
    Feature::TcpSynRetransmitsPerSec,
    Feature::ListenDropsPerSec,
    Feature::IcmpOutPerSec,
    Feature::ArpIncomplete,
    Feature::Pids,
    Feature::ChildFaultsPerSec,
    Feature::MemoryFileBytes,
];
/// Beyond it, further is not more: one sort of attack would otherwise be told by how far it went.
const FAR: f32 = 4.0;
/// Bytes of a full packet.
const FULL: f32 = 1_500.0;

/// Proportions that are known from the first second on.
const SHARES: [&str; 18] = [
    "cpu_of_node",
    "cpu_system_of_cpu",
    "cpu_throttled",
    "memory_of_limit",
    "tx_of_bytes",
    "tx_of_packets",
    "tx_packets_full",
    "rx_packets_full",
    "udp_of_packets",
    "opened_of_connections",
    "opens_of_packets",
    "fails_of_opens",
    "resets_of_opens",
    "syn_retransmits_of_opens",
    "silent_of_neighbours",
    "files_of_memory",
    "files_growth_of_files",
    "memory_growth_of_memory",
];

/// How many values there are.
pub const WIDTH: usize = BEYOND.len() + SHARES.len();

/// What is told of one container.
pub type Vector = [f32; WIDTH];

/// The names of the values, in their order.
#[must_use]
pub fn names() -> Vec<String> {
    BEYOND.iter().map(|feature| format!("beyond_{}", feature.name())).chain(SHARES.iter().map(|name| (*name).to_owned())).collect()
}

/// What is told of a container now.
pub(crate) fn of(view: &View<'_>) -> Vector {
    let beyond = BEYOND.map(|feature| view.off(feature).map_or(f32::NAN, |off| off.clamp(-FAR, FAR)));
    let level = |feature: Feature| view.knows(feature).then(|| view.level(feature));
    // A share of next to nothing says nothing: `least` is what the whole must be.
    let share = |part: Option<f32>, whole: Option<f32>, least: f32| match (part, whole) {
        (Some(part), Some(whole)) if whole >= least => (part / whole).clamp(0.0, 2.0),
        _ => f32::NAN,
    };
    let sum = |a: Feature, b: Feature| level(a).zip(level(b)).map(|(a, b)| a + b);
    let (cpu, opens) = (level(Feature::CpuCores), level(Feature::TcpActiveOpensPerSec));
    let (tx, rx) = (level(Feature::TxPacketsPerSec), level(Feature::RxPacketsPerSec));
    let packets = sum(Feature::TxPacketsPerSec, Feature::RxPacketsPerSec);
    let connections = sum(Feature::TcpActiveOpensPerSec, Feature::TcpPassiveOpensPerSec);
    let resets = sum(Feature::TcpEstabResetsPerSec, Feature::TcpOutResetsPerSec);
    let neighbours = sum(Feature::ArpIncomplete, Feature::TcpEstablished);
    let (files, memory) = (level(Feature::MemoryFileBytes), sum(Feature::MemoryFileBytes, Feature::MemoryAnonBytes));
    let anon = level(Feature::MemoryAnonBytes);
    let plain = |feature: Feature| level(feature).unwrap_or(f32::NAN);
    let shares = [
        share(cpu, (view.node_cores > 0.0).then_some(view.node_cores), 0.0),
        share(level(Feature::CpuSystemCores), cpu, 0.02),
        plain(Feature::CpuThrottledRatio),
        plain(Feature::MemoryLimitRatio),
        share(level(Feature::TxBytesPerSec), sum(Feature::TxBytesPerSec, Feature::RxBytesPerSec), 2_000.0),
        share(tx, packets, 5.0),
        share(level(Feature::TxBytesPerSec), tx.map(|tx| tx * FULL), 5.0 * FULL),
        share(level(Feature::RxBytesPerSec), rx.map(|rx| rx * FULL), 5.0 * FULL),
        share(sum(Feature::UdpInPerSec, Feature::UdpOutPerSec), packets, 5.0),
        share(opens, connections, 0.5),
        share(opens, packets, 5.0),
        share(level(Feature::TcpAttemptFailsPerSec), opens, 0.5),
        share(resets, connections, 0.5),
        share(level(Feature::TcpSynRetransmitsPerSec), opens, 0.5),
        share(level(Feature::ArpIncomplete), neighbours, 2.0),
        share(files, memory, 8e6),
        // What would be there after a minute of it, of what is there now: 0 for a cache that stands still.
        share(files.map(|_| view.container.files_growth.max(0.0) * 60.0), files, 8e6),
        share(anon.map(|_| view.container.anon_growth.max(0.0) * 60.0), anon, 8e6),
    ];
    let mut vector = [f32::NAN; WIDTH];
    vector[..BEYOND.len()].copy_from_slice(&beyond);
    vector[BEYOND.len()..].copy_from_slice(&shares);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_name_of_its_own() {
        let names = names();

        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), different.len()), (WIDTH, WIDTH));
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')), "{names:?}");
    }
}
