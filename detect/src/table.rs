//! The unsupervised layers over any table: a baseline and a slope per entity and column, one score per row, each from what came before it.
//!
//! Nothing is known of the columns but their numbers, so the unit of everything is the table's own: a column's floor comes from its first
//! values, time is counted in rows of the entity. A value that is not finite is absent.
//!
//! ```
//! use vedette_detect::table::Scorer;
//!
//! let mut scorer = Scorer::new(1);
//! let calm = (0..200).map(|row| scorer.score("web", row * 60_000, &[20.0 + (row % 3) as f64]).score).last();
//! let odd = scorer.score("web", 200 * 60_000, &[200.0]).score;
//! assert!(calm < Some(0.1) && odd > 0.5);
//! ```

mod track;

use std::collections::HashMap;

use self::track::{READY, Track};

/// Most entities of a table; rows of further ones are not scored, and counted.
pub const MAX_ENTITIES: usize = 100_000;
/// Values from which a column's floor is taken, those of all entities together: enough that no single one decides, few enough that an odd
/// row soon after a table's beginning can be seen.
const FLOOR_VALUES: usize = 16;
/// How columns are put together: by the fourth power, so that the one that is oddest decides and others count little.
const NORM: f32 = 4.0;
/// What slope counts beside the level: it says less, for a level that stays where it went is sloped for long.
const SLOPE_SHARE: f32 = 0.1;
/// A row counts as at least, and at most, so many rows of usual distance to the one before.
const STEP: (f32, f32) = (0.2, 5.0);
/// How fast the usual distance follows.
const STEP_SHARE: f32 = 0.05;

/// What is said of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// How abnormal, 0 to 1.
    pub score: f32,
    /// How far levels are beyond their bands, all columns together, in margins; 0 within.
    pub level: f32,
    /// How steadily values keep to one side of their centres, 0 to about 1 for one column.
    pub slope: f32,
    /// The column that says most of it, by its place; `None` where none says anything.
    pub column: Option<usize>,
}

/// Counters; every limit of a scorer shows here when it is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entities known.
    pub entities: usize,
    /// Rows of entities beyond [`MAX_ENTITIES`]: scored 0.
    pub refused: u64,
    /// Rows earlier than the one before of their entity: scored all the same.
    pub out_of_order: u64,
}

/// Scores a table row by row.
pub struct Scorer {
    floors: Vec<Floor>,
    entities: HashMap<Box<str>, Entity>,
    counts: Counts,
}

/// What difference says nothing in a column: a typical value of its beginning.
enum Floor {
    /// Amounts seen so far.
    Open(Vec<f32>),
    Known(f32),
}

struct Entity {
    last_ms: i64,
    /// Usual distance of rows, milliseconds; NaN before the second.
    step_ms: f32,
    tracks: Box<[Track]>,
}

impl Scorer {
    /// For a table of so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        let floors = (0..columns).map(|_| Floor::Open(Vec::new())).collect();
        Self { floors, entities: HashMap::new(), counts: Counts::default() }
    }

    /// Scores a row, then learns from it. `unix_ms` only says how far apart rows are, so any clock will do.
    ///
    /// # Panics
    /// Where there are not as many values as columns.
    pub fn score(&mut self, entity: &str, unix_ms: i64, values: &[f64]) -> Scored {
        assert_eq!(values.len(), self.floors.len(), "a value for each column");
        let Some(rows) = self.rows(entity, unix_ms) else { return Scored::default() };
        let Some(entity) = self.entities.get_mut(entity) else { return Scored::default() };
        let (mut levels, mut slopes) = (0.0f32, 0.0f32);
        let mut most = (0.0, None);
        for (place, (&value, floor)) in values.iter().zip(&mut self.floors).enumerate() {
            let value = value as f32;
            if !value.is_finite() {
                continue;
            }
            let Some(floor) = floor.with(value) else { continue };
            let odd = entity.tracks[place].take(to_log(value, floor), rows);
            levels += odd.level.powf(NORM);
            slopes += odd.slope.powf(NORM);
            let of_it = odd.level + SLOPE_SHARE * odd.slope;
            if of_it > most.0 {
                most = (of_it, Some(place));
            }
        }
        let (level, slope) = (levels.powf(1.0 / NORM), slopes.powf(1.0 / NORM));
        let all = level + SLOPE_SHARE * slope;
        Scored { score: all / (1.0 + all), level, slope, column: most.1 }
    }

    /// Counters so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { entities: self.entities.len(), ..self.counts }
    }

    /// Rows of an entity after which the first may be scored; the floors of columns take some more from all entities together.
    #[must_use]
    pub const fn warm_up() -> usize {
        READY as usize
    }

    /// How many rows of usual distance this one stands for; `None`: its entity is one too many.
    fn rows(&mut self, entity: &str, unix_ms: i64) -> Option<f32> {
        let Some(known) = self.entities.get_mut(entity) else {
            if self.entities.len() >= MAX_ENTITIES {
                self.counts.refused += 1;
                return None;
            }
            let tracks = vec![Track::default(); self.floors.len()].into();
            self.entities.insert(entity.into(), Entity { last_ms: unix_ms, step_ms: f32::NAN, tracks });
            return Some(1.0);
        };
        if unix_ms < known.last_ms {
            self.counts.out_of_order += 1;
            return Some(STEP.0);
        }
        let step_ms = unix_ms.saturating_sub(known.last_ms).max(1) as f32;
        known.last_ms = unix_ms;
        if known.step_ms.is_nan() {
            known.step_ms = step_ms;
        }
        let rows = (step_ms / known.step_ms).clamp(STEP.0, STEP.1);
        // A hole is no new rhythm.
        known.step_ms += (step_ms.min(2.0 * known.step_ms) - known.step_ms) * STEP_SHARE;
        Some(rows)
    }
}

