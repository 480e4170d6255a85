//! Counts since the start: the same numbers in `GetStatus` and on `/metrics`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use vedette_detect::Stats;
use vedette_proto::v1::{Label, LabelSource, Severity, Withheld};

use crate::gauges::OpenIncidents;

use crate::events;

/// Why a message or call was refused. Prints its own metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// No token, or not one of ours.
    Unauthenticated,
    /// A token that may not do this.
    PermissionDenied,
    /// A token that ended.
    Expired,
    /// A token for another audience.
    Audience,
    /// A token that was good and that the API server accepts no more.
    Revoked,
    /// The token of a pod on another node.
    OtherNode,
    /// The token of a pod that the API server does not know, or of none.
    UnknownPod,
    /// A message without content, or one out of place: no Hello first, a second Hello.
    Protocol,
    /// A field of Hello is not what it must be.
    Hello,
    /// A field of a container is not what it must be.
    Container,
    /// A container reference that is not known, or already stands for something else.
    Reference,
    /// Sequences out of order, or a hole that no drop explains.
    Sequence,
    /// A column block that contradicts itself or is too large.
    Block,
    /// A time in the future.
    Future,
    /// A time before the age limit.
    TooOld,
    /// A process, peer or heartbeat field that is not what it must be.
    Field,
    /// More streams, nodes, replays or containers than configured.
    Limit,
    /// Not decodable, or longer than configured.
    Malformed,
    /// Another stream of the same spool took over.
    Superseded,
    /// Cannot be made durable now.
    Unavailable,
}

impl Refusal {
    /// The label on `/metrics` and the key in `GetStatus`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::Expired => "expired",
            Self::Audience => "audience",
            Self::Revoked => "revoked",
            Self::OtherNode => "other_node",
            Self::UnknownPod => "unknown_pod",
            Self::Protocol => "protocol",
            Self::Hello => "hello",
            Self::Container => "container",
            Self::Reference => "reference",
            Self::Sequence => "sequence",
            Self::Block => "block",
            Self::Future => "future",
            Self::TooOld => "too_old",
            Self::Field => "field",
            Self::Limit => "limit",
            Self::Malformed => "malformed",
            Self::Superseded => "superseded",
            Self::Unavailable => "unavailable",
        }
    }

    const ALL: [Self; 20] = [
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::Expired,
        Self::Audience,
        Self::Revoked,
        Self::OtherNode,
        Self::UnknownPod,
        Self::Protocol,
        Self::Hello,
        Self::Container,
        Self::Reference,
        Self::Sequence,
        Self::Block,
        Self::Future,
        Self::TooOld,
        Self::Field,
        Self::Limit,
        Self::Malformed,
        Self::Superseded,
        Self::Unavailable,
    ];
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.word(), encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Refusal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithheldLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeverityLabel {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// What the detector last said of itself.
#[derive(Debug, Default)]
struct DetectorCounts {
    containers: Gauge,
    workloads: Gauge,
    unknown_containers: Counter,
    out_of_order: Counter,
    containers_refused: Counter,
    workloads_evicted: Counter,
    incidents_refused: Counter,
}

/// Counts since the start. Labels come from fixed lists, so nothing here grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches made durable.
    pub batches: Counter,
    /// Observations made durable.
    pub observations: Counter,
    /// Batches recognised as already durable.
    pub duplicate_batches: Counter,
    /// Observations that agents said they had to drop.
    pub dropped_observations: Counter,
    /// Streams open now.
    pub streams: Gauge,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Connections refused because there were too many.
    pub connections_refused: Counter,
    /// Batches between ingest and the pipeline.
    pub pipeline_queue: Gauge,
    /// Batches between the pipeline and durability.
    pub durable_queue: Gauge,
    /// Gone containers, processes and peers forgotten because of a limit.
    pub forgotten: Counter,
    /// Nodes forgotten because they were replaced.
    pub nodes_forgotten: Counter,
    /// Appends that failed.
    pub appends_failed: Counter,
    /// Times of containers, processes and peers that were in the future and set to the aggregator's.
    pub times_ahead: Counter,
    /// Containers refused a name because their pod is another node's.
    pub names_refused: Counter,
    /// Containers that no API object claims now, for longer than a minute.
    pub unclaimed: Gauge,
    /// Containers of which the agent counted more restarts than the API server.
    pub restarts_differ: Gauge,
    /// New templates of owners.
    pub rollouts: Counter,
    /// Workloads held off after one.
    pub hold_offs: Counter,
    /// Pods known from the API server.
    pub known_pods: Gauge,
    /// Incidents open now, by namespace.
    pub open: Arc<OpenIncidents>,
    /// Seconds that the detector took.
    pub detection: Counter<f64, AtomicU64>,
    /// What became of other tools' alerts.
    pub received: crate::receive::Counts,
    /// How notifying goes.
    pub notify: crate::notify::Counts,
    /// Nodes of the API server on which no agent was heard for minutes.
    pub nodes_without_agent: Gauge,
    events: Family<OutcomeLabel, Counter>,
    detector: DetectorCounts,
    refused: Family<ReasonLabel, Counter>,
    labels_added: Family<SourceLabel, Counter>,
    incidents_opened: Family<SeverityLabel, Counter>,
    withheld: Family<WithheldLabel, Counter>,
    incidents_open: Family<SeverityLabel, Gauge>,
}

