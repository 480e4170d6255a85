//! How many observations per second and core the detector judges; prints one JSON list.
//!
//! `cargo run --release -p vedette-detect --example detect_bench [containers] [ticks]`
//!
//! Every tenth workload strays all the time: there the classifier is asked at every row, far oftener than anywhere real.

use std::{sync::Arc, time::Instant};

use vedette_detect::{Classifier, Config, ContainerAt, Detector, SubjectKey};
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

/// A detector that knows its containers.
fn detector(containers: u64) -> Detector {
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
    detector
}

/// Rows of a workload that works far more than it ever did.
fn straying(row: &Observation) -> Observation {
    let mut row = *row;
    row.set(Column::CpuUsageUs, 600_000);
    row.set(Column::NetTxPackets, 900);
    row
}

/// After so many ticks the straying ones stray: by then there is a baseline to stray from.
const CALM_TICKS: u64 = 70;

/// Observations per second and core: of fast rows, of slow ones, of all, and of all in ticks in which a tenth strays.
fn rates(mut detector: Detector, containers: u64, ticks: u64) -> [f64; 4] {
    let fast: Vec<_> = (0..VARIANTS as u64).map(fast_row).collect();
    let slow: Vec<_> = (0..VARIANTS as u64).map(slow_row).collect();
    let odd: Vec<_> = fast.iter().map(straying).collect();
    // Nanoseconds and rows: fast, slow, and those among which some stray.
    let mut sums = [(0u128, 0u64); 3];
    let mut loudest = 0.0f32;
    for tick in 1..=CALM_TICKS + ticks {
        let (is_slow, is_odd) = (tick % 5 == 0, tick > CALM_TICKS);
        let rows = if is_slow { &slow } else { &fast };
        let began = Instant::now();
        for key in 0..containers {
            let rows = if is_odd && !is_slow && key / 3 % 10 == 0 { &odd } else { rows };
            let verdict =
                detector.observe(SubjectKey(key), Origin::Live, tick as i64 * 1_000, &rows[(key * 7 + tick * 13) as usize % VARIANTS]);
            loudest = loudest.max(verdict.score);
        }
        detector.advance("bench", tick as i64 * 1_000);
        let sum = &mut sums[if is_odd { 2 } else { usize::from(is_slow) }];
        *sum = (sum.0 + began.elapsed().as_nanos(), sum.1 + containers);
    }
    eprintln!("loudest score {loudest:.2}, incidents {}", detector.stats().incidents_opened);
    let per_second = |(ns, rows): (u128, u64)| rows as f64 * 1e9 / ns.max(1) as f64;
    let all = (sums[0].0 + sums[1].0, sums[0].1 + sums[1].1);
    [per_second(sums[0]), per_second(sums[1]), per_second(all), per_second(sums[2])]
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let containers = args.next().unwrap_or(10_000);
    let ticks = args.next().unwrap_or(100);
    let line = |name: &str, value: f64, budget: f64| {
        format!(
            "{{\"name\":\"{name}\",\"value\":{value:.0},\"unit\":\"observations/s/core\",\"better\":\"higher\",\"budget\":{budget:.0},\"peer\":null,\"peer_value\":null,\"ratio\":null}}"
        )
    };
    let [fast, slow, mixed, odd] = rates(detector(containers), containers, ticks);
    let classifier = Arc::new(Classifier::shipped().expect("make model made it"));
    let [_, _, asked, asked_odd] = rates(detector(containers).with_classifier(classifier), containers, ticks);
    let lines = [
        line("detect: fast rows", fast, 1_000_000.0),
        line("detect: slow rows", slow, 300_000.0),
        line("detect: mixed 4:1", mixed, 1_000_000.0),
        line("detect: mixed 4:1, a tenth strays", odd, 300_000.0),
        line("detect: mixed 4:1, with the classifier", asked, 1_000_000.0),
        line("detect: mixed 4:1, a tenth strays, with the classifier", asked_odd, 300_000.0),
    ];
    println!("[{}]", lines.join(",\n "));
}
