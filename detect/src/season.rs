//! The hours of a workload's day, and later of its week: how high its main features normally are then.
//!
//! The band's top follows within a minute and falls over hours, so what happens every morning would be new every morning. An hour that was
//! learnt on three days widens the band for that hour; an hour of the week does once it was learnt in three weeks. It never narrows it.
//! Hours are of UTC: where clocks are changed twice a year, a workload's day moves by an hour, which its neighbours' widening covers.

use vedette_proto::Feature;

use crate::{
    baseline::PLACES,
    memory::{packed, unpacked},
};

/// Features whose course over hours, days and weeks is kept. The first [`WEEKLY`] also by the hour of the week.
pub const MAIN: [Feature; 8] = [
    Feature::CpuCores,
    Feature::RxPacketsPerSec,
    Feature::TcpPassiveOpensPerSec,
    Feature::TxExcessBytesPerSec,
    Feature::TcpActiveOpensPerSec,
    Feature::TcpEstablished,
    Feature::MemoryAnonBytes,
    Feature::Pids,
];
/// How many they are.
pub const COUNT: usize = MAIN.len();
/// A value for each of them.
pub type Main<T> = [T; COUNT];

const WEEKLY: usize = 4;
const DAY: usize = 24;
const WEEK: usize = 168;
const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// Days (weeks) that an hour must have been learnt on before it serves.
const SERVES_AFTER: u8 = 3;
/// An hour with less of it seen, in seconds, says nothing of itself.
const LEAST_SECONDS: f32 = 900.0;
/// What happens at the full hour does not look at a clock: this near to it, the neighbouring hour counts too.
const NEAR_MS: i64 = 15 * MINUTE_MS;
/// Share by which an hour follows a higher day, and a lower one.
const RISE: f32 = 0.5;
const FALL: f32 = 0.15;
/// Offsets of the week are multiples of 1/32 in log space, 3 %.
const WEEK_PARTS: f32 = 32.0;

/// Where a feature's place is in [`MAIN`]; [`COUNT`]: it is not.
const SLOTS: [u8; PLACES] = {
    let mut slots = [COUNT as u8; PLACES];
    let mut slot = 0;
    while slot < COUNT {
        slots[MAIN[slot] as usize] = slot as u8;
        slot += 1;
    }
    slots
};

/// The hours of one workload: some 600 bytes, and 850 more once it is known for three days.
#[derive(Clone, Debug, PartialEq)]
pub struct Season {
    /// The hour that is being watched, counted from 1970.
    hour: i64,
    /// Seconds of it that were seen.
    seconds: f32,
    /// Highest normal levels in it, log space.
    peaks: Main<f32>,
    /// Highest normal levels by the hour of the day, packed.
    day: Main<[i16; DAY]>,
    /// On how many days each hour was learnt.
    days: [u8; DAY],
    week: Option<Box<Week>>,
    /// What serves now.
    now: Main<f32>,
}

/// By how much an hour of the week differs from that hour of a day.
#[derive(Clone, Debug, PartialEq)]
struct Week {
    offsets: [[i8; WEEK]; WEEKLY],
    weeks: [u8; WEEK],
}

/// What is kept of it across restarts.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KeptSeason {
    day: Vec<i16>,
    days: Vec<u8>,
    offsets: Vec<i8>,
    weeks: Vec<u8>,
}

impl Default for Season {
    fn default() -> Self {
        Self {
            hour: i64::MIN,
            seconds: 0.0,
            peaks: [f32::NEG_INFINITY; COUNT],
            day: [[0; DAY]; COUNT],
            days: [0; DAY],
            week: None,
            now: [f32::NEG_INFINITY; COUNT],
        }
    }
}

impl Season {
    /// The highest normal level at this hour in log space; below every level where nothing is known.
    #[inline]
    pub fn high(&self, place: usize) -> f32 {
        self.now.get(usize::from(SLOTS[place])).copied().unwrap_or(f32::NEG_INFINITY)
    }

