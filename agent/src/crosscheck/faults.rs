//! Every fault of Prometheus's side, put into every counter that is compared of containers and pods: CPU, network and restarts; from the
//! series as Prometheus answers them to what is told.

use vedette_crosscheck::{Point, Scrape};
use vedette_proto::v1::{CrossCheck, CrossCheckCause as Cause, CrossCheckMetric as What, CrossCheckOutcome as Said};

use super::{
    client::Labelled,
    own::{Own, OwnContainer, OwnPod},
    round::{Theirs, compare},
    theirs::{self, Cadvisor, Exporter},
};

const START_MS: i64 = 1_700_000_000_000;
const NOW_MS: i64 = START_MS + 400_000;
const INTERVAL_MS: i64 = 30_000;
const UID: &str = "25a97148-4135-4cc0-a6ad-34b0eb870163";
const ID: &str = "58677ca528b718ee35474a7e468841d6ad4c19f2c693a4d6625ccc7cbc059562";
/// Somebody else on the node, with whom nothing is wrong: the target yields the metric.
const OTHER_UID: &str = "00a97148-4135-4cc0-a6ad-34b0eb870163";
const OTHER_ID: &str = "00677ca528b718ee35474a7e468841d6ad4c19f2c693a4d6625ccc7cbc059562";
const COMPARED: [What; 4] = [What::Cpu, What::NetRx, What::NetTx, What::Restarts];

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    LabelsLost,
    TargetDown,
    Gap,
    Stale,
    Up,
    Down,
    /// Values of half a minute ago under the times of now: the exporter's clock.
    Late30Seconds,
    /// Prometheus's own clock is behind.
    Behind30Seconds,
}

impl Fault {
    fn expected(self) -> (Said, Cause) {
        match self {
            Self::None => (Said::Agree, Cause::Unspecified),
            Self::LabelsLost => (Said::SourceBroken, Cause::LabelsLost),
            Self::TargetDown => (Said::SourceBroken, Cause::TargetMissing),
            Self::Gap => (Said::SourceBroken, Cause::ScrapeGap),
            Self::Stale => (Said::SourceBroken, Cause::Stale),
            Self::Up | Self::Down => (Said::Disagree, Cause::Unspecified),
            Self::Late30Seconds | Self::Behind30Seconds => (Said::SourceBroken, Cause::Clock),
        }
    }
}

