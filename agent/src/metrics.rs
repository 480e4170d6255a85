//! The agent's own metrics. Every limit and every loss has a counter here.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};

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
    /// Pods whose sandbox is known, by how their network is read.
    pub pods: Family<Reason, Gauge>,
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
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
        }
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
        let mut registry = Registry::with_prefix("vedette_agent");
        registry.register("observations", "Container rows put into the outbox", self.observations.clone());
        registry.register("node_observations", "Node rows put into the outbox", self.node_observations.clone());
        registry.register(
            "acknowledged_observations",
            "Container rows that the aggregator acknowledged",
            self.acknowledged_observations.clone(),
        );
        registry.register("ticks", "Ticks", self.ticks.clone());
        registry.register("late_ticks", "Ticks more than 1.5 intervals after the one before", self.late_ticks.clone());
        registry.register("missed_ticks", "Ticks that never came because another took their time", self.missed_ticks.clone());
        registry.register("containers", "Containers observed now", self.containers.clone());
        registry.register("pods", "Pods by how their network is read", self.pods.clone());
        registry.register("restarts", "Containers that took the place of one that ended", self.restarts.clone());
        registry.register("outbox_batches", "Batches that wait for acknowledgement", self.outbox_batches.clone());
        registry.register("outbox_bytes", "Bytes of the spool", self.outbox_bytes.clone());
        registry.register(
            "spool_writable",
            "1 while the spool can be written; at 0 the newest batches are in memory only, and still sent",
            self.spool_writable.clone(),
        );
        registry.register("dropped_observations", "Container rows dropped", self.dropped_observations.clone());
        registry.register("dropped_batches", "Batches dropped", self.dropped_batches.clone());
        registry.register("unreadable", "Kernel files that could not be read", self.unreadable.clone());
        registry.register("limited", "Things left out because a limit was hit", self.limited.clone());
        registry.register("promotions", "Times a pod began to be read with all tiers on every tick", self.promotions.clone());
        registry.register("open_files", "Kernel files kept open", self.open_files.clone());
        registry.register("stream_failures", "Streams to the aggregator that failed", self.stream_failures.clone());
        registry.register("connected", "1 while a stream to the aggregator is established", self.connected.clone());
        registry.register("tick_seconds", "Time that the work of a tick took", self.tick_seconds.clone());
        registry.register_collector(Box::new(OwnProcess));
        registry
    }
}

/// CPU time and memory of this process, read when asked for.
#[derive(Debug)]
struct OwnProcess;

impl Collector for OwnProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
        let described = encoder.encode_descriptor("process_cpu_seconds", "CPU time of the agent", None, cpu.metric_type())?;
        cpu.encode(described)?;
        if let Some(bytes) = resident_bytes() {
            let resident = ConstGauge::new(bytes);
            let described =
                encoder.encode_descriptor("process_resident_memory_bytes", "Resident memory of the agent", None, resident.metric_type())?;
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
