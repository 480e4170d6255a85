//! What is kept of one container: its present level per feature, how long it has been odd, and where it belongs.

use vedette_proto::{Column, Feature, Features, Observation, v1::Kind};

use crate::{
    baseline::{RATIO, to_log},
    siblings::Sibling,
    signature::SIGNATURES,
    thresholds as t,
    trend::Trend,
    window::Window,
};

/// Features of the fast tier, and the ratio; the others are slow or rare.
pub const FAST: u64 = bit(Feature::CpuCores)
    | bit(Feature::RxBytesPerSec)
    | bit(Feature::TxBytesPerSec)
    | bit(Feature::TxExcessBytesPerSec)
    | bit(Feature::RxPacketsPerSec)
    | bit(Feature::TxPacketsPerSec)
    | 1 << RATIO;
const RARE: u64 = bit(Feature::TcpSynRetransmitsPerSec) | bit(Feature::ListenDropsPerSec);

/// The bit of a feature in a set.
pub const fn bit(feature: Feature) -> u64 {
    1 << feature as u64
}

/// Whether a feature is a level at an instant rather than a rate over an interval.
const fn is_gauge(place: usize) -> bool {
    const GAUGES: u64 = bit(Feature::MemoryWorkingSetBytes)
        | bit(Feature::MemoryAnonBytes)
        | bit(Feature::MemoryFileBytes)
        | bit(Feature::MemoryLimitRatio)
        | bit(Feature::TcpEstablished)
        | bit(Feature::RawSockets)
        | bit(Feature::PacketSockets)
        | bit(Feature::ArpIncomplete)
        | bit(Feature::Pids)
        | 1 << RATIO;
    GAUGES >> place & 1 == 1
}

/// Where a container belongs, as indices into the detector's tables.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub cluster: u32,
    pub node: u32,
    pub workload: u32,
    pub pod: u32,
    pub slot: u32,
}

/// One container.
pub struct Container {
    pub place: Place,
    pub id: Box<str>,
    /// Pod name where known, else its uid.
    pub pod: Box<str>,
    pub is_node: bool,
    pub first_seen_ms: i64,
    /// How many containers held its place before.
    pub restarts: u32,
    /// It was running when its agent started.
    pub already_running: bool,
    /// Its past is not known: it was there when the agent or this cluster's first data came.
    pub past_unknown: bool,
    /// Event time of the last observation.
    pub last_ms: i64,
    slow_ms: i64,
    rare_ms: i64,
    /// Smoothed level per place in log space; NaN was never seen.
    pub level: [f32; RATIO + 1],
    /// Persistence per signature, 0 to 1.
    pub persistence: [f32; SIGNATURES.len()],
    /// Since when the strongest signature has been rising; 0: it is not.
    pub rising_ms: i64,
    /// Connections opened from here, decaying sum.
    pub opened: f32,
    /// Connections accepted here, decaying sum.
    pub accepted: f32,
    /// Growth of the pages of files, bytes per second over some seconds: what is written and stays.
    pub files_growth: f32,
    /// Pages of files when last seen, bytes; NaN was never.
    files: f32,
    /// The same of anonymous memory.
    pub anon_growth: f32,
    anon: f32,
    /// Memory over minutes.
    pub memory: Trend,
    pub score: f32,
    /// Where it is among the replicas of its workload.
    pub sibling: Sibling,
    /// The kind that its last row was called.
    pub kind: Kind,
    /// What it did since it strayed from its normal, if it does.
    pub window: Option<Box<Window>>,
    /// Facts that hold now, by bit, so that each speaks once.
    pub facts: u8,
}

/// What one row brought: the places that are fresh, their values in log space, and the seconds each tier covers.
pub struct Fresh {
    /// Places with a new value.
    pub mask: u64,
    /// The new values in log space; meaningful where the mask has a bit.
    pub y: [f32; RATIO + 1],
    fast_s: f32,
    slow_s: f32,
    rare_s: f32,
}

impl Fresh {
    /// Seconds that the sample at a place covers.
    #[inline]
    pub fn seconds(&self, place: usize) -> f32 {
        if FAST >> place & 1 == 1 {
            self.fast_s
        } else if RARE >> place & 1 == 1 {
            self.rare_s
        } else {
            self.slow_s
        }
    }

