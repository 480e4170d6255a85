//! The frozen reference: what a workload's main features were like before anybody could have moved them by small steps.
//!
//! The baseline follows what its gate lets through, so who goes slowly enough takes it along. The reference does not follow: it forms within
//! the first hour, learns the first week's cycles, and moves by half a per cent a day afterwards. Growth of the pod's traffic explains
//! growth of what serves it, and is learnt from; what grows alone is not. What is known of it is in ratios of levels, not in log space of
//! floors, because the promise is one: told before the level is three times the reference, however slowly it got there.

use serde::{Deserialize, Serialize};
use vedette_proto::Feature;

use crate::{
    baseline::{Baseline, from_log},
    evidence::{self, Ranked},
    memory::{packed, unpacked},
    season::{COUNT, MAIN, Main},
};

/// The reference's first hour: everything is taken as it is.
const FORMING_S: f32 = 3_600.0;
const DAY_S: f32 = 86_400.0;
const DAY_MS: i64 = 86_400_000;
/// While its week lasts, cycles that traffic explains are learnt as they come.
const WEEK_S: f32 = 7.0 * DAY_S;
/// What grows alone moves the reference by so much within its first day, log space ...
const FIRST_DAY_RISE: f32 = 0.15;
/// ... and by so much a day later on, as everything does after the first week.
const RISE: f32 = 0.005;
/// Downwards it follows faster: a lower reference only asks sooner.
const FALL: f32 = 0.03;
/// A day of which less was seen, in seconds, is not learnt from.
const LEAST_OF_DAY_S: f32 = 21_600.0;

/// What grew alone is told at 2.3 times the reference, so that the half hour that it must last ends before three times.
const ALONE: f32 = 2.3;
/// What grew together with the traffic that explains it, at three times.
const EXPLAINED: f32 = 3.0;
/// What was told goes on until it is so much lower than what is told.
const HYSTERESIS: f32 = 0.85;
/// Above the highest ten minutes of the reference by so much; a workload whose days go up and down is not drifting.
const ABOVE_TOP: f32 = 1.6;
/// In the first day, when not all cycles were seen, above its highest moment by so much.
const ABOVE_PEAK: f32 = 1.3;
/// How long it must last.
const LASTING_MS: i64 = 30 * 60_000;
/// Share of its growth that traffic must have grown by to explain it, log space.
const SHARE: f32 = 0.5;
/// A reference of next to nothing is this share of the feature's floor.
const NOTHING: f32 = 0.25;

const RX: usize = 1;
const ACCEPTED: usize = 2;

/// The level from which a feature's drift is worth a word, in its unit, and the age of the reference from which it is: alone, and explained.
/// What only serves as explanation never is.
const fn rule(feature: Feature) -> Option<(f32, f32, f32)> {
    match feature {
        Feature::CpuCores => Some((0.05, FORMING_S, WEEK_S)),
        Feature::TxExcessBytesPerSec => Some((50e3, DAY_S, WEEK_S)),
        Feature::TcpActiveOpensPerSec => Some((2.0, DAY_S, WEEK_S)),
        Feature::MemoryAnonBytes => Some((256e6, WEEK_S, WEEK_S)),
        Feature::Pids => Some((20.0, WEEK_S, WEEK_S)),
        _ => None,
    }
}

/// One feature in the reference, log space.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mark {
    centre: f32,
    /// Highest centre of a baseline: of some ten minutes.
    top: f32,
    /// Highest smoothed level.
    peak: f32,
}

/// The present of a workload, log space; NaN where a feature's baseline does not serve.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    /// Centres.
    pub centres: Main<f32>,
    /// Highest levels since last asked.
    pub peaks: Main<f32>,
}

impl Present {
    /// Of a baseline, whose peaks begin anew.
    pub fn of(baseline: &mut Baseline, ready_s: f32) -> Self {
        let mut present = Self { centres: [f32::NAN; COUNT], peaks: [f32::NEG_INFINITY; COUNT] };
        for (slot, feature) in MAIN.iter().enumerate() {
            let place = *feature as usize;
            let ready = baseline.ready(place, ready_s);
            let track = baseline.track_mut(place);
            let peak = std::mem::replace(&mut track.peak, f32::NEG_INFINITY);
            if ready {
                (present.centres[slot], present.peaks[slot]) = (track.centre, peak.max(track.centre));
            }
        }
        present
    }
}

/// The reference of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    marks: Main<Mark>,
    /// Seconds that it was learnt for.
    seconds: f32,
    /// The day that is being watched, counted from 1970; its sums and its highest.
    day: i64,
    day_s: f32,
    sums: Main<f32>,
    highest: Main<Mark>,
    /// Since when each feature is beyond it, event time; 0: it is not.
    since_ms: Main<i64>,
    /// A feature was never seen before.
    known: Main<bool>,
}

