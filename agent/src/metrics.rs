//! The agent's own metrics, as OpenMetrics wants them: base units last, counters without their `_total` (the encoder adds it). Every limit and every
//! loss has a counter here, and one for each reason from the start: a rate needs a zero to begin with.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

/// Why batches are dropped.
const DROPPED: [&str; 6] = ["spool full", "too old", "spool write failed", "refused", "damaged", "sequence given twice"];
/// Limits that leave something out.
const LIMITS: [&str; 16] = [
    "containers",
    "containers_per_pod",
    "pods",
    "nested_in_container",
    "cgroup_directories",
    "inotify_watches",
    "inotify_queue",
    "open_files",
    "processes",
    "processes_per_tick",
    "processes_per_pod",
    "process_facts",
    "promoted_pods",
    "peers_per_second",
    "cross_check_containers",
    "cross_check_points",
];
/// Why streams fail.
const FAILURES: [&str; 4] = ["file", "connect", "refused", "ended"];

/// Why Prometheus could not be asked.
const CROSS_CHECK_FAILURES: [&str; 4] = ["file", "unreachable", "refused", "answer"];

/// One label: why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// Why.
    pub reason: &'static str,
}

/// A file that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UnreadableFile {
    /// Name of the file, without the process or container that it belongs to.
    pub file: &'static str,
    /// `missing`, `denied`, `ended`, `limit` or `other`.
    pub reason: &'static str,
}

/// Whose network a pod has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PodNetwork {
    /// `own`, `host`, or `unknown` where no process of it was seen.
    pub network: &'static str,
}

/// What was compared with Prometheus, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Compared {
    /// The metric's word.
    pub metric: &'static str,
    /// The outcome's word.
    pub outcome: &'static str,
}

/// Everything the agent counts about itself.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Container rows put into the outbox.
    pub observations: Counter,
    /// Node rows put into the outbox.
    pub node_observations: Counter,
    /// Container rows that the aggregator acknowledged.
    pub acknowledged_observations: Counter,
    /// Ticks.
    pub ticks: Counter,
    /// Ticks that came more than 1.5 intervals after the one before.
    pub late_ticks: Counter,
    /// Ticks that never came, because one before took their time.
    pub missed_ticks: Counter,
    /// Containers observed now.
    pub containers: Gauge,
    /// Pods with containers now, and containers outside any, by whose network they have.
    pub pods: Family<PodNetwork, Gauge>,
    /// Restarts counted.
    pub restarts: Counter,
    /// Batches waiting.
    pub outbox_batches: Gauge,
    /// Bytes of the spool.
    pub outbox_bytes: Gauge,
    /// 1 while the spool can be written.
    pub spool_writable: Gauge,
    /// Container rows dropped.
    pub dropped_observations: Family<Reason, Counter>,
    /// Batches dropped.
    pub dropped_batches: Family<Reason, Counter>,
    /// Files that could not be read.
    pub unreadable: Family<UnreadableFile, Counter>,
    /// Things left out because a limit was hit.
    pub limited: Family<Reason, Counter>,
    /// Pods promoted to all tiers on every tick.
    pub promotions: Counter,
    /// Kernel files open.
    pub open_files: Gauge,
    /// Streams to the aggregator that failed.
    pub stream_failures: Family<Reason, Counter>,
    /// 1 while a stream is established.
    pub connected: Gauge,
    /// Seconds that a tick's work took.
    pub tick_seconds: Histogram,
    /// Containers, pods and the node, by metric and by what the last comparison with Prometheus came to; nothing while it is off.
    pub cross_checks: Family<Compared, Gauge>,
    /// Rounds of comparisons.
    pub cross_check_rounds: Counter,
    /// Rounds in which Prometheus could not be asked.
    pub cross_check_failures: Family<Reason, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            observations: Counter::default(),
            node_observations: Counter::default(),
            acknowledged_observations: Counter::default(),
            ticks: Counter::default(),
            late_ticks: Counter::default(),
            missed_ticks: Counter::default(),
            containers: Gauge::default(),
            pods: Family::default(),
            restarts: Counter::default(),
            outbox_batches: Gauge::default(),
            outbox_bytes: Gauge::default(),
            spool_writable: Gauge::default(),
            dropped_observations: Family::default(),
            dropped_batches: Family::default(),
            unreadable: Family::default(),
            limited: Family::default(),
            promotions: Counter::default(),
            open_files: Gauge::default(),
            stream_failures: Family::default(),
            connected: Gauge::default(),
            // A tick of a full node takes 5-20 ms; a second would be late.
            tick_seconds: Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]),
            cross_checks: Family::default(),
            cross_check_rounds: Counter::default(),
            cross_check_failures: Family::default(),
        };
        for reason in DROPPED {
            drop(metrics.dropped_batches.get_or_create(&Reason { reason }));
            drop(metrics.dropped_observations.get_or_create(&Reason { reason }));
        }
        for reason in LIMITS {
            drop(metrics.limited.get_or_create(&Reason { reason }));
        }
        for reason in CROSS_CHECK_FAILURES {
            drop(metrics.cross_check_failures.get_or_create(&Reason { reason }));
        }
        for reason in FAILURES {
            drop(metrics.stream_failures.get_or_create(&Reason { reason }));
        }
        metrics
    }
}

