//! How many observations per second and core the detector judges; prints one JSON list.
//!
//! `cargo run --release -p vedette-detect --example detect_bench [containers] [ticks]`

use std::time::Instant;

use vedette_detect::{Config, ContainerAt, Detector, SubjectKey};
use vedette_proto::{
    Column, Observation,
    v1::{ContainerAdded, Origin, Workload},
};

/// Different rows per tier: as many as make their values differ, as few as stay in the cache beside the detector.
const VARIANTS: usize = 61;

fn fast_row(variant: u64) -> Observation {
    let mut row = Observation::default();
    for (column, value) in [
        (Column::IntervalUs, 1_000_000 + variant * 37),
        (Column::CpuUsageUs, 20_000 + variant * 300),
        (Column::MemoryCurrentBytes, 60_000_000 + variant * 4_096),
        (Column::NetRxBytes, 20_000 + variant * 211),
        (Column::NetRxPackets, 60 + variant),
        (Column::NetTxBytes, 25_000 + variant * 173),
        (Column::NetTxPackets, 60 + variant),
        (Column::NetDropped, 0),
    ] {
        row.set(column, value);
    }
    row
}

fn slow_row(variant: u64) -> Observation {
    let mut row = fast_row(variant);
    for &column in Column::ALL.iter().filter(|column| (20..=80).contains(&column.id())) {
        row.set(column, variant % 7);
    }
    row.set(Column::OomKills, 0);
    row.set(Column::RawSockets, 0);
    row.set(Column::PacketSockets, 0);
    row.set(Column::PidsCurrent, 8);
    row.set(Column::PidsLimit, 1_000);
    row.set(Column::SlowIntervalUs, 5_000_000 + variant * 91);
    row.set(Column::MemoryAnonBytes, 50_000_000);
    row.set(Column::MemoryLimitBytes, 500_000_000);
    row
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let containers = args.next().unwrap_or(10_000);
    let ticks = args.next().unwrap_or(100);
    let mut detector = Detector::new(Config::default(), 1);
    for key in 0..containers {
        let workload = Workload {
            cluster: "bench".into(),
            namespace: "bench".into(),
            owner_kind: "Deployment".into(),
            // Three replicas each.
            owner_name: format!("workload-{}", key / 3),
            container_name: "main".into(),
        };
        let (pod, id, node) = (format!("pod-{key}"), format!("{key:064x}"), format!("node-{}", key / 110));
        let at = ContainerAt {
            key: SubjectKey(key),
            cluster: "bench",
            node: &node,
            workload: &workload,
            pod_uid: &pod,
            pod_name: &pod,
            container_id: &id,
        };
        detector.container_added(at, &ContainerAdded { already_running: true, ..ContainerAdded::default() }, true);
    }
    let fast: Vec<_> = (0..VARIANTS as u64).map(fast_row).collect();
    let slow: Vec<_> = (0..VARIANTS as u64).map(slow_row).collect();

    let (mut fast_ns, mut slow_ns, mut fast_rows, mut slow_rows) = (0u128, 0u128, 0u64, 0u64);
    let mut loudest = 0.0f32;
    for tick in 1..=ticks {
        let is_slow = tick % 5 == 0;
        let rows = if is_slow { &slow } else { &fast };
        let began = Instant::now();
        for key in 0..containers {
            let row = &rows[(key * 7 + tick * 13) as usize % VARIANTS];
            let verdict = detector.observe(SubjectKey(key), Origin::Live, tick as i64 * 1_000, row);
            loudest = loudest.max(verdict.score);
        }
        detector.advance("bench", tick as i64 * 1_000);
        let ns = began.elapsed().as_nanos();
        if is_slow {
            slow_ns += ns;
            slow_rows += containers;
        } else {
            fast_ns += ns;
            fast_rows += containers;
        }
    }
    let per_second = |rows: u64, ns: u128| rows as f64 * 1e9 / ns.max(1) as f64;
    let line = |name: &str, value: f64, budget: f64| {
        format!(
            "{{\"name\":\"{name}\",\"value\":{value:.0},\"unit\":\"observations/s/core\",\"better\":\"higher\",\"budget\":{budget:.0},\"peer\":null,\"peer_value\":null,\"ratio\":null}}"
        )
    };
    eprintln!("loudest score {loudest:.2}, incidents {}", detector.stats().incidents_opened);
    println!(
        "[{},\n {},\n {}]",
        line("detect: fast rows", per_second(fast_rows, fast_ns), 1_000_000.0),
        line("detect: slow rows", per_second(slow_rows, slow_ns), 300_000.0),
        line("detect: mixed 4:1", per_second(fast_rows + slow_rows, fast_ns + slow_ns), 1_000_000.0),
    );
}
