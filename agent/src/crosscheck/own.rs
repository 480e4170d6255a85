//! What the agent counted lately, kept to be compared: a few minutes of a few counters, by container, pod and node.

use std::collections::{HashMap, VecDeque};

use vedette_crosscheck::Point;
use vedette_proto::{Column, Tier};

use crate::sample::Sample;

/// How much is kept: a comparison of three intervals of a minute, and as much again as clocks may be apart.
pub const KEEP_MS: i64 = 420_000;
/// Points are kept at most so often.
const EVERY_MS: i64 = 2_000;
/// Containers compared; more are left out, counted. 14 kB each.
pub const MAX_CONTAINERS: usize = 512;

/// One counter or level over the last minutes, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Trace(VecDeque<Point>);

impl Trace {
    /// Adds a value that was read at an instant; one too near to the last is left out. A counter that went back begins anew.
    pub fn push(&mut self, unix_ms: i64, value: f64, counter: bool) {
        if let Some(last) = self.0.back() {
            if counter && value < last.value {
                self.0.clear();
            } else if unix_ms - last.unix_ms < EVERY_MS - EVERY_MS / 10 {
                return;
            }
        }
        self.0.push_back(Point { unix_ms, value });
        while self.0.front().is_some_and(|first| unix_ms - first.unix_ms > KEEP_MS) {
            self.0.pop_front();
        }
    }

    /// Everything kept.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.0.iter().copied().collect()
    }

    fn newest(&self) -> Option<i64> {
        self.0.back().map(|last| last.unix_ms)
    }
}

/// A container's own counters.
#[derive(Clone, Debug, Default)]
pub struct OwnContainer {
    /// Its id.
    pub container_id: String,
    /// CPU seconds.
    pub cpu: Trace,
    /// Bytes.
    pub working_set: Trace,
}

/// A pod's counters.
#[derive(Clone, Debug, Default)]
pub struct OwnPod {
    /// The container that the pod's columns go with.
    pub carrier: u32,
    /// Bytes received; empty where the pod has the node's network.
    pub rx: Trace,
    /// Bytes sent.
    pub tx: Trace,
    /// Restarts.
    pub restarts: Trace,
}

/// The node's counters.
#[derive(Clone, Debug, Default)]
pub struct OwnNode {
    /// Busy CPU seconds.
    pub cpu: Trace,
    /// Bytes available.
    pub available: Trace,
    /// Bytes received.
    pub rx: Trace,
    /// Bytes sent.
    pub tx: Trace,
}

/// Everything that is kept. Bounded by [`MAX_CONTAINERS`] and [`KEEP_MS`].
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// By reference.
    pub containers: HashMap<u32, OwnContainer>,
    /// By uid.
    pub pods: HashMap<String, OwnPod>,
    /// The node.
    pub node: OwnNode,
}

/// When what was read, on the clock that Prometheus keeps.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// This instant, microseconds of the sampler's own clock.
    pub us: u64,
    /// This instant, Unix milliseconds.
    pub unix_ms: i64,
}

impl Now {
    fn at(self, tier_us: u64) -> i64 {
        self.unix_ms - (self.us.saturating_sub(tier_us) / 1_000) as i64
    }
}

impl Own {
    /// Takes the newest reading of a container; whether there was room for it.
    pub fn container(&mut self, reference: u32, container_id: &str, now: Now, sample: &Sample) -> bool {
        if !self.containers.contains_key(&reference) && self.containers.len() >= MAX_CONTAINERS {
            return false;
        }
        let own = self
            .containers
            .entry(reference)
            .or_insert_with(|| OwnContainer { container_id: container_id.into(), ..OwnContainer::default() });
        keep(&mut own.cpu, now, sample, Column::CpuUsageUs, 1e-6);
        keep(&mut own.working_set, now, sample, Column::MemoryWorkingSetBytes, 1.0);
        true
    }

    /// Takes the newest reading of a pod whose containers are known.
    pub fn pod(&mut self, uid: &str, carrier: u32, now: Now, network: Option<&Sample>, restarts: u64) {
        if !self.pods.contains_key(uid) && self.pods.len() >= MAX_CONTAINERS {
            return;
        }
        let own = self.pods.entry(uid.into()).or_default();
        own.carrier = carrier;
        own.restarts.push(now.unix_ms, restarts as f64, true);
        if let Some(sample) = network {
            keep(&mut own.rx, now, sample, Column::NetRxBytes, 1.0);
            keep(&mut own.tx, now, sample, Column::NetTxBytes, 1.0);
        }
    }

    /// Takes the newest reading of the node.
    pub fn node(&mut self, now: Now, sample: &Sample) {
        keep(&mut self.node.cpu, now, sample, Column::NodeCpuBusyUs, 1e-6);
        keep(&mut self.node.available, now, sample, Column::NodeMemoryAvailableBytes, 1.0);
        keep(&mut self.node.rx, now, sample, Column::NodeNetRxBytes, 1.0);
        keep(&mut self.node.tx, now, sample, Column::NodeNetTxBytes, 1.0);
    }

    /// Forgets what has not been read for a while: it is gone.
    pub fn forget_gone(&mut self, unix_ms: i64) {
        const GONE_MS: i64 = 30_000;
        let lives = |trace: &Trace| trace.newest().is_some_and(|newest| unix_ms - newest <= GONE_MS);
        self.containers.retain(|_, own| lives(&own.cpu));
        self.pods.retain(|_, own| lives(&own.restarts));
    }
}

fn keep(trace: &mut Trace, now: Now, sample: &Sample, column: Column, scale: f64) {
    let (Some(value), Some(at_us)) = (sample.get(column), sample.at_us(column.tier())) else { return };
    let counter = column.reading() == vedette_proto::Reading::Delta;
    debug_assert!(column.tier() != Tier::Rare, "too seldom to compare");
    trace.push(now.at(at_us), value as f64 * scale, counter);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_us: u64, cpu_us: u64) -> Sample {
        let mut sample = Sample::default();
        sample.set(Column::CpuUsageUs, cpu_us);
        sample.read_at(Tier::Fast, at_us);
        sample
    }

    #[test]
    fn points_are_kept_at_the_time_they_were_read_and_not_for_ever() {
        let mut own = Own::default();
        for second in 0..1_000u64 {
            let now = Now { us: second * 1_000_000 + 300_000, unix_ms: second as i64 * 1_000 + 300 };
            assert!(own.container(7, "id", now, &sample(second * 1_000_000, second * 500_000)));
        }

        let points = own.containers[&7].cpu.points();

        assert_eq!(points.last().unwrap(), &Point { unix_ms: 998_000, value: 499.0 });
        assert_eq!(points.first().unwrap().unix_ms, 998_000 - KEEP_MS);
        assert!(points.windows(2).all(|pair| pair[1].unix_ms - pair[0].unix_ms == 2_000));
    }

    #[test]
    fn a_counter_that_went_back_begins_anew() {
        let mut trace = Trace::default();
        trace.push(0, 5.0, true);
        trace.push(2_000, 1.0, true);

        assert_eq!(trace.points(), [Point { unix_ms: 2_000, value: 1.0 }]);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_makes_room() {
        let mut own = Own::default();
        let now = Now { us: 1_000_000, unix_ms: 1_000 };
        for reference in 1..=MAX_CONTAINERS as u32 {
            assert!(own.container(reference, "id", now, &sample(1_000_000, 0)));
        }
        assert!(!own.container(9_999, "id", now, &sample(1_000_000, 0)));

        own.forget_gone(40_000);

        assert!(own.containers.is_empty());
        assert!(own.container(9_999, "id", now, &sample(1_000_000, 0)));
    }
}
