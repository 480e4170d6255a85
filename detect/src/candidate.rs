//! What a workload does while an incident holds its baseline: learnt in the shadow, so that somebody can say that it is normal now.

use serde::{Deserialize, Serialize};

use crate::{
    baseline::Baseline,
    memory::{KeptTrack, baseline_of, kept_tracks},
    reference::Present,
    season::{COUNT, Main},
};

const HOUR_MS: i64 = 3_600_000;
/// An incident that lasts so long asks whether this is normal now ...
const ASK_AFTER_MS: i64 = 24 * HOUR_MS;
/// ... if the level has been about the same for so long.
const STEADY_MS: i64 = 6 * HOUR_MS;
/// A ticket that nobody answered is accepted by a timer so long after it asked.
const TIMER_MS: i64 = 24 * HOUR_MS;
/// Further from where it was than by this, log space (a doubling), a level is another one.
const ELSEWHERE: f32 = 0.7;
/// Seconds of samples that a candidate needs before anybody can accept it.
pub const LEAST_S: f32 = 300.0;

/// The baseline that would serve.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Since when it learns, event time.
    pub since_ms: i64,
    /// What it learnt.
    pub baseline: Baseline,
    /// Where main features were when they were last elsewhere, and since when they are about there.
    marks: Main<f32>,
    steady_since_ms: i64,
    /// When it asked; 0: it did not.
    asked_ms: i64,
}

/// What is kept of it across restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptCandidate {
    since_ms: i64,
    tracks: Vec<KeptTrack>,
    steady_since_ms: i64,
    asked_ms: i64,
}

/// What a candidate has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It goes on learning.
    Learns,
    /// It has been steady for so many hours and asks to be accepted.
    Asks(i64),
    /// It asked a day ago, and nobody said anything.
    Overdue,
}

impl Candidate {
    /// One that begins now.
    pub fn new(unix_ms: i64) -> Self {
        Self { since_ms: unix_ms, baseline: Baseline::default(), marks: [f32::NAN; COUNT], steady_since_ms: unix_ms, asked_ms: 0 }
    }

    /// Takes in where its features are now, and says what follows.
    pub fn turn(&mut self, unix_ms: i64, present: &Present) -> Turn {
        for (mark, &centre) in self.marks.iter_mut().zip(&present.centres) {
            if centre.is_nan() {
                continue;
            }
            if mark.is_nan() {
                *mark = centre;
            } else if (centre - *mark).abs() > ELSEWHERE {
                *mark = centre;
                self.steady_since_ms = unix_ms;
            }
        }
        let steady_ms = unix_ms - self.steady_since_ms;
        if unix_ms - self.since_ms < ASK_AFTER_MS || steady_ms < STEADY_MS {
            self.asked_ms = 0;
            return Turn::Learns;
        }
        if self.asked_ms == 0 {
            self.asked_ms = unix_ms;
        }
        if unix_ms - self.asked_ms >= TIMER_MS { Turn::Overdue } else { Turn::Asks(steady_ms / HOUR_MS) }
    }

    /// What outlives a restart.
    pub fn kept(&self) -> KeptCandidate {
        KeptCandidate {
            since_ms: self.since_ms,
            tracks: kept_tracks(&self.baseline),
            steady_since_ms: self.steady_since_ms,
            asked_ms: self.asked_ms,
        }
    }

    /// What was kept.
    pub fn of(kept: &KeptCandidate) -> Self {
        Self {
            since_ms: kept.since_ms,
            baseline: baseline_of(&kept.tracks),
            marks: [f32::NAN; COUNT],
            steady_since_ms: kept.steady_since_ms,
            asked_ms: kept.asked_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hours of a level, a minute at a time; the hour of each turn that was another than the one before.
    fn turns(hours: i64, level: impl Fn(i64) -> f32) -> Vec<(i64, &'static str)> {
        let mut candidate = Candidate::new(0);
        let mut turns: Vec<(i64, &'static str)> = Vec::new();
        for minute in 0..hours * 60 {
            let present = Present { centres: [level(minute / 60); COUNT], peaks: [0.0; COUNT] };
            let word = match candidate.turn(minute * 60_000, &present) {
                Turn::Learns => "learns",
                Turn::Asks(_) => "asks",
                Turn::Overdue => "overdue",
            };
            if turns.last().is_none_or(|(_, last)| *last != word) {
                turns.push((minute / 60, word));
            }
        }
        turns
    }

    #[test]
    fn a_steady_level_asks_after_a_day_and_is_overdue_after_another() {
        assert_eq!(turns(60, |_| 2.0), [(0, "learns"), (24, "asks"), (48, "overdue")]);
    }

    #[test]
    fn a_level_that_moves_does_not_ask_until_it_has_been_about_the_same_for_six_hours() {
        assert_eq!(turns(60, |hour| hour as f32 * 0.2), [(0, "learns")]);
        assert_eq!(turns(40, |hour| if hour < 22 { 2.0 } else { 3.0 }), [(0, "learns"), (28, "asks")]);
    }
}
