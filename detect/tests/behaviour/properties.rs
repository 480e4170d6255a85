//! What holds whatever the input.

use proptest::prelude::*;
use vedette_detect::{Config, ContainerAt, Detector, SubjectKey};
use vedette_proto::{
    Column, Observation,
    v1::{self, Origin, Severity},
};

fn detector_with_one() -> Detector {
    let mut detector = Detector::new(Config::default(), 1);
    let workload = v1::Workload { cluster: "test".into(), owner_kind: "Pod".into(), owner_name: "p".into(), ..Default::default() };
    let at =
        ContainerAt { key: SubjectKey(1), cluster: "test", node: "n", workload: &workload, pod_uid: "p", pod_name: "", container_id: "c" };
    let added = v1::ContainerAdded { already_running: true, ..Default::default() };
    detector.container_added(at, &added, true);
    detector
}

fn row(pairs: &[(usize, u64)]) -> Observation {
    let mut row = Observation::default();
    row.set(Column::IntervalUs, 1_000_000);
    row.set(Column::SlowIntervalUs, 1_000_000);
    pairs.iter().for_each(|&(place, value)| row.set(Column::ALL[place], value));
    row
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn scores_stay_within_0_and_1_and_nothing_panics(
        rows in prop::collection::vec((prop::collection::vec((0..Column::COUNT, any::<u64>()), 0..30), -5_000i64..20_000), 1..80),
    ) {
        let mut detector = detector_with_one();
        let mut unix_ms = 0;
        for (pairs, step_ms) in rows {
            unix_ms += step_ms;
            let verdict = detector.observe(SubjectKey(1), Origin::Live, unix_ms, &row(&pairs));
            detector.advance("test", unix_ms);
            prop_assert!((0.0..=1.0).contains(&verdict.score), "{verdict:?}");
        }
        for change in detector.changes() {
            prop_assert!((0.0..=1.0).contains(&change.incident.peak_score));
            prop_assert!(change.incident.evidence.len() <= 8);
            prop_assert!(change.incident.opened_unix_ms >= change.incident.onset_unix_ms);
        }
    }

    #[test]
    fn what_never_changes_opens_nothing(
        cpu in 0u64..4_000_000, rx in 0u64..50_000_000, tx in 0u64..50_000_000,
        opens in 0u64..2_000, accepts in 0u64..2_000, fails in 0u64..500, established in 0u64..1_000,
    ) {
        let mut detector = detector_with_one();
        let mut row = Observation::default();
        for (column, value) in [
            (Column::IntervalUs, 1_000_000), (Column::SlowIntervalUs, 1_000_000), (Column::CpuUsageUs, cpu),
            (Column::NetRxBytes, rx), (Column::NetTxBytes, tx), (Column::NetRxPackets, rx / 500), (Column::NetTxPackets, tx / 500),
            (Column::TcpActiveOpens, opens), (Column::TcpPassiveOpens, accepts), (Column::TcpAttemptFails, fails),
            (Column::TcpEstablished, established),
        ] {
            row.set(column, value);
        }

        for second in 1..400 {
            detector.observe(SubjectKey(1), Origin::Live, second * 1_000, &row);
            detector.advance("test", second * 1_000);
        }

        let loud = detector.changes().into_iter().filter(|change| change.incident.severity >= Severity::Ticket as i32);
        prop_assert_eq!(loud.map(|change| change.incident.summary).collect::<Vec<_>>(), Vec::<String>::new());
    }
}
