//! A baseline that is moved by small steps: CPU raised by 0.2, 1 and 2 % every ten minutes, after a day of ordinary work.
//!
//! `cargo run --release -p vedette-detect --example poisoning [seed]`
//!
//! Prints a list of figures as JSON: at how many times of what it was an incident opened, a ticket at least; null where none did before four
//! times.

#[expect(dead_code, reason = "one sort of work is enough here")]
#[path = "normal_days/load.rs"]
mod load;

use vedette_detect::{Config, ContainerAt, Detector, SubjectKey};
use vedette_proto::v1::{ContainerAdded, Origin, Severity, Workload};

use self::load::{Chance, Work, Worker};

const CLUSTER: &str = "made-up";
const START_S: i64 = 1_700_006_400;
const DAY_S: i64 = 86_400;
/// Between two steps.
const STEP_S: f64 = 600.0;
/// Nobody would call it slow from here on.
const GIVEN_UP: f64 = 4.0;

fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let figures: Vec<_> = [0.2, 1.0, 2.0].into_iter().map(|percent| figure(percent, poisoned(percent, seed))).collect();
    println!("[{}]", figures.join(",\n "));
}

fn figure(percent: f64, times: Option<f64>) -> String {
    let value = times.map_or_else(|| "null".to_owned(), |times| format!("{times:.3}"));
    format!(
        "{{\"dataset\":\"made-up poisoning\",\"split\":\"none: nothing is trained\",\"model\":\"vedette\",\"metric\":\"CPU raised {percent} % every 10 minutes: times its begin when told\",\"value\":{value},\"target\":\"<= 3\"}}"
    )
}

/// How many times of what it was when it was told.
fn poisoned(percent: f64, seed: u64) -> Option<f64> {
    let mut detector = Detector::new(Config::default(), 1);
    let workload = Workload {
        cluster: CLUSTER.into(),
        namespace: "shop".into(),
        owner_kind: "Deployment".into(),
        owner_name: "scraper".into(),
        container_name: "main".into(),
    };
    let at = ContainerAt {
        key: SubjectKey(1),
        cluster: CLUSTER,
        node: "node-1",
        workload: &workload,
        pod_uid: "scraper-1",
        pod_name: "scraper-1",
        container_id: &"1".repeat(64),
    };
    let added = ContainerAdded { first_seen_unix_ms: START_S * 1_000, already_running: true, ..ContainerAdded::default() };
    detector.container_added(at, &added, true);
    let mut worker = Worker::new(Work::Scraper, 15.0, Chance::new(seed, 1), START_S - DAY_S);
    let mut second = START_S;
    loop {
        second += 1;
        let steps = ((second - START_S - DAY_S).max(0) as f64 / STEP_S).floor();
        worker.cpu_times = (1.0 + percent / 100.0).powf(steps);
        if worker.cpu_times >= GIVEN_UP {
            eprintln!("{percent} % every 10 minutes: not told before {GIVEN_UP} times");
            return None;
        }
        detector.observe(SubjectKey(1), Origin::Live, second * 1_000, &worker.row(second));
        detector.advance(CLUSTER, second * 1_000);
        let told = detector.changes().into_iter().find(|change| change.incident.severity >= Severity::Ticket as i32);
        if let Some(change) = told {
            let hours = (second - START_S - DAY_S) as f64 / 3_600.0;
            eprintln!("{percent} % every 10 minutes: {} at {:.2} times, after {hours:.1} h", change.incident.effect, worker.cpu_times);
            return Some(worker.cpu_times);
        }
    }
}
