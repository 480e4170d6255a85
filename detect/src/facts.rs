//! Facts: exact, no baseline needed to know that they are true. A fact is a ticket.

use vedette_proto::{
    Column, Feature, Observation,
    v1::{Family, Kind},
};

use crate::{
    container::Container,
    evidence::{self, Ranked},
    pods::Failure,
    thresholds as t,
};

/// A fact that became true.
pub struct Fact {
    pub kind: Kind,
    pub evidence: Ranked,
    pub reasoning: &'static str,
    /// Event time of when it began.
    pub onset_ms: i64,
    /// Quiet time after which its incident resolves; `None`: the usual one.
    pub quiet_ms: Option<i64>,
}

/// Facts stand before every feature.
const RANK: f32 = 20.0;
/// Bits in [`Container::facts`].
const PIDS: u8 = 1;
const DISK: u8 = 2;
/// A limit on processes below this is a design, not an accident waiting.
const LEAST_PIDS_LIMIT: u64 = 16;

/// Facts of a container's row. `raw_is_new`: no container of its workload ever had a raw socket, and its baseline serves.
pub fn of_row(container: &mut Container, unix_ms: i64, row: &Observation, raw_is_new: bool) -> Vec<Fact> {
    let mut facts = Vec::new();
    if let Some(kills) = row.get(Column::OomKills).filter(|&kills| kills > 0) {
        let limit = row.get(Column::MemoryLimitBytes);
        let at = limit.map_or(String::new(), |limit| format!(" at a limit of {}", evidence::human("B", limit as f32)));
        let sentence = format!("{kills} {} killed for lack of memory{at}", plural(kills, "process", "processes"));
        facts.push(Fact {
            kind: Kind::MemoryLeak,
            evidence: evidence::fact("oom_kills", Family::Memory, sentence, Some(kills as f64), "kills", unix_ms, RANK),
            reasoning: "fact: the kernel killed a process for lack of memory",
            onset_ms: unix_ms,
            quiet_ms: None,
        });
    }
    if let (Some(now), Some(limit)) = (row.get(Column::PidsCurrent), row.get(Column::PidsLimit)) {
        let near = limit >= LEAST_PIDS_LIMIT && now as f64 >= limit as f64 * t::PIDS_NEAR_LIMIT;
        if near {
            let sentence = format!("{now} processes and threads of at most {limit}");
            let family = Family::Processes;
            facts.push(Fact {
                kind: Kind::ForkBomb,
                evidence: evidence::fact("pids_near_limit", family, sentence, Some(now as f64), "processes", unix_ms, RANK),
                reasoning: "fact: processes at 90 % of their limit or more",
                onset_ms: unix_ms,
                quiet_ms: None,
            });
        }
        container.facts = if near { container.facts | PIDS } else { container.facts & !PIDS };
    }
    let sockets = row.get(Column::RawSockets).unwrap_or(0).saturating_add(row.get(Column::PacketSockets).unwrap_or(0));
    if raw_is_new && sockets > 0 {
        let sentence = format!("{sockets} raw or packet {}, never seen in this workload", plural(sockets, "socket", "sockets"));
        facts.push(Fact {
            kind: Kind::Scan,
            evidence: evidence::fact(
                Feature::RawSockets.name(),
                Family::NetworkConnections,
                sentence,
                Some(sockets as f64),
                "sockets",
                unix_ms,
                RANK,
            ),
            reasoning: "fact: a raw or packet socket, the first of this workload",
            onset_ms: unix_ms,
            quiet_ms: None,
        });
    }
    facts
}

/// Facts of a node's row.
pub fn of_node(node: &mut Container, unix_ms: i64, row: &Observation) -> Option<Fact> {
    let (size, available) = (row.get(Column::NodeFsSizeBytes)?, row.get(Column::NodeFsAvailableBytes)?);
    let used = 1.0 - available as f64 / size.max(1) as f64;
    let full = size > 0 && used >= t::DISK_NEAR_FULL;
    node.facts = if full { node.facts | DISK } else { node.facts & !DISK };
    full.then(|| {
        let sentence = format!(
            "file system {:.1} % full, {} of {} left",
            used * 100.0,
            evidence::human("B", available as f32),
            evidence::human("B", size as f32)
        );
        Fact {
            kind: Kind::DiskFill,
            evidence: evidence::fact("disk_near_full", Family::Disk, sentence, Some(used), "ratio", unix_ms, RANK),
            reasoning: "fact: the node's file system is 95 % full or more",
            onset_ms: unix_ms,
            quiet_ms: None,
        }
    })
}

/// The third failure of a place, or a later one.
pub fn of_failures(failures: &[Failure]) -> Option<Fact> {
    let (first, last) = (failures.first()?, failures.last()?);
    let gap = failures.windows(2).map(|pair| pair[1].unix_ms - pair[0].unix_ms).max().unwrap_or(0);
    let lived = last.lived_ms.map_or(String::new(), |ms| format!(", the last after {:.1} s", ms as f32 / 1e3));
    let sentence = format!(
        "container ended {} times within {:.0} s while its pod went on{lived}",
        failures.len(),
        (last.unix_ms - first.unix_ms) as f32 / 1e3
    );
    let count = Some(failures.len() as f64);
    Some(Fact {
        kind: Kind::CrashLoop,
        evidence: evidence::fact("failures", Family::Lifecycle, sentence, count, "failures", last.unix_ms, RANK + failures.len() as f32),
        reasoning: "fact: the third failure of the same place in a pod within ten minutes, each after less than ten minutes of life",
        onset_ms: first.unix_ms,
        // Back-off doubles: the next failure may take twice as long.
        quiet_ms: Some((gap * 3).clamp(60_000, 660_000)),
    })
}

/// Memory that has only grown for eleven minutes.
pub fn of_memory(container: &mut Container, unix_ms: i64, row: &Observation) -> Option<Fact> {
    let level = row.get(Column::MemoryAnonBytes).or_else(|| row.get(Column::MemoryWorkingSetBytes))?;
    if !container.memory.take(unix_ms, level as f32) {
        return None;
    }
    let growth = container.memory.growth()?;
    let limit = row.get(Column::MemoryLimitBytes).map(|limit| limit as f32);
    let per_second = (growth.to - growth.from) / growth.seconds;
    // Much for itself, and without a limit that is near a gigabyte: caches fill, and then stop.
    let much = growth.to - growth.from >= (growth.from * 0.3).max(64e6);
    let left_s = limit.map(|limit| (limit - growth.to).max(0.0) / per_second);
    let urgent = left_s.map_or(growth.to - growth.from >= 1e9, |left| left <= 3_600.0);
    if !(much && urgent) {
        return None;
    }
    let until = left_s.map_or(String::new(), |left| format!(", at its limit in {:.0} min", left / 60.0));
    let sentence = format!(
        "memory grew without a pause from {} to {} in {:.0} min{until}",
        evidence::human("B", growth.from),
        evidence::human("B", growth.to),
        growth.seconds / 60.0
    );
    let observed = Some(f64::from(per_second));
    Some(Fact {
        kind: Kind::MemoryLeak,
        evidence: evidence::fact("memory_growth", Family::Memory, sentence, observed, "B/s", unix_ms, RANK),
        reasoning: "memory grows in every minute of eleven, by a third or more, and meets its limit within the hour",
        onset_ms: unix_ms - (growth.seconds * 1e3) as i64,
        quiet_ms: Some(120_000),
    })
}

fn plural<'a>(count: u64, one: &'a str, more: &'a str) -> &'a str {
    if count == 1 { one } else { more }
}