/// What is kept of it across restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptReference {
    marks: Vec<(i16, i16, i16)>,
    known: Vec<bool>,
    since_ms: Vec<i64>,
    seconds: u32,
}

/// A workload that drifted.
pub struct Drift {
    /// Since when, event time.
    pub onset_ms: i64,
    /// What drifted, how far.
    pub evidence: Vec<Ranked>,
}

impl Default for Reference {
    fn default() -> Self {
        Self {
            marks: [Mark::default(); COUNT],
            seconds: 0.0,
            day: i64::MIN,
            day_s: 0.0,
            sums: [0.0; COUNT],
            highest: [Mark::default(); COUNT],
            since_ms: [0; COUNT],
            known: [false; COUNT],
        }
    }
}

/// The name of drift in evidence, before the feature's.
const DRIFT: &str = "drift_";

/// Whether it is about drift.
pub fn is_drift(evidence: &vedette_proto::v1::Evidence) -> bool {
    evidence.feature.starts_with(DRIFT)
}

impl Reference {
    /// The highest level that an hour of the day may raise a band to: three times the reference's highest moment.
    pub fn most(&self) -> Main<f32> {
        std::array::from_fn(|slot| if self.known[slot] { self.marks[slot].peak + EXPLAINED.ln() } else { f32::INFINITY })
    }

    /// Learns `seconds` of what the gate let through.
    pub fn take(&mut self, unix_ms: i64, seconds: f32, present: &Present) {
        self.seconds += seconds;
        let day = unix_ms.div_euclid(DAY_MS);
        if day != self.day {
            self.close_day();
            self.day = day;
        }
        self.day_s += seconds;
        let share = seconds / self.seconds.max(1.0);
        for slot in 0..COUNT {
            let (centre, peak) = (present.centres[slot], present.peaks[slot]);
            // What is beyond it is not learnt from: that is what it is for.
            if centre.is_nan() || self.since_ms[slot] != 0 {
                continue;
            }
            self.sums[slot] += centre * seconds;
            let highest = &mut self.highest[slot];
            highest.centre += seconds;
            highest.top = highest.top.max(centre);
            highest.peak = highest.peak.max(peak);
            let explained = self.explained(slot, present);
            let mark = &mut self.marks[slot];
            if !std::mem::replace(&mut self.known[slot], true) {
                *mark = Mark { centre, top: centre, peak };
                continue;
            }
            if self.seconds >= WEEK_S {
                continue;
            }
            let free = self.seconds <= FORMING_S || explained;
            let most = if free { f32::INFINITY } else { seconds / DAY_S * if self.seconds < DAY_S { FIRST_DAY_RISE } else { RISE } };
            mark.centre += ((centre - mark.centre) * share).min(most);
            mark.top += (centre - mark.top).clamp(0.0, most);
            mark.peak += (peak - mark.peak).clamp(0.0, most);
        }
    }

    /// After its week a day moves it by a little.
    fn close_day(&mut self) {
        if self.seconds >= WEEK_S && self.day_s >= LEAST_OF_DAY_S {
            for slot in 0..COUNT {
                let (day, mark) = (self.highest[slot], &mut self.marks[slot]);
                if day.centre < LEAST_OF_DAY_S {
                    continue;
                }
                mark.centre += (self.sums[slot] / day.centre - mark.centre).clamp(-FALL, RISE);
                mark.top += (day.top - mark.top).clamp(-FALL, RISE);
                mark.peak += (day.peak - mark.peak).clamp(-FALL, RISE);
            }
        }
        (self.day_s, self.sums, self.highest) = (0.0, [0.0; COUNT], [Mark::default(); COUNT]);
    }

    /// How many times the reference a level is, both in log space.
    fn times(slot: usize, now: f32, then: f32) -> f32 {
        let nothing = MAIN[slot].floor() * NOTHING;
        (from_log(MAIN[slot], now) + nothing) / (from_log(MAIN[slot], then) + nothing)
    }

    fn growth(&self, slot: usize, present: &Present) -> f32 {
        let now = present.centres[slot];
        if now.is_nan() || !self.known[slot] { 0.0 } else { Self::times(slot, now, self.marks[slot].centre).max(1e-6).ln() }
    }

    /// Whether traffic explains how a feature grew. Memory and processes have cycles of their own.
    fn explained(&self, slot: usize, present: &Present) -> bool {
        match MAIN[slot] {
            Feature::CpuCores | Feature::TxExcessBytesPerSec | Feature::TcpActiveOpensPerSec => {
                let traffic = self.growth(RX, present).max(self.growth(ACCEPTED, present));
                self.growth(slot, present).max(0.0) * SHARE <= traffic.max(0.0)
            }
            _ => true,
        }
    }