impl Floor {
    /// The floor, with a value taken into it while it is open; `None` until it is known.
    fn with(&mut self, value: f32) -> Option<f32> {
        let seen = match self {
            Self::Known(floor) => return Some(*floor),
            Self::Open(seen) => seen,
        };
        // Zeros say nothing of a column's size: as long as there is nothing else, it stays open.
        if value == 0.0 && seen.len() + 1 >= FLOOR_VALUES && seen.iter().all(|&seen| seen == 0.0) {
            return None;
        }
        seen.push(value.abs());
        if seen.len() < FLOOR_VALUES {
            return None;
        }
        seen.sort_unstable_by(f32::total_cmp);
        let (middle, most) = (seen[seen.len() / 2], seen[seen.len() - 1]);
        let floor = if middle > 0.0 { middle } else { most };
        *self = Self::Known(floor);
        Some(floor)
    }
}

/// To a space where equal distances are equal ratios above the floor, of either sign.
fn to_log(value: f32, floor: f32) -> f32 {
    // In double precision the ratio of any two single numbers is finite.
    ((f64::from(value.abs()) / f64::from(floor)).ln_1p() as f32).copysign(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// A calm load of about 20 with some noise.
    fn calm(row: i64) -> f64 {
        20.0 + ((row * 7919) % 13) as f64 * 0.2
    }

    fn scores(rows: i64, value: impl Fn(i64) -> f64) -> Vec<Scored> {
        let mut scorer = Scorer::new(1);
        (0..rows).map(|row| scorer.score("web", row * MINUTE, &[value(row)])).collect()
    }

    #[test]
    fn a_score_depends_on_no_later_row() {
        let whole = scores(400, |row| if row > 300 { 500.0 } else { calm(row) });
        let part = scores(301, calm);

        assert_eq!(whole[..301], part[..]);
        assert!(whole[301].score > 0.5 && part[300].score < 0.1);
    }

    #[test]
    fn a_surge_stands_out_against_a_load_that_always_swings() {
        let all = scores(500, |row| match row {
            450..=452 => 100.0,
            row if row % 20 < 3 => 40.0,
            row => calm(row),
        });

        let usual = all[200..450].iter().fold(0.0f32, |most, one| most.max(one.score));
        let surge = all[450..453].iter().fold(0.0f32, |most, one| most.max(one.score));
        assert!(surge > 2.0 * usual && surge > 0.4, "{surge} {usual}");
    }

    #[test]
    fn what_stays_is_learnt_and_what_creeps_is_a_slope() {
        let shifted = scores(1_000, |row| if row < 300 { calm(row) } else { calm(row) * 4.0 });
        assert!(shifted[301].level > 1.0 && shifted[999].level < 0.05, "{:?} {:?}", shifted[301], shifted[999]);

        let crept = scores(400, |row| if row < 200 { calm(row) } else { calm(row) * 1.004f64.powi((row - 200) as i32) });
        assert!(crept[399].slope > 4.0 * crept[199].slope.max(0.01), "{:?} {:?}", crept[199], crept[399]);
    }

    #[test]
    fn entities_and_columns_are_judged_apart() {
        let mut scorer = Scorer::new(2);
        for row in 0..200 {
            scorer.score("small", row * MINUTE, &[calm(row), 1e9]);
            scorer.score("large", row * MINUTE, &[calm(row) * 50.0, f64::NAN]);
        }

        let usual = scorer.score("large", 200 * MINUTE, &[calm(1) * 50.0, f64::NAN]);
        let odd = scorer.score("small", 200 * MINUTE, &[calm(1) * 50.0, 1e9]);

        assert!(usual.score < 0.1 && odd.score > 0.5, "{usual:?} {odd:?}");
        assert_eq!(odd.column, Some(0));
        assert_eq!(scorer.counts(), Counts { entities: 2, refused: 0, out_of_order: 0 });
    }

    #[test]
    fn no_number_breaks_it() {
        let mut scorer = Scorer::new(1);
        let odd = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, f64::MIN, -0.0, 1e-300, 3e38, -3e38];

        for round in 0..50 {
            for (place, value) in odd.iter().enumerate() {
                let scored = scorer.score("web", if round % 2 == 0 { i64::MAX } else { i64::MIN + place as i64 }, &[*value]);
                assert!((0.0..=1.0).contains(&scored.score), "{value}: {scored:?}");
            }
        }
        assert!(scorer.counts().out_of_order > 0);
    }

    #[test]
    fn a_column_of_zeros_is_calm_until_something_happens() {
        let all = scores(300, |row| if row > 250 { 5.0 } else { 0.0 });

        assert!(all[..251].iter().all(|one| one.score == 0.0));
        assert!(all[299].score.is_finite());
    }
}
