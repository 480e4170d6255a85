//! The layout on examples computed by hand.

use super::*;

fn check(actual: f64, expected: f64) {
    assert!((actual.is_nan() && expected.is_nan()) || (actual - expected).abs() < 1e-9, "{actual} is not {expected}");
}

fn name(text: &str) -> Arc<str> {
    text.into()
}

/// A second of 0.5 cores, 100 bytes sent and 200 received.
fn second(unix_ms: i64) -> Point {
    Point {
        unix_ms,
        interval_us: Some(1_000_000),
        cpu_usage_us: Some(500_000),
        memory_current_bytes: Some(1_000),
        net_tx_bytes: Some(100),
        net_rx_bytes: Some(200),
        ..Point::default()
    }
}

#[test]
fn two_containers_over_eighty_seconds_as_computed_by_hand() {
    let (a, b) = (name("a"), name("b"));
    let mut fold = Fold::default();
    // a: every second from 1 to 80; b: only from 61 to 70, with a working set at 65 and one restart.
    for at in 1..=80 {
        fold.add(&a, &second(at * 1000));
    }
    for at in 61..=70 {
        let working_set = (at == 65).then_some(600);
        fold.add(&b, &Point { memory_working_set_bytes: working_set, restarts: (at == 61).then_some(1), ..second(at * 1000) });
    }

    let rows = fold.rows(1, 8, &[(34_000, 41_000)]);

    // After ten seconds, ten are covered: the rate is that of one container.
    check(rows[0].cpu, 0.5);
    check(rows[0].net_tx, 100.0);
    check(rows[0].memory, 1_000.0);
    check(rows[0].restarts, f64::NAN);
    // At 70 s the last minute has 60 s of a and 10 s of b: (60 + 10) / 60 of a container.
    check(rows[6].cpu, 0.5 * 70.0 / 60.0);
    check(rows[6].net_rx, 200.0 * 70.0 / 60.0);
    check(rows[6].restarts, 1.0);
    // Of a all that is charged, of b its working set.
    check(rows[6].memory, 1_600.0);
    // At 80 s b was last seen 10 s ago: its working set of 65 s is 15 s old and out, what is charged at 70 s is in.
    check(rows[7].memory, 2_000.0);
    check(rows[7].restarts, 1.0);
    // The label touches (30, 40] and (40, 50].
    assert_eq!(rows.iter().map(|row| row.anomaly).collect::<Vec<_>>(), [false, false, false, true, true, false, false, false]);
    assert_eq!(rows[7].unix_ms, 80_000);
}

#[test]
fn a_hole_is_not_a_number_and_parts_give_the_same_rows_as_the_whole() {
    let a = name("a");
    let points: Vec<i64> = (1..=30).chain(150..=200).collect();
    let mut whole = Fold::default();
    points.iter().for_each(|at| whole.add(&a, &second(at * 1000)));
    let expected = whole.rows(1, 20, &[]);

    let mut parts = Fold::default();
    let mut rows = Vec::new();
    for (first, last) in [(1, 2), (3, 14), (15, 20)] {
        points.iter().filter(|at| (first..=last).contains(&step_of(**at * 1000))).for_each(|at| parts.add(&a, &second(at * 1000)));
        rows.extend(parts.rows(first, last, &[]));
    }

    assert_eq!(format!("{rows:?}"), format!("{expected:?}"));
    // 30 s are the last; their minute ends at 90 s.
    check(rows[7].cpu, 0.5 * 10.0 / 60.0);
    check(rows[8].cpu, f64::NAN);
    check(rows[4].memory, f64::NAN);
}

#[test]
fn an_instant_on_the_step_belongs_to_its_row() {
    assert_eq!([step_of(1), step_of(10_000), step_of(10_001), step_of(0)], [1, 1, 2, 0]);
}

#[test]
fn a_label_that_ends_where_a_row_begins_does_not_touch_it() {
    // (10 s, 20 s]: half-open stretches that hold no instant of it, and some that do.
    let touch = |stretch| touches(&[stretch], 10_000, 20_000);

    assert_eq!([touch((0, 10_000)), touch((0, 10_001)), touch((0, 10_002))], [false, false, true]);
    assert_eq!([touch((20_000, 30_000)), touch((20_001, 30_000)), touch((12_000, 13_000))], [true, false, true]);
}

#[test]
fn the_header_and_the_values_are_those_of_the_layout() {
    let row = SeedRow { unix_ms: 1_748_698_155_909, restarts: 21.0, cpu: 2.5, memory: f64::NAN, net_tx: 1.0, net_rx: 2.0, anomaly: true };
    let batch = batch(&[row]).unwrap();

    let (mut encoder, mut bytes) = super::super::encode::Encoder::begin(vedette_proto::v1::ExportFormat::Csv, &schema()).unwrap();
    bytes.extend(encoder.write(&batch).unwrap());

    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "timestamp,restarts,cpu,memory,net_tx,net_rx,label\r\n2025-05-31T13:29:15.909000,21,2.5,NaN,1,2,anomaly\r\n"
    );
}