    /// Reads a row.
    pub fn of(row: &Observation) -> Self {
        let features = Features::of(row);
        let seconds = |column, default| row.get(column).map_or(default, |us| (us as f32 / 1e6).clamp(0.01, 30.0));
        let mut fresh = Self {
            mask: 0,
            y: [0.0; RATIO + 1],
            fast_s: seconds(Column::IntervalUs, 1.0),
            slow_s: seconds(Column::SlowIntervalUs, 5.0),
            rare_s: seconds(Column::RareIntervalUs, 10.0),
        };
        for (place, &value) in features.values().iter().enumerate() {
            if !value.is_nan() {
                fresh.mask |= 1 << place;
                // Most levels of most containers are 0.
                fresh.y[place] = if value == 0.0 { 0.0 } else { to_log(Feature::ALL[place], value) };
            }
        }
        if let (Some(tx), Some(rx)) = (features.get(Feature::TxBytesPerSec), features.get(Feature::RxBytesPerSec)) {
            // 5 kB/s on both sides: the ratio of hardly anything to nothing is not a ratio.
            fresh.mask |= 1 << RATIO;
            fresh.y[RATIO] = if tx + rx < 100.0 { 0.0 } else { ((tx + 5e3) / (rx + 5e3)).ln() };
        }
        fresh
    }
}

impl Container {
    /// A container of which nothing was observed yet.
    pub fn new(place: Place, id: &str, pod: &str) -> Self {
        Self {
            place,
            id: id.into(),
            pod: pod.into(),
            is_node: id.is_empty(),
            first_seen_ms: 0,
            restarts: 0,
            already_running: false,
            past_unknown: false,
            last_ms: i64::MIN,
            slow_ms: i64::MIN,
            rare_ms: i64::MIN,
            level: [f32::NAN; RATIO + 1],
            persistence: [0.0; SIGNATURES.len()],
            rising_ms: 0,
            opened: 0.0,
            accepted: 0.0,
            files_growth: 0.0,
            files: f32::NAN,
            anon_growth: 0.0,
            anon: f32::NAN,
            memory: Trend::default(),
            score: 0.0,
            sibling: Sibling::default(),
            kind: Kind::Normal,
            window: None,
            facts: 0,
        }
    }

    /// Takes in what a row brought.
    pub fn take(&mut self, unix_ms: i64, fresh: &Fresh) {
        self.last_ms = unix_ms;
        if fresh.mask & !(FAST | RARE) != 0 {
            self.slow_ms = unix_ms;
        }
        if fresh.mask & RARE != 0 {
            self.rare_ms = unix_ms;
        }
        follow(&mut self.files, &mut self.files_growth, Feature::MemoryFileBytes, fresh);
        follow(&mut self.anon, &mut self.anon_growth, Feature::MemoryAnonBytes, fresh);
        let weights = [fresh.fast_s, fresh.slow_s, fresh.rare_s].map(|seconds| 1.0 - (-seconds / t::LEVEL_TAU_S).exp());
        let mut rest = fresh.mask;
        while rest != 0 {
            let place = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let weight = weights[if FAST >> place & 1 == 1 {
                0
            } else if RARE >> place & 1 == 1 {
                2
            } else {
                1
            }];
            let level = &mut self.level[place];
            if level.is_nan() {
                // A container that runs already starts where it is; the rates of a new one start from nothing.
                *level = if is_gauge(place) || self.already_running { fresh.y[place] } else { fresh.y[place] * weight };
            } else {
                *level += (fresh.y[place] - *level) * weight;
            }
        }
        self.remember_direction(fresh);
    }

    fn remember_direction(&mut self, fresh: &Fresh) {
        let both = bit(Feature::TcpActiveOpensPerSec) | bit(Feature::TcpPassiveOpensPerSec);
        if fresh.mask & both == both {
            let keep = (-fresh.slow_s / t::DIRECTION_TAU_S).exp();
            let count = |feature: Feature| crate::baseline::from_log(feature, fresh.y[feature as usize]) * fresh.slow_s;
            self.opened = self.opened * keep + count(Feature::TcpActiveOpensPerSec);
            self.accepted = self.accepted * keep + count(Feature::TcpPassiveOpensPerSec);
        }
    }

    /// The smoothed level at a place; `None` if it was never seen, or its tier not for too long.
    #[inline]
    pub fn known(&self, place: usize) -> Option<f32> {
        let level = self.level[place];
        if level.is_nan() {
            return None;
        }
        let fresh = if FAST >> place & 1 == 1 {
            true
        } else if RARE >> place & 1 == 1 {
            self.last_ms - self.rare_ms <= t::RARE_AGE_MS
        } else {
            self.last_ms - self.slow_ms <= t::SLOW_AGE_MS
        };
        fresh.then_some(level)
    }

    /// The highest persistence.
    pub fn heat(&self) -> f32 {
        self.persistence.iter().fold(0.0, |heat, &one| heat.max(one))
    }
}

/// How fast a gauge grows, per second, smoothed.
fn follow(level: &mut f32, growth: &mut f32, feature: Feature, fresh: &Fresh) {
    if fresh.mask & bit(feature) == 0 {
        return;
    }
    let now = crate::baseline::from_log(feature, fresh.y[feature as usize]);
    let before = std::mem::replace(level, now);
    if !before.is_nan() {
        *growth += ((now - before) / fresh.slow_s - *growth) * (1.0 - (-fresh.slow_s / t::FILES_TAU_S).exp());
    }
}
