//! A level over minutes: whether it only ever grows.

/// Marks kept.
const MARKS: usize = 12;
/// Time between two marks.
const STEP_MS: i64 = 60_000;

/// Twelve marks of a level, a minute apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trend {
    marks: [f32; MARKS],
    filled: u8,
    next_ms: i64,
}

/// Steady growth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Level at the first mark.
    pub from: f32,
    /// Level at the last one.
    pub to: f32,
    /// Time between the two, seconds.
    pub seconds: f32,
}

impl Trend {
    /// Takes a level in; true when it became a mark.
    pub fn take(&mut self, unix_ms: i64, level: f32) -> bool {
        if unix_ms < self.next_ms {
            return false;
        }
        // After a gap the old marks say nothing about steadiness.
        if self.filled > 0 && unix_ms >= self.next_ms + STEP_MS {
            self.filled = 0;
        }
        self.next_ms = unix_ms + STEP_MS;
        if (self.filled as usize) < MARKS {
            self.marks[self.filled as usize] = level;
            self.filled += 1;
        } else {
            self.marks.rotate_left(1);
            self.marks[MARKS - 1] = level;
        }
        true
    }

    /// The growth over all marks, if every step but one at most went up by a share of the whole that is not noise.
    pub fn growth(&self) -> Option<Growth> {
        if (self.filled as usize) < MARKS {
            return None;
        }
        let (from, to) = (self.marks[0], self.marks[MARKS - 1]);
        let fair = (to - from) / (MARKS - 1) as f32;
        let steady = self.marks.windows(2).filter(|pair| pair[1] - pair[0] > fair * 0.3).count();
        let seconds = (MARKS - 1) as f32 * STEP_MS as f32 / 1e3;
        (fair > 0.0 && steady >= MARKS - 2).then_some(Growth { from, to, seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_minutes(level: impl Fn(i64) -> f32) -> Option<Growth> {
        let mut trend = Trend::default();
        (0..MARKS as i64).for_each(|minute| {
            trend.take(minute * STEP_MS, level(minute));
        });
        trend.growth()
    }

    #[test]
    fn steady_growth_is_seen_and_a_step_is_not() {
        assert_eq!(over_minutes(|minute| minute as f32), Some(Growth { from: 0.0, to: 11.0, seconds: 660.0 }));
        assert_eq!(over_minutes(|minute| if minute < 5 { 1.0 } else { 9.0 }), None);
        assert_eq!(over_minutes(|minute| (minute % 3) as f32 + minute as f32 * 0.1), None);
    }
}
