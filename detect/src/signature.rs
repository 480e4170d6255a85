//! The kinds: one stated signature each, simple enough to be read aloud. They name the effect until the forest comes.

use vedette_proto::{Feature, v1::Kind};

use crate::{
    baseline::RATIO,
    container::bit,
    view::{View, ramp},
};

/// How a kind shows.
pub struct Signature {
    /// What it is called.
    pub kind: Kind,
    /// The feature that must be beyond normal; only its fresh samples count for persistence.
    pub key: Feature,
    /// Time constant of persistence with a baseline, seconds.
    pub warm_tau_s: f32,
    /// Time constant of persistence without one, or during start-up, seconds.
    pub cold_tau_s: f32,
    /// What belongs to it, for evidence.
    pub shows: &'static [Feature],
    /// The rule in words.
    pub stated: &'static str,
    /// How well it matches now, 0 to 1; 0 unless the key is beyond normal.
    pub matches: fn(&View<'_>) -> f32,
}

/// All signatures. The order decides ties.
pub const SIGNATURES: [Signature; 9] = [
    Signature {
        kind: Kind::Flood,
        key: Feature::RxPacketsPerSec,
        warm_tau_s: 4.0,
        cold_tau_s: 9.0,
        shows: &[
            Feature::RxPacketsPerSec,
            Feature::RxBytesPerSec,
            Feature::TxPacketsPerSec,
            Feature::TcpPassiveOpensPerSec,
            Feature::TcpEstablished,
            Feature::TcpAttemptFailsPerSec,
            Feature::ListenDropsPerSec,
            Feature::UdpNoPortsPerSec,
            Feature::CpuCores,
            Feature::CpuThrottledRatio,
        ],
        stated: "packets received far beyond normal, with connections accepted, held or dropped beyond normal or small packets that cost CPU or answers, by one that is called rather than calls",
        matches: flood,
    },
    Signature {
        kind: Kind::Flood,
        key: Feature::TcpEstablished,
        warm_tau_s: 6.0,
        cold_tau_s: 12.0,
        shows: &[Feature::TcpEstablished, Feature::TcpPassiveOpensPerSec, Feature::RxPacketsPerSec],
        stated: "connections held far beyond normal by one that is called (slow-loris)",
        matches: held_connections,
    },
    Signature {
        kind: Kind::Scan,
        key: Feature::TcpActiveOpensPerSec,
        warm_tau_s: 5.0,
        cold_tau_s: 7.0,
        shows: &[
            Feature::TcpActiveOpensPerSec,
            Feature::TcpAttemptFailsPerSec,
            Feature::TcpSynRetransmitsPerSec,
            Feature::ArpIncomplete,
            Feature::TcpEstabResetsPerSec,
            Feature::RawSockets,
            Feature::PacketSockets,
        ],
        stated: "TCP connections opened beyond normal that carry hardly a byte, fail, or find nobody",
        matches: scan,
    },
    Signature {
        kind: Kind::Recon,
        key: Feature::TcpActiveOpensPerSec,
        warm_tau_s: 5.0,
        cold_tau_s: 8.0,
        shows: &[Feature::TcpActiveOpensPerSec, Feature::TcpEstabResetsPerSec, Feature::TcpOutResetsPerSec, Feature::TxBytesPerSec],
        stated: "TCP connections opened beyond normal that are answered, carry data and end in resets",
        matches: recon,
    },
    Signature {
        kind: Kind::Exfiltration,
        key: Feature::TxExcessBytesPerSec,
        warm_tau_s: 5.0,
        cold_tau_s: 7.0,
        shows: &[
            Feature::TxExcessBytesPerSec,
            Feature::TxBytesPerSec,
            Feature::TxPacketsPerSec,
            Feature::UdpOutPerSec,
            Feature::IoReadBytesPerSec,
        ],
        stated: "bytes sent far beyond those received, in a ratio new for the workload, without requests that ask for them",
        matches: exfiltration,
    },
    Signature {
        kind: Kind::ForkBomb,
        key: Feature::Pids,
        warm_tau_s: 5.0,
        cold_tau_s: 8.0,
        shows: &[Feature::Pids, Feature::ChildFaultsPerSec, Feature::CpuSystemCores, Feature::CpuCores],
        stated: "processes far beyond normal, with CPU in the kernel or processes that end as fast as they start",
        matches: fork_bomb,
    },
    Signature {
        kind: Kind::Mining,
        key: Feature::CpuCores,
        warm_tau_s: 5.0,
        cold_tau_s: 8.0,
        shows: &[Feature::CpuCores, Feature::CpuThrottledRatio, Feature::MemoryAnonBytes, Feature::MemoryWorkingSetBytes],
        stated: "CPU beyond normal and sustained, which traffic, disk reads, connections and processes do not explain",
        matches: mining,
    },
    Signature {
        kind: Kind::DiskFill,
        key: Feature::MemoryFileBytes,
        warm_tau_s: 10.0,
        cold_tau_s: 20.0,
        shows: &[Feature::MemoryFileBytes, Feature::IoWriteBytesPerSec],
        stated: "pages of files in memory beyond normal and growing, as fast as the disk is written or the node's file system loses space",
        matches: disk_fill,
    },
    Signature {
        kind: Kind::Unknown,
        key: Feature::MemoryAnonBytes,
        warm_tau_s: 15.0,
        cold_tau_s: 60.0,
        shows: &[Feature::MemoryAnonBytes, Feature::IoWriteBytesPerSec, Feature::IoReadBytesPerSec, Feature::Pids, Feature::CpuCores],
        stated: "memory far beyond normal together with disk or processes far beyond normal; no kind fits",
        matches: unknown,
    },
];

/// The keys of all signatures: while none is beyond normal, nothing is.
pub const KEYS: u64 = {
    let (mut keys, mut place) = (0, 0);
    while place < SIGNATURES.len() {
        keys |= bit(SIGNATURES[place].key);
        place += 1;
    }
    keys
};

fn flood(view: &View<'_>) -> f32 {
    use Feature as F;
    let packets = view.level(F::RxPacketsPerSec);
    let volume = view.strength(F::RxPacketsPerSec) * ramp(packets, 150.0, 400.0);
    if volume == 0.0 || is_caller(view) {
        return 0.0;
    }
    let connections = (view.strength(F::TcpPassiveOpensPerSec) * ramp(view.level(F::TcpPassiveOpensPerSec), 8.0, 25.0))
        .max(view.strength(F::TcpEstablished) * ramp(view.level(F::TcpEstablished), 25.0, 60.0))
        .max(view.strength(F::TcpAttemptFailsPerSec) * ramp(view.level(F::TcpAttemptFailsPerSec), 15.0, 40.0))
        .max(view.strength(F::ListenDropsPerSec))
        .max(view.strength(F::UdpNoPortsPerSec));
    // An upload arrives in large packets, requests come in small ones.
    let small = 1.0 - ramp(view.level(F::RxBytesPerSec) / packets.max(1.0), 400.0, 800.0);
    let costs = view.strength(F::CpuCores).max(view.strength(F::TxPacketsPerSec));
    // Without a baseline a surge is indistinguishable from a busy service, unless something breaks. Acknowledgements of an
    // upload are small packets too: they come to one that nobody calls, or in another ratio to what is sent than requests.
    let requests = if view.ready(F::RxPacketsPerSec) && view.is_called() { small * costs * (1.0 - new_ratio(view)) } else { 0.0 };
    volume * connections.max(requests)
}

/// Opens connections far more than it accepts, and more than normal: the other end of a flood.
fn is_caller(view: &View<'_>) -> bool {
    view.container.opened > 20.0 && view.container.opened > 2.0 * view.container.accepted
}

fn held_connections(view: &View<'_>) -> f32 {
    if !view.is_called() {
        return 0.0;
    }
    view.strength(Feature::TcpEstablished) * ramp(view.level(Feature::TcpEstablished), 80.0, 160.0)
}

/// How far the connections opened found nobody, 0 to 1.
fn unanswered(view: &View<'_>) -> f32 {
    use Feature as F;
    let opens = view.level(F::TcpActiveOpensPerSec).max(0.1);
    ramp(view.level(F::TcpAttemptFailsPerSec) / opens, 0.05, 0.3)
        .max(ramp(view.level(F::TcpSynRetransmitsPerSec) / opens, 0.05, 0.2))
        .max(ramp(view.level(F::ArpIncomplete), 3.0, 10.0))
}

/// Bytes that a connection carries, both directions.
fn bytes_per_open(view: &View<'_>) -> f32 {
    use Feature as F;
    (view.level(F::RxBytesPerSec) + view.level(F::TxBytesPerSec)) / view.level(F::TcpActiveOpensPerSec).max(0.1)
}

fn scan(view: &View<'_>) -> f32 {
    use Feature as F;
    let opens = view.level(F::TcpActiveOpensPerSec);
    // A probe is 2 to 7 packets; the smallest request with its answer some 700 bytes.
    let empty = 1.0 - ramp(bytes_per_open(view), 600.0, 1_000.0);
    let warm = view.ready(F::TcpActiveOpensPerSec);
    let (empty_from, unanswered_from) = if warm { (8.0, 1.5) } else { (10.0, 3.0) };
    let silent = empty * ramp(opens, empty_from, empty_from * 1.8);
    let failed = unanswered(view) * ramp(opens, unanswered_from, unanswered_from * 2.5);
    view.strength(F::TcpActiveOpensPerSec) * silent.max(failed)
}

fn recon(view: &View<'_>) -> f32 {
    use Feature as F;
    let opens = view.level(F::TcpActiveOpensPerSec);
    let resets = view.level(F::TcpEstabResetsPerSec).max(view.level(F::TcpOutResetsPerSec)) / opens.max(0.1);
    view.strength(F::TcpActiveOpensPerSec)
        * ramp(opens, 12.0, 30.0)
        * ramp(resets, 0.2, 0.4)
        * ramp(bytes_per_open(view), 800.0, 1_500.0)
        * (1.0 - unanswered(view))
}

/// How far the ratio of bytes sent to bytes received is beyond the workload's normal, 0 to 1.
fn new_ratio(view: &View<'_>) -> f32 {
    view.beyond(RATIO).map_or(0.0, |beyond| ramp(beyond + 0.3, 0.0, 0.6))
}

fn exfiltration(view: &View<'_>) -> f32 {
    use Feature as F;
    let excess = view.level(F::TxExcessBytesPerSec);
    let (tx, rx) = (view.level(F::TxBytesPerSec), view.level(F::RxBytesPerSec));
    let warm = view.ready(F::TxExcessBytesPerSec);
    let (shape, volume) = if warm {
        (new_ratio(view), ramp(excess, 50e3, 120e3))
    } else {
        // Without a baseline one that is called may simply serve.
        (if view.is_called() { 0.0 } else { ramp(tx / (rx + 1e3), 2.0, 5.0) }, ramp(excess, 150e3, 280e3))
    };
    let asked = if warm { ramp(view.growth(F::TcpPassiveOpensPerSec) / view.growth(F::TxBytesPerSec).max(0.1), 0.3, 0.6) } else { 0.0 };
    view.strength(F::TxExcessBytesPerSec) * volume * shape * (1.0 - asked)
}

fn fork_bomb(view: &View<'_>) -> f32 {
    use Feature as F;
    let pids = view.level(F::Pids);
    let busy = view
        .strength(F::ChildFaultsPerSec)
        .max(view.strength(F::CpuSystemCores))
        .max(view.strength(F::CpuCores))
        .max(ramp(pids, 200.0, 400.0));
    view.strength(F::Pids) * ramp(pids, 25.0, 60.0) * busy
}

fn mining(view: &View<'_>) -> f32 {
    use Feature as F;
    let cores = view.level(F::CpuCores);
    let reads = if view.ready(F::IoReadBytesPerSec) {
        ramp(view.growth(F::IoReadBytesPerSec) / view.growth(F::CpuCores).max(0.1), 0.5, 0.8)
    } else {
        0.0
    };
    let connections = view.strength(F::TcpActiveOpensPerSec) * ramp(view.level(F::TcpActiveOpensPerSec), 20.0, 60.0);
    let explained = view.explained_by_traffic(F::CpuCores).max(reads).max(connections).max(view.strength(F::Pids));
    view.strength(F::CpuCores) * ramp(cores, 0.1, 0.25) * (1.0 - explained)
}

/// cgroup v1 does not count buffered writes for whoever wrote: what is written and not deleted stays in the page cache, on both.
fn disk_fill(view: &View<'_>) -> f32 {
    let growth = view.container.files_growth;
    let lost = ramp(view.node_fs_loss / growth.max(1.0), 0.3, 0.7);
    let written = ramp(view.level(Feature::IoWriteBytesPerSec) / growth.max(1.0), 0.2, 0.5);
    view.strength(Feature::MemoryFileBytes) * ramp(growth, 0.3e6, 1e6) * lost.max(written)
}

fn unknown(view: &View<'_>) -> f32 {
    use Feature as F;
    let far = |feature: F| view.beyond(feature as usize).map_or(0.0, |beyond| ramp(beyond, 0.8, 1.6));
    far(F::MemoryAnonBytes) * far(F::Pids).max(far(F::IoWriteBytesPerSec)).max(far(F::IoReadBytesPerSec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_shows_its_key_first_and_names_a_kind() {
        for signature in &SIGNATURES {
            assert_eq!(signature.shows[0], signature.key);
            assert!(!matches!(signature.kind, Kind::Normal | Kind::Unspecified));
            assert!(signature.warm_tau_s <= signature.cold_tau_s);
        }
    }
}