    /// Takes in the highest normal levels of the last moments.
    pub fn take(&mut self, unix_ms: i64, seconds: f32, peaks: &Main<f32>) {
        let hour = unix_ms.div_euclid(HOUR_MS);
        if hour != self.hour {
            self.close();
            (self.hour, self.seconds, self.peaks) = (hour, 0.0, [f32::NEG_INFINITY; COUNT]);
        }
        self.seconds += seconds;
        for (peak, seen) in self.peaks.iter_mut().zip(peaks) {
            *peak = peak.max(*seen);
        }
    }

    /// From now on serves what an instant's hour is like, in no feature above `most`.
    pub fn serve(&mut self, unix_ms: i64, most: &Main<f32>) {
        let hour = unix_ms.div_euclid(HOUR_MS);
        let into_ms = unix_ms.rem_euclid(HOUR_MS);
        let neighbour = match into_ms {
            early if early < NEAR_MS => hour - 1,
            late if late >= HOUR_MS - NEAR_MS => hour + 1,
            _ => hour,
        };
        self.now = std::array::from_fn(|slot| self.usual(slot, hour).max(self.usual(slot, neighbour)).min(most[slot]));
    }

    fn usual(&self, slot: usize, hour: i64) -> f32 {
        let (of_day, of_week) = (hour.rem_euclid(DAY as i64) as usize, hour.rem_euclid(WEEK as i64) as usize);
        if self.days[of_day] < SERVES_AFTER {
            return f32::NEG_INFINITY;
        }
        let level = unpacked(self.day[slot][of_day]);
        match &self.week {
            Some(week) if slot < WEEKLY && week.weeks[of_week] >= SERVES_AFTER => {
                level + f32::from(week.offsets[slot][of_week]) / WEEK_PARTS
            }
            _ => level,
        }
    }

    /// The hour is over: what was seen in it is learnt.
    fn close(&mut self) {
        if self.seconds < LEAST_SECONDS {
            return;
        }
        let (of_day, of_week) = (self.hour.rem_euclid(DAY as i64) as usize, self.hour.rem_euclid(WEEK as i64) as usize);
        let first = self.days[of_day] == 0;
        for (slot, &peak) in self.peaks.iter().enumerate().filter(|(_, peak)| peak.is_finite()) {
            let kept = &mut self.day[slot][of_day];
            let of_day_known = unpacked(*kept);
            let share = if peak > of_day_known { RISE } else { FALL };
            *kept = packed(if first { peak } else { of_day_known + (peak - of_day_known) * share });
            if slot < WEEKLY
                && let Some(week) = &mut self.week
            {
                // Against what the day said before it: so it is read, too.
                let offset = if first { 0.0 } else { peak - of_day_known };
                let known = f32::from(week.offsets[slot][of_week]) / WEEK_PARTS;
                let offset = if week.weeks[of_week] == 0 { offset } else { known + (offset - known) * RISE };
                week.offsets[slot][of_week] = (offset * WEEK_PARTS).round() as i8;
            }
        }
        self.days[of_day] = self.days[of_day].saturating_add(1);
        if let Some(week) = &mut self.week {
            week.weeks[of_week] = week.weeks[of_week].saturating_add(1);
        } else if self.days[of_day] >= SERVES_AFTER {
            self.week = Some(Box::new(Week { offsets: [[0; WEEK]; WEEKLY], weeks: [0; WEEK] }));
        }
    }

    /// What outlives a restart; the hour that is being watched does not.
    pub fn kept(&self) -> KeptSeason {
        let week = self.week.as_deref();
        KeptSeason {
            day: self.day.concat(),
            days: self.days.to_vec(),
            offsets: week.map_or(Vec::new(), |week| week.offsets.concat()),
            weeks: week.map_or(Vec::new(), |week| week.weeks.to_vec()),
        }
    }