impl Counters {
    /// Counts a refusal.
    pub fn refuse(&self, reason: Refusal) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Refusals by reason; only reasons that occurred.
    #[must_use]
    pub fn refused(&self) -> HashMap<String, u64> {
        let count = |reason| self.refused.get_or_create(&ReasonLabel { reason }).get();
        Refusal::ALL.into_iter().map(|reason| (reason.word().to_owned(), count(reason))).filter(|(_, n)| *n > 0).collect()
    }

    /// Shows the detector's sizes and the limits that it met.
    pub fn detector(&self, stats: &Stats) {
        let shown = &self.detector;
        shown.containers.set(stats.containers as i64);
        shown.workloads.set(stats.workloads as i64);
        let counts = [
            (&shown.unknown_containers, stats.unknown_containers),
            (&shown.out_of_order, stats.out_of_order),
            (&shown.containers_refused, stats.containers_refused),
            (&shown.workloads_evicted, stats.workloads_evicted),
            (&shown.incidents_refused, stats.incidents_refused),
        ];
        for (counter, count) in counts {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Counts labels that were added.
    pub fn labelled(&self, labels: &[Label]) {
        for label in labels {
            self.labels_added.get_or_create(&SourceLabel { source: label.source().word() }).inc();
        }
    }

    /// Counts incidents that were to be told as Kubernetes Events.
    pub fn events_told(&self, outcome: events::Outcome, count: u64) {
        self.events.get_or_create(&OutcomeLabel { outcome: outcome.word() }).inc_by(count);
    }

    /// How many of them came to this.
    #[must_use]
    pub fn events_count(&self, outcome: events::Outcome) -> u64 {
        self.events.get_or_create(&OutcomeLabel { outcome: outcome.word() }).get()
    }

    /// Counts an incident that opened.
    pub fn incident_opened(&self, severity: Severity) {
        self.incidents_opened.get_or_create(&SeverityLabel { severity: severity.word() }).inc();
    }

    /// Counts an incident that opened less loudly than detection asked.
    pub fn withheld(&self, reason: Withheld) {
        if reason != Withheld::Unspecified {
            self.withheld.get_or_create(&WithheldLabel { reason: reason.word() }).inc();
        }
    }

    /// Sets how many incidents are open.
    pub fn incidents_open(&self, open: &BTreeMap<Severity, i64>) {
        for &severity in Severity::WORDS {
            let label = SeverityLabel { severity: severity.word() };
            self.incidents_open.get_or_create(&label).set(open.get(&severity).copied().unwrap_or(0));
        }
    }

    /// Names every count for `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("batches", "Batches made durable", self.batches.clone());
        registry.register("observations", "Observations made durable", self.observations.clone());
        registry.register("duplicate_batches", "Batches recognised as already durable", self.duplicate_batches.clone());
        registry.register("dropped_observations", "Observations that agents had to drop", self.dropped_observations.clone());
        registry.register("streams", "Ingest streams open now", self.streams.clone());
        registry.register("handshakes_failed", "TLS handshakes that failed or took too long", self.handshakes_failed.clone());
        registry.register("connections_refused", "Connections refused because there were too many", self.connections_refused.clone());
        registry.register("pipeline_queue", "Batches that wait for the detector", self.pipeline_queue.clone());
        registry.register("durable_queue", "Batches that wait to be durable", self.durable_queue.clone());
        registry.register("forgotten", "Gone containers, processes and peers forgotten because of a limit", self.forgotten.clone());
        registry.register("nodes_forgotten", "Nodes forgotten because they were replaced", self.nodes_forgotten.clone());
        registry.register("appends_failed", "Batches that could not be made durable", self.appends_failed.clone());
        registry.register("times_ahead", "Times in the future that were set to the aggregator's", self.times_ahead.clone());
        registry.register("refused", "Messages and calls refused, by reason", self.refused.clone());
        registry.register("labels_added", "Labels added, by source", self.labels_added.clone());
        registry.register("incidents_opened", "Incidents opened, by severity", self.incidents_opened.clone());
        registry.register("incidents_withheld", "Incidents that policy made less loud when they opened, by reason", self.withheld.clone());
        registry.register("incidents_open", "Incidents open now, by severity", self.incidents_open.clone());
        registry.register("names_refused", "Containers refused a name because their pod is another node's", self.names_refused.clone());
        registry.register("unclaimed", "Containers that no API object claims", self.unclaimed.clone());
        registry.register(
            "restarts_differ",
            "Containers with more restarts counted than the API server says",
            self.restarts_differ.clone(),
        );
        registry.register("rollouts", "New templates of owners", self.rollouts.clone());
        registry.register(
            "hold_offs",
            "Workloads whose incidents were tickets at most for a while after a rollout",
            self.hold_offs.clone(),
        );
        registry.register("known_pods", "Pods known from the API server", self.known_pods.clone());
        self.notify.register(registry);
        self.received.register(registry);
        let help = "Time that judging observations took";
        registry.register_with_unit("detection", help, Unit::Seconds, self.detection.clone());
        registry.register(
            "nodes_without_agent",
            "Nodes of the API server on which no agent was heard for 5 minutes",
            self.nodes_without_agent.clone(),
        );
        registry.register("events", "Incidents to be told as Kubernetes Events, by what became of it", self.events.clone());
        let of = &self.detector;
        registry.register("detector_containers", "Containers that the detector knows", of.containers.clone());
        registry.register("detector_workloads", "Workloads that the detector knows", of.workloads.clone());
        registry.register("detector_unknown_containers", "Observations of containers it did not keep", of.unknown_containers.clone());
        registry.register("detector_out_of_order", "Observations not newer than the last of their container", of.out_of_order.clone());
        registry.register("detector_containers_refused", "Containers not kept because of a limit", of.containers_refused.clone());
        registry.register("detector_workloads_evicted", "Workloads forgotten because of a limit", of.workloads_evicted.clone());
        registry.register("detector_incidents_refused", "Incidents not opened because of a limit", of.incidents_refused.clone());
        // A rate needs a zero to begin with.
        for &source in LabelSource::WORDS {
            let _ = self.labels_added.get_or_create(&SourceLabel { source: source.word() });
        }
        for &severity in Severity::WORDS {
            let _ = self.incidents_opened.get_or_create(&SeverityLabel { severity: severity.word() });
        }
        for &reason in Withheld::WORDS {
            let _ = self.withheld.get_or_create(&WithheldLabel { reason: reason.word() });
        }
        for reason in Refusal::ALL {
            let _ = self.refused.get_or_create(&ReasonLabel { reason });
        }
        for outcome in events::Outcome::ALL {
            let _ = self.events.get_or_create(&OutcomeLabel { outcome: outcome.word() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_refusals_by_reason() {
        let counters = Counters::default();
        let mut registry = Registry::with_prefix("vedette_aggregator");
        counters.register(&mut registry);
        counters.refuse(Refusal::Sequence);
        for _ in 0..2 {
            counters.detector(&Stats { containers: 4, containers_refused: 3, ..Stats::default() });
        }

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();

        assert!(text.contains("vedette_aggregator_refused_total{reason=\"sequence\"} 1"), "{text}");
        assert!(text.contains("vedette_aggregator_detector_containers 4"), "{text}");
        assert!(text.contains("vedette_aggregator_detector_containers_refused_total 3"), "{text}");
        assert_eq!(counters.refused(), HashMap::from([("sequence".to_owned(), 1)]));
    }
}