impl Metrics {
    /// Counts something that a limit left out.
    pub fn limited(&self, reason: &'static str) {
        self.limited.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a file that could not be read.
    pub fn unreadable(&self, file: &'static str, reason: &'static str) {
        self.unreadable.get_or_create(&UnreadableFile { file, reason }).inc();
    }

    /// A registry that serves them all.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut all = Registry::default();
        let registry = all.sub_registry_with_prefix("vedette_agent");
        registry.register("build", "Version of the agent", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("observations", "Container rows made", self.observations.clone());
        registry.register("node_observations", "Node rows made", self.node_observations.clone());
        let help = "Container rows that the aggregator acknowledged";
        registry.register("acknowledged_observations", help, self.acknowledged_observations.clone());
        registry.register("ticks", "Ticks", self.ticks.clone());
        registry.register("late_ticks", "Ticks more than 1.5 intervals after the one before", self.late_ticks.clone());
        registry.register("missed_ticks", "Ticks that never came because another took their time", self.missed_ticks.clone());
        let help = "Time that the work of a tick took";
        registry.register_with_unit("tick_duration", help, Unit::Seconds, self.tick_seconds.clone());
        registry.register("containers", "Containers observed now", self.containers.clone());
        registry.register("pods", "Pods with containers now, and containers outside any, by whose network they have", self.pods.clone());
        registry.register("restarts", "Containers that took the place of one that ended", self.restarts.clone());
        registry.register("outbox_batches", "Batches that wait for acknowledgement", self.outbox_batches.clone());
        registry.register_with_unit("outbox", "Size of the spool on disk", Unit::Bytes, self.outbox_bytes.clone());
        let help = "1 while the spool can be written; at 0 the newest batches are in memory only, and still sent";
        registry.register("spool_writable", help, self.spool_writable.clone());
        registry.register("dropped_observations", "Container rows dropped; history states the hole", self.dropped_observations.clone());
        registry.register("dropped_batches", "Batches dropped; history states the hole", self.dropped_batches.clone());
        registry.register("unreadable_files", "Times that a kernel file could not be read", self.unreadable.clone());
        registry.register("limited", "Times that a limit left something out", self.limited.clone());
        registry.register("promotions", "Times that a pod began to be read with all tiers on every tick", self.promotions.clone());
        registry.register("open_files", "Kernel files kept open", self.open_files.clone());
        registry.register("stream_failures", "Streams to the aggregator that failed", self.stream_failures.clone());
        registry.register("connected", "1 while a stream to the aggregator is established", self.connected.clone());
        let help = "Containers, pods and the node, by metric and by what the last comparison with Prometheus came to";
        registry.register("cross_checks", help, self.cross_checks.clone());
        registry.register("cross_check_rounds", "Rounds of comparisons with Prometheus", self.cross_check_rounds.clone());
        let help = "Rounds in which Prometheus could not be asked";
        registry.register("cross_check_failures", help, self.cross_check_failures.clone());
        all.register_collector(Box::new(OwnProcess { started: std::time::SystemTime::now() }));
        all
    }
}

/// What every process tells of itself, under the names that every process uses; read when asked for.
#[derive(Debug)]
struct OwnProcess {
    started: std::time::SystemTime,
}

impl Collector for OwnProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        cpu.encode(encoder.encode_descriptor("process_cpu", "CPU time of the process.", seconds, cpu.metric_type())?)?;
        let started = self.started.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let started = ConstGauge::new(started);
        started.encode(encoder.encode_descriptor("process_start_time", "Start, since 1970.", seconds, started.metric_type())?)?;
        if let Some(resident) = resident_bytes() {
            let resident = ConstGauge::new(resident);
            let described = encoder.encode_descriptor("process_resident_memory", "Resident memory.", bytes, resident.metric_type())?;
            resident.encode(described)?;
        }
        Ok(())
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = text.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_metric_is_described_and_named_as_open_metrics_wants_it() {
        let metrics = Metrics::default();
        metrics.pods.get_or_create(&PodNetwork { network: "own" }).set(3);
        metrics.unreadable("io", "denied");
        let mut text = String::new();

        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();

        assert!(text.ends_with("# EOF\n"));
        let mut described: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in text.lines() {
            if let Some((keyword, rest)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
                let (name, value) = rest.split_once(' ').unwrap();
                assert!(!value.trim_matches('.').is_empty(), "{line}");
                let known = described.entry(name).or_default();
                known.push(keyword);
                if keyword == "TYPE" {
                    known.push(value);
                }
                assert!(name.starts_with("vedette_agent_") || name.starts_with("process_"), "{name}");
            } else if line != "# EOF" {
                let name = line.split(['{', ' ']).next().unwrap();
                let ends = ["", "_total", "_info", "_bucket", "_sum", "_count"];
                let family = ends.iter().find_map(|end| described.get_key_value(name.strip_suffix(end)?));
                let (family, keywords) = family.unwrap_or_else(|| panic!("{name} is not described"));
                assert!(keywords.contains(&"HELP") && keywords.contains(&"TYPE"), "{family}: {keywords:?}");
                assert_eq!(keywords.contains(&"counter"), name.ends_with("_total"), "{name}");
                let unit = ["_seconds", "_bytes"].iter().any(|unit| family.ends_with(unit));
                assert_eq!(keywords.contains(&"UNIT"), unit, "{family}: {keywords:?}");
            }
        }
        for line in [
            "vedette_agent_build_info{version=\"0.1.0\"} 1",
            "vedette_agent_pods{network=\"own\"} 3",
            "vedette_agent_limited_total{reason=\"nested_in_container\"} 0",
            "vedette_agent_dropped_batches_total{reason=\"refused\"} 0",
            "vedette_agent_unreadable_files_total{file=\"io\",reason=\"denied\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
        }
        assert!(text.contains("\nprocess_cpu_seconds_total ") && text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }

    #[test]
    fn every_reason_that_is_counted_has_a_zero_to_begin_with() {
        let source = [
            include_str!("sensor/read.rs"),
            include_str!("sensor/mod.rs"),
            include_str!("sensor/lifecycle.rs"),
            include_str!("sensor/process_map.rs"),
            include_str!("tree.rs"),
            include_str!("files.rs"),
            include_str!("processes.rs"),
        ]
        .concat();

        let counted: Vec<&str> = source.split("limited(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();

        assert!(counted.len() >= LIMITS.len(), "{counted:?}");
        assert!(counted.iter().all(|reason| LIMITS.contains(reason)), "{counted:?}");
        assert!(LIMITS.iter().all(|reason| counted.contains(reason)), "{counted:?}");
    }
}