/// 0 to 1, another every step, none twice the same way.
fn noise(step: i64, of: What) -> f64 {
    ((step as u64 + 977 * of as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as f64 / 65_536.0
}

/// A counter of the container or its pod, since long before the start.
fn counted(of: What, unix_ms: i64) -> f64 {
    let since_ms = unix_ms - START_MS + 200_000;
    if of == What::Restarts {
        // A crash loop: in one of three slots of ten seconds a failure, in another two; half a slot away from the scrapes.
        let failures = |slot: i64| f64::from((noise(slot, of) * 3.0) as u8);
        return (0..(since_ms + 5_000) / 10_000).map(failures).sum();
    }
    // Cores, or bytes a second; a load that changes every few seconds.
    let most = if of == What::Cpu { 0.9 } else { 900e3 };
    let rate = |second: i64| most * (0.1 + noise(second / 20, of));
    let whole = since_ms / 1_000;
    (0..whole).map(rate).sum::<f64>() + rate(whole) * (since_ms % 1_000) as f64 / 1e3
}

fn ours() -> Own {
    let (mut container, mut pod) =
        (OwnContainer { container_id: ID.into(), ..OwnContainer::default() }, OwnPod { carrier: 7, ..OwnPod::default() });
    for unix_ms in (START_MS..=NOW_MS).step_by(2_000) {
        container.cpu.push(unix_ms, counted(What::Cpu, unix_ms), true);
        pod.rx.push(unix_ms, counted(What::NetRx, unix_ms), true);
        pod.tx.push(unix_ms, counted(What::NetTx, unix_ms), true);
        pod.restarts.push(unix_ms, counted(What::Restarts, unix_ms), true);
    }
    let mut own = Own::default();
    own.containers.insert(7, container);
    own.pods.insert(UID.into(), pod);
    own
}

/// What Prometheus has of a counter: scraped every half a minute, a little beside it, with one fault.
fn points(of: What, fault: Fault) -> Vec<Point> {
    let times =
        (START_MS + 90_000..=NOW_MS - 5_000).step_by(INTERVAL_MS as usize).map(|unix_ms| unix_ms + (unix_ms / 1_000 * 577) % 700 - 350);
    let late_ms = if matches!(fault, Fault::Late30Seconds) { 30_000 } else { 0 };
    let factor = match fault {
        Fault::Up => 1.6,
        Fault::Down => 0.5,
        _ => 1.0,
    };
    let mut points: Vec<Point> = times.map(|unix_ms| Point { unix_ms, value: counted(of, unix_ms - late_ms) * factor }).collect();
    match fault {
        Fault::Gap => _ = points.drain(4..7),
        Fault::Stale => points.truncate(7),
        // Its stamps are its own clock's.
        Fault::Behind30Seconds => points.iter_mut().for_each(|point| point.unix_ms -= 30_000),
        _ => {}
    }
    points
}

fn labelled(labels: &[(&str, &str)], points: Vec<Point>) -> Labelled {
    Labelled { labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), points }
}

/// What Prometheus answers with one fault in all of this container's series.
fn theirs(fault: Fault) -> Theirs {
    let cgroup = |uid: &str, id: &str| format!("/kubepods/burstable/pod{uid}/{id}");
    let lost = matches!(fault, Fault::LabelsLost);
    let mut cadvisor = Vec::new();
    for (name, what) in [(theirs::CPU, What::Cpu), (theirs::RX, What::NetRx), (theirs::TX, What::NetTx)] {
        // Without its labels the series is still there, as nobody's.
        let own = if lost { "/".to_owned() } else { cgroup(UID, ID) };
        for (id, fault) in [(own, fault), (cgroup(OTHER_UID, OTHER_ID), Fault::None)] {
            cadvisor.push(labelled(&[("__name__", name), ("id", &id), ("interface", "eth0")], points(what, fault)));
        }
    }
    let restarts = [(if lost { "" } else { UID }, fault), (OTHER_UID, Fault::None)];
    let restarts = restarts.map(|(uid, fault)| labelled(&[("__name__", theirs::RESTARTS[0]), ("uid", uid)], points(What::Restarts, fault)));
    let behind_ms = if matches!(fault, Fault::Behind30Seconds) { 30_000 } else { 0 };
    let mut up: Vec<Point> = (START_MS..=NOW_MS - 5_000)
        .step_by(INTERVAL_MS as usize)
        .map(|unix_ms| Point { unix_ms: unix_ms - behind_ms, value: 1.0 })
        .collect();
    if matches!(fault, Fault::TargetDown) {
        up.iter_mut().for_each(|point| point.value = 0.0);
    }
    let scrape: Scrape = theirs::scrape(&[labelled(&[("__name__", "up")], up)], NOW_MS, Some(-behind_ms));
    Theirs {
        cadvisor_scrape: scrape,
        cadvisor: Cadvisor::new(cadvisor),
        restarts_scrape: Some(scrape),
        restarts: theirs::restarts(restarts.into()),
        exporter_scrape: None,
        exporter: Exporter::default(),
    }
}

fn told(fault: Fault, of: What) -> CrossCheck {
    let checks = compare(&ours(), &theirs(fault));
    checks.into_iter().find(|check| check.metric() == of).unwrap_or_else(|| panic!("nothing is told of {of:?} with {fault:?}"))
}

#[test]
fn every_fault_is_told_apart_in_every_counter() {
    use Fault::{Behind30Seconds, Down, Gap, LabelsLost, Late30Seconds, None, Stale, TargetDown, Up};
    for fault in [None, LabelsLost, TargetDown, Gap, Stale, Up, Down, Late30Seconds, Behind30Seconds] {
        for of in COMPARED {
            let told = told(fault, of);

            assert_eq!((told.outcome(), told.cause()), fault.expected(), "{of:?} with {fault:?}: {told:?}");
        }
    }
}

#[test]
fn what_is_told_says_how_much() {
    for of in COMPARED {
        let values = |fault| {
            let told = told(fault, of);
            told.theirs.unwrap() / told.ours.unwrap()
        };
        let late = |fault| told(fault, of).late_ms.unwrap();

        assert!((1.45..1.75).contains(&values(Fault::Up)) && (0.4..0.6).contains(&values(Fault::Down)), "{of:?}");
        // Between two restarts a counter stands still: any time there is as good.
        let known_ms = if of == What::Restarts { 6_000 } else { 3_000 };
        assert!((late(Fault::Late30Seconds) - 30_000).abs() <= known_ms, "{of:?} {}", late(Fault::Late30Seconds));
        assert!((119_000..=121_000).contains(&late(Fault::Gap)), "{of:?} {}", late(Fault::Gap));
        assert_eq!(late(Fault::Behind30Seconds), -30_000, "{of:?}");
    }
}
