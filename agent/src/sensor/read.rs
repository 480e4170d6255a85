//! Reads what is due on a tick and turns it into rows.

use std::time::Duration;

use vedette_proto::{Column, Observation, Tier, v1::PeersSeen};

use super::Sensor;
use crate::{
    container::{self, Ended, at, stamp},
    hierarchy::Hierarchies,
    network::process_file,
    node::Known,
    observe::{carry, observe},
    parse::{self, cgroup::US_PER_TICK},
    peers,
    sample::Sample,
};

/// A pod stays promoted for so long after it last looked odd.
const PROMOTED: Duration = Duration::from_secs(30);
/// Most pods promoted at one time.
const MAX_PROMOTED: usize = 32;
/// The connections of one pod are read at most this often, and of so many pods a second: the kernel walks the host's whole table.
const PEERS_EVERY: Duration = Duration::from_secs(60);
const MAX_PEERS_PER_SECOND: u32 = 2;
/// Limits are read again after so many ticks: they can be changed in place.
const LIMITS_EVERY: u64 = 60;
/// A sandbox that uses more CPU than this between two looks, or has more processes, is no sandbox: it is observed like any other container.
const IDLE_SANDBOX_US: u64 = 50_000;
const SANDBOX_PROCESSES: u64 = 2;
/// Bytes a second that a sandbox alone in its pod may cause to be sent: the kernel's own, neighbour discovery and the like.
const IDLE_SANDBOX_BYTES: u64 = 2_000;

/// Which tiers of a pod are due.
#[derive(Clone, Copy, Default)]
struct Due {
    slow: bool,
    rare: bool,
}

impl Sensor {
    /// Reads everything that is due; the rows are in the block afterwards.
    pub(super) fn read_due(&mut self, unix_ms: i64) {
        self.block.rows.clear();
        self.block.container_refs.clear();
        self.block.container_refs.push(0);
        self.block.rows.push(Observation::default());
        let due: Vec<Due> = (0..self.pods.len()).map(|pod| self.due(pod)).collect();
        let mut known = Known { containers: self.order.len() as u64, ..Known::default() };
        let mut ended = Vec::new();
        let mut odd = Vec::new();
        for place in 0..self.order.len() {
            let index = self.order[place];
            let Some(container) = self.container(index) else { continue };
            let (pod, reference) = (container.pod, container.reference);
            match self.read_container(index, due[pod as usize]) {
                Err(Ended) => ended.push(index),
                Ok(None) => {}
                Ok(Some((row, is_odd))) => {
                    known.cpu_us = known.cpu_us.saturating_add(row.get(Column::CpuUsageUs).unwrap_or(0));
                    known.memory_bytes = known.memory_bytes.saturating_add(row.get(Column::MemoryCurrentBytes).unwrap_or(0));
                    if is_odd {
                        odd.push(index);
                    }
                    self.block.container_refs.push(reference);
                    self.block.rows.push(row);
                }
            }
        }
        for (pod, &due) in due.iter().enumerate() {
            self.finish_pod(pod, due);
        }
        for index in ended {
            self.end(index, unix_ms);
        }
        for index in odd {
            self.promote(index, unix_ms);
        }
        let slow = (self.tick - 1).is_multiple_of(u64::from(self.config.slow_every));
        let now_us = (self.clock)();
        self.block.rows[0] = self.node.observe(&mut self.reader, &self.proc, slow, now_us, known);
    }

    /// A pod's slow files are read on a tick of its own, so that a node's work is spread.
    fn due(&self, index: usize) -> Due {
        let Some(pod) = &self.pods[index] else { return Due::default() };
        let now_us = (self.clock)();
        let all = pod.fresh || pod.promoted_until_us > now_us;
        let turn = self.tick + index as u64;
        Due {
            slow: all || turn.is_multiple_of(u64::from(self.config.slow_every)),
            rare: all || turn.is_multiple_of(u64::from(self.config.rare_every)),
        }
    }

