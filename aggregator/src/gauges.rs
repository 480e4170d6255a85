//! What `/metrics` tells of the moment: read when asked for, so a series ends with what it is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use serde::{Deserialize, Serialize};
use vedette_proto::v1::{Incident, Severity};

use crate::{clock, fleet::Fleet, problems::Problems};

/// Namespaces that have a series of their own; the others are summed up as [`OTHERS`]. With three severities 600 series.
const MAX_NAMESPACES: usize = 200;
/// No namespace can have this name.
const OTHERS: &str = "_others";
/// Workloads that have a series of their own; the others are counted.
const MAX_WORKLOADS: usize = 20_000;

/// What is told beyond the aggregator's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// A score for each workload. Whoever can read it can try out what stays unseen: off unless only few can.
    pub workloads: bool,
}

/// Open incidents by namespace and severity; bounded by `detect.max_open_incidents`.
#[derive(Debug, Default)]
pub struct OpenIncidents(Mutex<BTreeMap<u64, (String, Severity)>>);

impl OpenIncidents {
    /// Notes how an incident stands.
    pub fn note(&self, incident: &Incident) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if incident.resolved_unix_ms > 0 {
            open.remove(&incident.id);
        } else {
            let namespace = incident.workload.as_ref().map_or("", |workload| workload.namespace.as_str()).to_owned();
            open.insert(incident.id, (namespace, incident.severity()));
        }
    }

    /// Counts; those of the first [`MAX_NAMESPACES`] namespaces by name, and the rest together.
    fn counts(&self) -> BTreeMap<(String, &'static str), i64> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named: BTreeSet<&String> = open.values().map(|(namespace, _)| namespace).collect();
        let named: BTreeSet<&String> = named.into_iter().take(MAX_NAMESPACES).collect();
        // Nodes, which have no namespace, are always there: a rule needs a zero to compare.
        let mut counts: BTreeMap<_, _> = Severity::WORDS.iter().map(|severity| ((String::new(), severity.word()), 0)).collect();
        for (namespace, severity) in open.values() {
            let shown = if named.contains(namespace) { namespace.as_str() } else { OTHERS };
            *counts.entry((shown.to_owned(), severity.word())).or_insert(0) += 1;
        }
        counts
    }
}

/// Reads the gauges.
#[derive(Debug)]
pub struct Gauges {
    /// Nodes and containers.
    pub fleet: Arc<Fleet>,
    /// Incidents.
    pub open: Arc<OpenIncidents>,
    /// What is wrong with the aggregator itself.
    pub problems: Arc<Problems>,
    /// Batches that fit into each queue, by its name.
    pub queues: [(&'static str, usize); 2],
    /// What is told.
    pub config: Metrics,
}

impl Gauges {
    fn workloads(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (scores, more) = self.fleet.scores(MAX_WORKLOADS);
        let help = "Score of the last verdict, the highest of the workload's containers: 0 as always, to 1";
        let mut family = encoder.encode_descriptor("workload_score", help, None, MetricType::Gauge)?;
        for (workload, score) in scores {
            let labels = [
                ("namespace", workload.namespace),
                ("owner_kind", workload.owner_kind),
                ("owner", workload.owner_name),
                ("container", workload.container_name),
            ];
            ConstGauge::new(score).encode(family.encode_family(&labels)?)?;
        }
        number(encoder, "workloads_without_series", "Workloads beyond those that have a series", more as i64)
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let sums = self.fleet.sums(clock::unix_ms());
        family(&mut encoder, "agents", "Nodes by how they stand with us", "state", sums.nodes)?;
        let help = "Containers alive by what is known of their normal";
        family(&mut encoder, "containers_by_baseline", help, "baseline", sums.baselines)?;
        let waiting = i64::try_from(sums.outbox_batches).unwrap_or(i64::MAX);
        number(&mut encoder, "agents_outbox_batches", "Batches that wait at agents", waiting)?;
        let queues = self.queues.map(|(name, size)| (name, size as i64));
        family(&mut encoder, "queue_capacity", "Batches that fit into a queue", "queue", queues)?;
        number(&mut encoder, "problems", "Lines that vedette status shows as problems", self.problems.lines().len() as i64)?;
        let mut incidents =
            encoder.encode_descriptor("namespace_incidents", "Incidents open now, by namespace and severity", None, MetricType::Gauge)?;
        for ((namespace, severity), count) in self.open.counts() {
            let labels = [("namespace", namespace.as_str()), ("severity", severity)];
            ConstGauge::new(count).encode(incidents.encode_family(&labels)?)?;
        }
        if self.config.workloads { self.workloads(&mut encoder) } else { Ok(()) }
    }
}

fn number(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), std::fmt::Error> {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (&'static str, i64)>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (word, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&[(label, word)])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