    /// What was kept; with other sizes than these, nothing.
    pub fn of(kept: &KeptSeason) -> Self {
        let mut season = Self::default();
        if kept.day.len() != COUNT * DAY || kept.days.len() != DAY {
            return season;
        }
        season.day.iter_mut().zip(kept.day.chunks_exact(DAY)).for_each(|(to, from)| to.copy_from_slice(from));
        season.days.copy_from_slice(&kept.days);
        if kept.offsets.len() == WEEKLY * WEEK && kept.weeks.len() == WEEK {
            let mut week = Box::new(Week { offsets: [[0; WEEK]; WEEKLY], weeks: [0; WEEK] });
            week.offsets.iter_mut().zip(kept.offsets.chunks_exact(WEEK)).for_each(|(to, from)| to.copy_from_slice(from));
            week.weeks.copy_from_slice(&kept.weeks);
            season.week = Some(week);
        }
        season
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: usize = Feature::CpuCores as usize;
    const NO_LIMIT: Main<f32> = [f32::INFINITY; COUNT];

    /// Days of a level by hour from 1970 on, a minute at a time; then what serves at an hour.
    fn lived(season: &mut Season, days: std::ops::Range<i64>, level: impl Fn(i64, i64) -> f32) {
        for minute in days.start * 1_440..days.end * 1_440 {
            season.take(minute * MINUTE_MS, 60.0, &[level(minute / 1_440, minute / 60 % 24); COUNT]);
        }
    }

    fn at(season: &mut Season, day: i64, hour: i64) -> f32 {
        season.serve((day * 24 + hour) * HOUR_MS + HOUR_MS / 2, &NO_LIMIT);
        season.high(CPU)
    }

    fn morning(_: i64, hour: i64) -> f32 {
        if (9..17).contains(&hour) { 3.0 } else { 1.0 }
    }

    #[test]
    fn an_hour_serves_once_it_was_learnt_on_three_days() {
        let mut season = Season::default();

        lived(&mut season, 0..2, morning);
        let early = at(&mut season, 2, 12);
        lived(&mut season, 2..4, morning);

        assert_eq!(early, f32::NEG_INFINITY);
        assert!((at(&mut season, 4, 12) - 3.0).abs() < 0.01);
        assert!((at(&mut season, 4, 3) - 1.0).abs() < 0.01);
        assert_eq!(season.high(Feature::CpuThrottledRatio as usize), f32::NEG_INFINITY);
    }

    #[test]
    fn near_a_full_hour_the_higher_neighbour_counts() {
        let mut season = Season::default();
        lived(&mut season, 0..4, morning);

        season.serve((4 * 24 + 9) * HOUR_MS - 10 * MINUTE_MS, &NO_LIMIT);
        let before_nine = season.high(CPU);
        season.serve((4 * 24 + 9) * HOUR_MS - 20 * MINUTE_MS, &NO_LIMIT);

        assert!((before_nine - 3.0).abs() < 0.01 && (season.high(CPU) - 1.0).abs() < 0.01);
    }

    #[test]
    fn an_hour_of_the_week_serves_once_it_was_learnt_in_three_weeks() {
        let mut season = Season::default();
        let working = |day: i64, hour: i64| if day % 7 < 5 { morning(day, hour) } else { 0.5 };

        lived(&mut season, 0..14, working);
        let second_sunday = at(&mut season, 20, 12);
        lived(&mut season, 14..35, working);

        assert!(second_sunday > 2.0, "{second_sunday}");
        assert!((at(&mut season, 36, 12) - 3.0).abs() < 0.4, "Tuesday {}", at(&mut season, 36, 12));
        assert!(at(&mut season, 41, 12) < 1.0, "Sunday {}", at(&mut season, 41, 12));
    }

    #[test]
    fn an_hour_that_was_hardly_seen_teaches_nothing() {
        let mut season = Season::default();

        for day in 0..5 {
            for minute in 0..10 {
                season.take((day * 24 + 9) * HOUR_MS + minute * MINUTE_MS, 60.0, &[3.0; COUNT]);
            }
            season.take((day * 24 + 10) * HOUR_MS, 60.0, &[1.0; COUNT]);
        }

        assert_eq!(at(&mut season, 5, 9), f32::NEG_INFINITY);
    }

    #[test]
    fn what_is_kept_comes_back_and_other_sizes_are_nothing() {
        let mut season = Season::default();
        lived(&mut season, 0..30, morning);

        let mut back = Season::of(&season.kept());

        assert_eq!(at(&mut back, 30, 12), at(&mut season, 30, 12));
        assert_eq!(back.kept(), season.kept());
        assert_eq!(Season::of(&KeptSeason { days: vec![9; DAY], ..KeptSeason::default() }), Season::default());
    }
}