    /// One container's row; `None` while there is nothing to compare with. The flag says that it looks odd.
    fn read_container(&mut self, index: u32, due: Due) -> Result<Option<(Observation, bool)>, Ended> {
        let Self { containers, pods, reader, hierarchies, proc, clock, tick, .. } = self;
        let Some(container) = containers.get_mut(index as usize).and_then(Option::as_mut) else { return Ok(None) };
        let path = &container.found.path;
        if (*tick + u64::from(index)) % LIMITS_EVERY == 0 {
            container.limits = container::limits(reader, hierarchies, path, &container.found.identity.pod_path);
        }
        let mut sample = Sample::default();
        container.files.read(reader, hierarchies, path, due.slow, &container.limits, &mut sample)?;
        if due.slow
            && let Some(main) = container.main
            && let Some(stat) = reader
                .read(&mut container.main_stat, "stat", |text| process_file(text, proc, main.pid, "stat"))
                .data()
                .and_then(parse::process::stat)
        {
            sample.set(Column::ChildCpuUs, stat.child_ticks.saturating_mul(US_PER_TICK));
            sample.set(Column::ChildMinorFaults, stat.child_minor_faults);
        }
        let now_us = clock();
        stamp(&mut sample, now_us, due.slow, false);
        let mut row = observe(&container.previous, &sample);
        container.previous.update(&sample);
        let Some(pod) = pods.get_mut(container.pod as usize).and_then(Option::as_mut) else { return Ok(None) };
        if pod.carrier == Some(index) {
            let mut sample = Sample::default();
            pod.network.read(reader, proc, due.slow, due.rare, &mut sample);
            if sample.iter().next().is_some() {
                // The same instant as the container's: the two share the row's intervals.
                stamp(&mut sample, now_us, due.slow, due.rare);
                carry(&mut row, &observe(&pod.sample, &sample));
                pod.sample.update(&sample);
            }
            if due.slow && matches!(hierarchies, Hierarchies::Unified { .. }) {
                count_oom_kills(reader, hierarchies, pod);
                if pod.oom_seen.is_some() {
                    row.set(Column::OomKills, std::mem::take(&mut pod.oom_pending));
                }
            }
        }
        if row.get(Column::IntervalUs).is_none() {
            return Ok(None);
        }
        row.set(Column::Restarts, u64::from(pod.slots.take_pending(container.slot)));
        let odd = container.oddness.look(&row);
        Ok(Some((row, odd)))
    }

    /// What concerns a pod and no row: the network of one between two containers goes on, and its sandbox is looked at.
    fn finish_pod(&mut self, index: usize, due: Due) {
        let mut works = false;
        let sandbox = {
            let Self { pods, reader, hierarchies, proc, clock, .. } = self;
            let Some(pod) = &mut pods[index] else { return };
            let waiting = pod.containers.iter().any(|&index| Some(index) != pod.sandbox);
            if pod.carrier.is_none() && !waiting && pod.sandbox.is_some() {
                let mut sample = Sample::default();
                pod.network.read(reader, proc, due.slow, due.rare, &mut sample);
                stamp(&mut sample, clock(), due.slow, due.rare);
                works = pod.sandbox_alone && uses_network(&observe(&pod.sample, &sample));
                pod.sample.update(&sample);
                pod.sandbox_alone |= due.slow;
                if due.slow {
                    count_oom_kills(reader, hierarchies, pod);
                }
            }
            if due.slow && (pod.carrier.is_some() || !waiting) {
                pod.slow_us = Some(clock());
            }
            if pod.carrier.is_some() || !waiting {
                pod.fresh = false;
            }
            pod.sandbox.filter(|_| due.slow || works)
        };
        if let Some(sandbox) = sandbox {
            self.check_sandbox(sandbox, works);
        }
    }

    /// A sandbox that works is not one: calling oneself `pause` must hide nothing.
    fn check_sandbox(&mut self, index: u32, works: bool) {
        let Self { containers, reader, hierarchies, clock, .. } = self;
        let Some(container) = containers.get_mut(index as usize).and_then(Option::as_mut) else { return };
        if container.reference != 0 {
            return;
        }
        let mut sample = Sample::default();
        // Its end is noticed by the tree.
        if container.files.read(reader, hierarchies, &container.found.path, false, &container.limits, &mut sample).is_err() {
            return;
        }
        let (mount, file) = match hierarchies {
            Hierarchies::Unified { mount } => (Some(mount.as_str()), "pids.current"),
            Hierarchies::PerController(found) => (found.pids.as_deref(), "pids.current"),
        };
        let pids = mount
            .and_then(|mount| reader.read_once(file, |text| at(text, mount, &container.found.path, file)).data().and_then(parse::number));
        let cpu = sample.get(Column::CpuUsageUs);
        let used = cpu.zip(container.previous.get(Column::CpuUsageUs)).map(|(now, before)| now.saturating_sub(before));
        // Starting up costs a sandbox some CPU; the first look is not compared with its birth.
        let compared = container.previous.at_us(Tier::Fast).is_some() && container.deferred == u8::MAX;
        stamp(&mut sample, clock(), false, false);
        container.previous.update(&sample);
        container.deferred = u8::MAX;
        if works || (compared && used.is_some_and(|used| used > IDLE_SANDBOX_US)) || pids.is_some_and(|pids| pids > SANDBOX_PROCESSES) {
            tracing::warn!(cgroup = %container.found.path, "a container called like a sandbox works: it is observed like any other");
            container.sandbox = false;
            self.announce(index);
        }
    }

