//! What the containers of a pod share: its network traffic, and the failures of each place in it.

use vedette_proto::{Feature, v1};

use crate::{baseline::from_log, thresholds as t};

/// Traffic of a pod as one of its containers reports it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodTraffic {
    /// Distance of its packets above their centre, log space; 0 without a baseline.
    pub growth: f32,
    /// Whether anything is known of it: a pod on the host's network has none of its own.
    pub known: bool,
    /// Packets received, log space.
    pub rx_log: f32,
    /// Packets sent, log space.
    pub tx_log: f32,
}

impl PodTraffic {
    /// Packets per second, both directions.
    pub fn packets_per_sec(&self) -> f32 {
        from_log(Feature::RxPacketsPerSec, self.rx_log) + from_log(Feature::TxPacketsPerSec, self.tx_log)
    }
}

/// One pod, or one container outside a pod.
#[derive(Debug, Default)]
pub struct Pod {
    /// Containers alive.
    pub alive: u32,
    /// Event time of the last thing that happened in it.
    pub touched_ms: i64,
    /// Its traffic now.
    pub traffic: PodTraffic,
    places: Vec<PlaceInPod>,
}

/// One place: the containers that follow each other in it. With identity known, init containers have workloads of
/// their own and are not taken for failures of one another.
#[derive(Debug)]
struct PlaceInPod {
    slot: u32,
    workload: u32,
    /// How many containers of this place have ended, by the agent's count.
    ended: u32,
    failures: Vec<Failure>,
}

/// One container that ended while its pod went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When, event time.
    pub unix_ms: i64,
    /// How long it had lived, if that is known.
    pub lived_ms: Option<i64>,
}

/// Most places that a pod is watched in; a pod has a few dozen containers at most.
const MAX_PLACES: usize = 64;

impl Pod {
    fn place(&mut self, slot: u32, workload: u32, started_at: u32) -> Option<&mut PlaceInPod> {
        if let Some(found) = self.places.iter().position(|place| place.slot == slot && place.workload == workload) {
            return Some(&mut self.places[found]);
        }
        if self.places.len() >= MAX_PLACES {
            return None;
        }
        self.places.push(PlaceInPod { slot, workload, ended: started_at, failures: Vec::new() });
        self.places.last_mut()
    }

    /// A container took a place. Predecessors that came and went unseen count as failures, unless the place is new to us. Gives the
    /// failures of its place if they are `least` or more.
    pub fn added(&mut self, workload: u32, added: &v1::ContainerAdded, window_ms: i64, least: usize) -> Option<Vec<Failure>> {
        let unix_ms = added.first_seen_unix_ms;
        self.touched_ms = self.touched_ms.max(unix_ms);
        let place = self.place(added.slot, workload, added.restarts)?;
        let missed = added.restarts.saturating_sub(place.ended).min(t::FAILURES as u32);
        place.ended = place.ended.max(added.restarts);
        let mut crash_loop = None;
        for _ in 0..missed {
            crash_loop = place.failed(Failure { unix_ms, lived_ms: None }, window_ms, least);
        }
        crash_loop
    }

    /// A container ended; gives the failures of its place if they are `least` or more: a crash loop, or one that goes on.
    pub fn removed(
        &mut self,
        slot: u32,
        workload: u32,
        restarts: u32,
        failure: Failure,
        window_ms: i64,
        least: usize,
    ) -> Option<Vec<Failure>> {
        self.touched_ms = self.touched_ms.max(failure.unix_ms);
        let place = self.place(slot, workload, restarts)?;
        // Told already, by its successor.
        if restarts < place.ended {
            return None;
        }
        place.ended = restarts + 1;
        place.failed(failure, window_ms, least)
    }
}

impl PlaceInPod {
    fn failed(&mut self, failure: Failure, window_ms: i64, least: usize) -> Option<Vec<Failure>> {
        if failure.lived_ms.is_some_and(|lived| lived > t::FAILURE_LIFE_MS) {
            self.failures.clear();
            return None;
        }
        self.failures.retain(|old| failure.unix_ms - old.unix_ms <= window_ms);
        if self.failures.len() >= 16 {
            self.failures.remove(0);
        }
        self.failures.push(failure);
        (self.failures.len() >= least).then(|| self.failures.clone())
    }
}