    fn is_beyond(&self, slot: usize, present: &Present) -> bool {
        let Some((least, alone_s, explained_s)) = rule(MAIN[slot]) else { return false };
        let now = present.centres[slot];
        if now.is_nan() || !self.known[slot] {
            return false;
        }
        let explained = self.explained(slot, present);
        if self.seconds < if explained { explained_s } else { alone_s } {
            return false;
        }
        let mark = &self.marks[slot];
        let ease = if self.since_ms[slot] == 0 { 1.0 } else { HYSTERESIS };
        let above = if self.seconds < DAY_S {
            Self::times(slot, now, mark.peak) >= ABOVE_PEAK * ease
        } else {
            Self::times(slot, now, mark.top) >= ABOVE_TOP * ease
        };
        let times = Self::times(slot, now, mark.centre);
        let more = from_log(MAIN[slot], now) - from_log(MAIN[slot], mark.centre);
        above && more >= least * ease && times >= ease * if explained { EXPLAINED } else { ALONE }
    }

    /// Compares the present with it; gives what has been beyond it for long.
    pub fn drift(&mut self, unix_ms: i64, present: &Present) -> Option<Drift> {
        let beyond: Main<bool> = std::array::from_fn(|slot| self.is_beyond(slot, present));
        let mut onset_ms = i64::MAX;
        let mut evidence = Vec::new();
        for (slot, beyond) in beyond.into_iter().enumerate() {
            // A candidate that has just begun says nothing yet.
            if present.centres[slot].is_nan() {
                continue;
            }
            if !beyond {
                self.since_ms[slot] = 0;
                continue;
            }
            if self.since_ms[slot] == 0 {
                self.since_ms[slot] = unix_ms;
            }
            if unix_ms - self.since_ms[slot] >= LASTING_MS {
                onset_ms = onset_ms.min(self.since_ms[slot]);
                evidence.push(self.told(slot, unix_ms, present));
            }
        }
        (!evidence.is_empty()).then_some(Drift { onset_ms, evidence })
    }

    fn told(&self, slot: usize, unix_ms: i64, present: &Present) -> Ranked {
        let (feature, mark) = (MAIN[slot], &self.marks[slot]);
        let [now, then, top] = [present.centres[slot], mark.centre, mark.top].map(|y| from_log(feature, y));
        let times = Self::times(slot, present.centres[slot], mark.centre);
        let of = match self.seconds {
            short if short < DAY_S => format!("{:.0} h", (short / 3_600.0).max(1.0)),
            young if young < WEEK_S => format!("{:.0} days", young / DAY_S),
            _ => "7 days".to_owned(),
        };
        let traffic = if self.explained(slot, present) { "together with what its pod moves" } else { "and traffic did not grow with it" };
        let shown = |x: f32| evidence::human(feature.unit(), x);
        let sentence = format!("{} {}, {times:.1} times the reference of {of}, {}, {traffic}", feature.phrase(), shown(now), shown(then));
        let name = format!("{DRIFT}{}", feature.name());
        let mut one = evidence::fact(&name, feature.family(), sentence, Some(f64::from(now)), feature.unit(), unix_ms, 15.0 + times.ln());
        one.evidence.expected = Some(f64::from(then));
        one.evidence.expected_high = Some(f64::from(top));
        one.evidence.baseline = "frozen reference".to_owned();
        one
    }

    /// What is now was accepted: from here on it is the reference.
    pub fn accept(&mut self, present: &Present) {
        for slot in 0..COUNT {
            let (centre, peak) = (present.centres[slot], present.peaks[slot]);
            if !centre.is_nan() {
                self.marks[slot] = Mark { centre, top: centre.max(self.marks[slot].top), peak: peak.max(centre) };
                self.known[slot] = true;
            }
        }
        self.since_ms = [0; COUNT];
    }

    /// What outlives a restart; the day that is being watched does not.
    pub fn kept(&self) -> KeptReference {
        KeptReference {
            marks: self.marks.iter().map(|mark| (packed(mark.centre), packed(mark.top), packed(mark.peak))).collect(),
            known: self.known.to_vec(),
            since_ms: self.since_ms.to_vec(),
            seconds: self.seconds as u32,
        }
    }

    /// What was kept; with other sizes than these, nothing.
    pub fn of(kept: &KeptReference) -> Self {
        let mut reference = Self::default();
        if [kept.marks.len(), kept.known.len(), kept.since_ms.len()] != [COUNT; 3] {
            return reference;
        }
        for (mark, &(centre, top, peak)) in reference.marks.iter_mut().zip(&kept.marks) {
            *mark = Mark { centre: unpacked(centre), top: unpacked(top), peak: unpacked(peak) };
        }
        reference.known.copy_from_slice(&kept.known);
        reference.since_ms.copy_from_slice(&kept.since_ms);
        reference.seconds = kept.seconds as f32;
        reference
    }
}
