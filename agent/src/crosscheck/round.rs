//! One round: every container's, pod's and the node's counters beside Prometheus's. Pure.

use std::collections::HashMap;

use vedette_crosscheck::{Fault, Metric, Outcome, Point, Reason, Scrape, Sides, check};
use vedette_proto::v1::{CrossCheck, CrossCheckCause as Cause, CrossCheckMetric as What, CrossCheckOutcome};

use super::{
    own::{Own, Trace},
    theirs::{self, Cadvisor, Exporter},
};

/// Most comparisons of a round.
pub const MAX_CHECKS: usize = 5_000;

/// What Prometheus answered.
#[derive(Debug)]
pub struct Theirs {
    /// cAdvisor's scrape of this node.
    pub cadvisor_scrape: Scrape,
    /// Its series.
    pub cadvisor: Cadvisor,
    /// kube-state-metrics' scrape; `None`: it is not there, and then nothing is said of restarts.
    pub restarts_scrape: Option<Scrape>,
    /// Restarts by pod uid.
    pub restarts: HashMap<String, Vec<Point>>,
    /// node_exporter's scrape of this node; `None`: it is not there, and then nothing is said of the node.
    pub exporter_scrape: Option<Scrape>,
    /// Its series.
    pub exporter: Exporter,
}

/// How much of a metric is nothing: below it the two sides may differ as they like.
#[must_use]
fn metric(what: What) -> Metric {
    match what {
        // A hundredth of a core.
        What::Cpu => Metric::Counter { floor: 0.01 },
        What::WorkingSet => Metric::Gauge { floor: 4e6 },
        What::NetRx | What::NetTx => Metric::Counter { floor: 200.0 },
        // One and a half in five minutes: the API server learns of a restart some seconds later.
        What::Restarts => Metric::Counter { floor: 0.005 },
        What::NodeCpu => Metric::Counter { floor: 0.05 },
        What::NodeMemoryAvailable => Metric::Gauge { floor: 64e6 },
        What::NodeNetRx | What::NodeNetTx | What::Unspecified => Metric::Counter { floor: 2_000.0 },
    }
}

/// Compares everything that is kept.
#[must_use]
pub fn compare(own: &Own, theirs: &Theirs) -> Vec<CrossCheck> {
    let mut checks = Vec::new();
    let mut add = |reference: u32, what: What, scrape: Scrape, ours: &Trace, of_them: Option<&Vec<Point>>| {
        let ours = ours.points();
        if ours.is_empty() || checks.len() >= MAX_CHECKS {
            return;
        }
        let sides = Sides { ours: &ours, theirs: of_them.map_or(&[], Vec::as_slice) };
        checks.push(told(reference, what, check(metric(what), &scrape, sides)));
    };
    let of = |scrape: Scrape, has: &[&str], name: &str| Scrape { has_metric: has.contains(&name), ..scrape };
    let cadvisor = &theirs.cadvisor;
    let mut containers: Vec<_> = own.containers.iter().collect();
    containers.sort_by_key(|(reference, _)| **reference);
    for (&reference, container) in containers {
        let scrape = |name| of(theirs.cadvisor_scrape, &cadvisor.has, name);
        add(reference, What::Cpu, scrape(theirs::CPU), &container.cpu, cadvisor.cpu.get(&container.container_id));
        add(
            reference,
            What::WorkingSet,
            scrape(theirs::WORKING_SET),
            &container.working_set,
            cadvisor.working_set.get(&container.container_id),
        );
    }
    let mut pods: Vec<_> = own.pods.iter().collect();
    pods.sort_by_key(|(_, pod)| pod.carrier);
    for (uid, pod) in pods {
        let scrape = |name| of(theirs.cadvisor_scrape, &cadvisor.has, name);
        add(pod.carrier, What::NetRx, scrape(theirs::RX), &pod.rx, cadvisor.rx.get(uid));
        add(pod.carrier, What::NetTx, scrape(theirs::TX), &pod.tx, cadvisor.tx.get(uid));
        if let Some(scrape) = theirs.restarts_scrape {
            let has_metric = !theirs.restarts.is_empty();
            add(pod.carrier, What::Restarts, Scrape { has_metric, ..scrape }, &pod.restarts, theirs.restarts.get(uid));
        }
    }
    if let Some(scrape) = theirs.exporter_scrape {
        let exporter = &theirs.exporter;
        let node = [
            (What::NodeCpu, theirs::NODE_CPU, &own.node.cpu, &exporter.cpu),
            (What::NodeMemoryAvailable, theirs::NODE_AVAILABLE, &own.node.available, &exporter.available),
            (What::NodeNetRx, theirs::NODE_RX, &own.node.rx, &exporter.rx),
            (What::NodeNetTx, theirs::NODE_TX, &own.node.tx, &exporter.tx),
        ];
        for (what, name, ours, of_them) in node {
            add(0, what, of(scrape, &exporter.has, name), ours, Some(of_them));
        }
    }
    checks
}

/// Prometheus does not answer: of everything nothing can be said.
#[must_use]
pub fn unreachable(own: &Own) -> Vec<CrossCheck> {
    let unknown = |&reference: &u32| CrossCheck {
        container_ref: reference,
        metric: What::Cpu as i32,
        outcome: CrossCheckOutcome::Unknown as i32,
        cause: Cause::Unreachable as i32,
        ..CrossCheck::default()
    };
    let mut checks: Vec<CrossCheck> = own.containers.keys().take(MAX_CHECKS).map(unknown).collect();
    checks.sort_by_key(|check| check.container_ref);
    checks
}

fn told(container_ref: u32, what: What, outcome: Outcome) -> CrossCheck {
    use CrossCheckOutcome::{Agree, Disagree, SourceBroken, Unknown};
    let (outcome, cause, values, late_ms) = match outcome {
        Outcome::Unknown(Reason::OwnHistory) => (Unknown, Cause::OwnHistory, None, None),
        Outcome::Unknown(Reason::TheirHistory) => (Unknown, Cause::TheirHistory, None, None),
        Outcome::Unknown(Reason::NotExported) => (Unknown, Cause::NotExported, None, None),
        Outcome::Agree(values) => (Agree, Cause::Unspecified, Some(values), None),
        Outcome::Disagree(values) => (Disagree, Cause::Unspecified, Some(values), None),
        Outcome::SourceBroken(fault) => match fault {
            Fault::TargetMissing => (SourceBroken, Cause::TargetMissing, None, None),
            Fault::LabelsLost => (SourceBroken, Cause::LabelsLost, None, None),
            Fault::ScrapeGap { ms } => (SourceBroken, Cause::ScrapeGap, None, Some(ms)),
            Fault::Stale { ms } => (SourceBroken, Cause::Stale, None, Some(ms)),
            Fault::Clock { ms } => (SourceBroken, Cause::Clock, None, Some(ms)),
        },
    };
    CrossCheck {
        container_ref,
        metric: what as i32,
        outcome: outcome as i32,
        cause: cause as i32,
        ours: values.map(|values| values.ours),
        theirs: values.map(|values| values.theirs),
        seconds: values.map(|values| values.seconds),
        late_ms,
    }
}