    /// A container looks odd: its pod is read with all tiers on every tick for a while, and its peers are looked at once.
    fn promote(&mut self, index: u32, unix_ms: i64) {
        let now_us = (self.clock)();
        let promoted = self.pods.iter().flatten().filter(|pod| pod.promoted_until_us > now_us).count();
        let Some(container) = self.containers.get(index as usize).and_then(Option::as_ref) else { return };
        let Some(pod) = self.pods.get_mut(container.pod as usize).and_then(Option::as_mut) else { return };
        if pod.promoted_until_us <= now_us {
            if promoted >= MAX_PROMOTED {
                self.metrics.limited("promoted_pods");
                return;
            }
            self.metrics.promotions.inc();
        }
        pod.promoted_until_us = now_us + PROMOTED.as_micros() as u64;
        if pod.peers_read_us.is_some_and(|read| now_us.saturating_sub(read) < PEERS_EVERY.as_micros() as u64) {
            return;
        }
        let (Some(pid), crate::network::Kind::Own) = (pod.network.pid, pod.network.kind) else { return };
        let second = now_us / 1_000_000;
        if self.peers_second.0 != second {
            self.peers_second = (second, 0);
        }
        if self.peers_second.1 >= MAX_PEERS_PER_SECOND {
            // Not counted against the pod: it has its turn while it stays odd.
            self.metrics.limited("peers_per_second");
            return;
        }
        self.peers_second.1 += 1;
        pod.peers_read_us = Some(now_us);
        match peers::read(&self.proc, pid) {
            Some((peers, other_connections)) => {
                self.peers.push(PeersSeen { container_ref: container.reference, unix_ms, peers, other_connections });
            }
            None => self.metrics.unreadable("net/tcp", "other"),
        }
    }
}

/// Whether somebody in a pod without other containers talks: then its sandbox is none.
fn uses_network(row: &Observation) -> bool {
    let some = |column| row.get(column).is_some_and(|value| value > 0);
    let sent = row.get(Column::NetTxBytes).zip(row.get(Column::IntervalUs));
    some(Column::TcpActiveOpens)
        || some(Column::UdpOutDatagrams)
        || some(Column::RawSockets)
        || some(Column::PacketSockets)
        || sent.is_some_and(|(bytes, us)| bytes.saturating_mul(1_000_000) > IDLE_SANDBOX_BYTES.saturating_mul(us))
}

/// Adds the OOM kills of a pod since the look before; they wait for a row.
fn count_oom_kills(reader: &mut crate::files::Reader, hierarchies: &Hierarchies, pod: &mut super::Pod) {
    let mut sample = Sample::default();
    container::pod_oom_kills(reader, &mut pod.oom, hierarchies, &pod.path, &mut sample);
    let Some(now) = sample.get(Column::OomKills) else { return };
    if let Some(grown) = pod.oom_seen.and_then(|before| now.checked_sub(before)) {
        pod.oom_pending += grown;
    }
    pod.oom_seen = Some(now);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[(Column, u64)]) -> Observation {
        let mut row = Observation::default();
        for &(column, value) in values {
            row.set(column, value);
        }
        row
    }

    #[test]
    fn a_sandbox_alone_that_talks_is_no_sandbox() {
        let second = (Column::IntervalUs, 1_000_000);
        assert!(!uses_network(&row(&[second, (Column::NetTxBytes, 2_000), (Column::UdpOutDatagrams, 0), (Column::RawSockets, 0)])));
        assert!(uses_network(&row(&[second, (Column::NetTxBytes, 2_001)])));
        assert!(!uses_network(&row(&[(Column::IntervalUs, 2_000_000), (Column::NetTxBytes, 4_000)])));
        for column in [Column::TcpActiveOpens, Column::UdpOutDatagrams, Column::RawSockets, Column::PacketSockets] {
            assert!(uses_network(&row(&[second, (column, 1)])), "{column:?}");
        }
    }
}
