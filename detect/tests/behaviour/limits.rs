//! Every limit holds, and is counted.

use vedette_detect::{Config, ConfigError, ContainerAt, Detector, SubjectKey, Verdict};
use vedette_proto::{
    Column, Observation,
    v1::{self, BaselineState, Origin},
};

fn add(detector: &mut Detector, key: u64, workload: &str) {
    let workload = v1::Workload { cluster: "test".into(), owner_kind: "Pod".into(), owner_name: workload.into(), ..Default::default() };
    let (pod, id) = (format!("pod-{key}"), format!("{key:064x}"));
    let at = ContainerAt {
        key: SubjectKey(key),
        cluster: "test",
        node: "n",
        workload: &workload,
        pod_uid: &pod,
        pod_name: "",
        container_id: &id,
    };
    detector.container_added(at, &v1::ContainerAdded { already_running: true, ..Default::default() }, true);
}

fn row(cpu_us: u64) -> Observation {
    let mut row = Observation::default();
    row.set(Column::IntervalUs, 1_000_000);
    row.set(Column::CpuUsageUs, cpu_us);
    row
}

#[test]
fn containers_beyond_the_limit_are_scored_normal_and_counted() {
    let mut detector = Detector::new(Config { max_containers: 2, ..Config::default() }, 1);
    (0..5).for_each(|key| add(&mut detector, key, "same"));

    assert_eq!(detector.observe(SubjectKey(4), Origin::Live, 1_000, &row(1)), Verdict::NORMAL);
    let stats = detector.stats();
    assert_eq!((stats.containers, stats.containers_refused, stats.unknown_containers), (2, 3, 1));
}

#[test]
fn workloads_without_containers_make_room_and_living_ones_stay() {
    let mut detector = Detector::new(Config { max_workloads: 3, ..Config::default() }, 1);
    for key in 0..10 {
        add(&mut detector, key, &format!("workload-{key}"));
        if key > 0 {
            detector.container_removed(SubjectKey(key), &v1::ContainerRemoved::default(), Origin::Live);
        }
    }

    let stats = detector.stats();
    assert_eq!((stats.workloads, stats.workloads_evicted, stats.containers), (3, 7, 1));
}

#[test]
fn a_flood_of_short_lived_pods_does_not_push_out_what_was_learnt() {
    let mut detector = Detector::new(Config { max_workloads: 50, ..Config::default() }, 1);
    let removed = |unix_ms| v1::ContainerRemoved { unix_ms, ..Default::default() };
    add(&mut detector, 1, "nightly");
    for second in 1..=200 {
        detector.observe(SubjectKey(1), Origin::Live, second * 1_000, &row(10_000));
    }
    let learnt = detector.container_state(SubjectKey(1)).unwrap().baseline;
    detector.container_removed(SubjectKey(1), &removed(200_000), Origin::Live);

    // Each is there for some rows, and comes after the job did.
    for key in 2..500 {
        add(&mut detector, key, &format!("made-up-{key}"));
        for row_of in 0..5 {
            detector.observe(SubjectKey(key), Origin::Live, (300 + key as i64 + row_of) * 1_000, &row(1));
        }
        detector.container_removed(SubjectKey(key), &removed((310 + key as i64) * 1_000), Origin::Live);
    }
    add(&mut detector, 500, "nightly");

    assert!(detector.stats().workloads_evicted >= 400, "{:?}", detector.stats());
    assert_eq!((learnt, detector.container_state(SubjectKey(500)).unwrap().baseline), (BaselineState::Ready, BaselineState::Ready));
}

#[test]
fn a_table_full_of_the_living_takes_newcomers_soon_after_one_of_them_goes() {
    let limit = 500;
    let mut detector = Detector::new(Config { max_workloads: limit, ..Config::default() }, 1);
    let mut next = 0..;
    let mut newcomer = |detector: &mut Detector| {
        let key = next.next().expect("endless");
        add(detector, key, &format!("workload-{key}"));
    };
    (0..limit + 50).for_each(|_| newcomer(&mut detector));
    assert_eq!(detector.stats().containers_refused, 50);

    detector.container_removed(SubjectKey(7), &v1::ContainerRemoved::default(), Origin::Live);
    // A search in vain is not repeated for the next hundredth of the table.
    (0..limit / 100 + 1).for_each(|_| newcomer(&mut detector));

    assert_eq!(detector.stats().workloads_evicted, 1);
    assert_eq!(detector.stats().workloads, limit);
}

#[test]
fn incidents_beyond_the_limit_are_counted() {
    let mut detector = Detector::new(Config { max_open_incidents: 2, ..Config::default() }, 1);
    let mut killed = row(1);
    killed.set(Column::OomKills, 1);
    for key in 0..5 {
        add(&mut detector, key, &format!("workload-{key}"));
        detector.observe(SubjectKey(key), Origin::Live, 1_000, &killed);
    }

    let stats = detector.stats();
    assert_eq!((stats.open_incidents, stats.incidents_opened, stats.incidents_refused), (2, 2, 3));
}

#[test]
fn rows_that_are_not_newer_are_neither_scored_nor_learnt() {
    let mut detector = Detector::new(Config::default(), 1);
    add(&mut detector, 1, "one");
    for _ in 0..100 {
        detector.observe(SubjectKey(1), Origin::Live, 1_000, &row(1));
    }

    assert_eq!(detector.stats().out_of_order, 99);
    assert_eq!(detector.container_state(SubjectKey(1)).unwrap().baseline, BaselineState::Learning);
}

#[test]
fn an_identity_that_comes_late_brings_what_was_learnt() {
    let mut detector = Detector::new(Config::default(), 1);
    add(&mut detector, 1, "a-pod-uid");
    for second in 1..100 {
        detector.observe(SubjectKey(1), Origin::Live, second * 1_000, &row(900_000));
    }

    add(&mut detector, 1, "its-name");

    assert_eq!(detector.container_state(SubjectKey(1)).unwrap().baseline, BaselineState::Ready);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_key() {
    assert_eq!(Config::default().check(), Ok(()));
    assert_eq!(Config { max_containers: 0, ..Config::default() }.check(), Err(ConfigError::Zero("max_containers")));
    assert_eq!(Config { silence_page_seconds: 5, ..Config::default() }.check(), Err(ConfigError::PageBeforeTicket));
    let error = toml::from_str::<Config>("max_container = 5").unwrap_err().to_string();
    assert!(error.contains("max_container"), "{error}");
}
