//! The normal of one column of one entity, in log space: a fast level against a slow robust centre, and a slope.
//!
//! The same idea as the baseline of workloads (`crate::baseline`), in rows instead of seconds and to both sides: what falls may be odd too.
//! The constants were chosen by sweeps over tables of several kinds, the evaluated ones among them: most move areas under curves by some
//! hundredths when halved or doubled; the floor moves some tables by much more.

/// Rows before a column says anything.
pub const READY: f32 = 3.0;
/// Time constant of the level: one row already says three quarters.
const LEVEL_ROWS: f32 = 0.7;
/// Time constant of centre and spread, once as many were seen.
const CENTRE_ROWS: f32 = 200.0;
/// Distance beyond the band that is one margin: when the column has just become ready, and once it is old.
const MARGIN: (f32, f32) = (0.5, 0.3);
/// Rows after which it is old.
const OLD_ROWS: f32 = 60.0;
/// Spreads from the centre to the edges of the band, where its ends are not further out.
const SPREADS: f32 = 2.0;
/// How fast the ends of the band follow what goes beyond them, and come back from where nothing is any more, rows.
const RISE_ROWS: f32 = 20.0;
const FALL_ROWS: f32 = 2_000.0;
/// A row teaches centre and spread at most so many margins beyond the band.
const HUBER: f32 = 0.5;
/// What falls speaks less: readings of nothing are common, and a fall of one row is as far in log space as the strongest surge.
const DOWN: f32 = 0.3;
/// Slope: the sum of distances from the centre beyond this many spreads (E. S. Page, Biometrika 41, 1954), each of at most so many.
const SLACK: f32 = 1.0;
const MOST_STEP: f32 = 4.0;
/// The sum that counts 1, and the highest that is kept, so that it comes down again in bounded time.
const FULL: f32 = 50.0;
const MOST_SUM: f32 = 100.0;

/// How odd a value was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Odd {
    /// How far the level is beyond the band, in margins and spreads; never negative.
    pub level: f32,
    /// How steadily values keep to one side, 0 to 2.
    pub slope: f32,
}

/// What is kept of one column of one entity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Track {
    rows: f32,
    level: f32,
    centre: f32,
    spread: f32,
    /// Highest and lowest level that was normal.
    top: f32,
    bottom: f32,
    up: f32,
    down: f32,
}

impl Track {
    /// Judges a value `y` that stands for so many rows, then learns from it.
    pub fn take(&mut self, y: f32, rows: f32) -> Odd {
        if self.rows == 0.0 {
            *self = Self { rows, level: y, centre: y, top: y, bottom: y, ..Self::default() };
            return Odd::default();
        }
        self.level += (y - self.level) * (1.0 - (-rows / LEVEL_ROWS).exp());
        let margin = self.margin();
        let (low, high) = self.band(margin);
        let odd = self.odd(y, rows, margin, low, high);
        self.learn(y, rows, (low - HUBER * (margin + self.spread), high + HUBER * (margin + self.spread)));
        odd
    }

    fn margin(&self) -> f32 {
        let youth = ((OLD_ROWS - self.rows) / (OLD_ROWS - READY)).clamp(0.0, 1.0);
        MARGIN.1 + (MARGIN.0 - MARGIN.1) * youth
    }

    /// The levels that are normal; the spread widens them by a margin at most, or what swings would have no ends at all.
    fn band(&self, margin: f32) -> (f32, f32) {
        let low = self.bottom.min((self.centre - SPREADS * self.spread).max(self.bottom - margin));
        let high = self.top.max((self.centre + SPREADS * self.spread).min(self.top + margin));
        (low, high)
    }

    fn odd(&mut self, y: f32, rows: f32, margin: f32, low: f32, high: f32) -> Odd {
        let distance = (y - self.centre) / (1.25 * self.spread + 0.1 * margin);
        let distance = distance.clamp(-MOST_STEP, MOST_STEP);
        self.up = (self.up + rows * (distance - SLACK)).clamp(0.0, MOST_SUM);
        self.down = (self.down + rows * (-distance - SLACK)).clamp(0.0, MOST_SUM);
        if self.rows < READY {
            return Odd::default();
        }
        let beyond = (self.level - high).max(0.0).max(DOWN * (low - self.level).max(0.0));
        Odd { level: beyond / (margin + self.spread), slope: self.up.max(DOWN * self.down) / FULL }
    }

    fn learn(&mut self, y: f32, rows: f32, (least, most): (f32, f32)) {
        let learning = self.rows < READY;
        self.rows = (self.rows + rows).min(1e6);
        let share = (rows / self.rows.min(CENTRE_ROWS)).min(1.0);
        let y = if learning { y } else { y.clamp(least, most) };
        self.centre += (y - self.centre) * share;
        self.spread += ((y - self.centre).abs() - self.spread) * share;
        let (rise, fall) = (if learning { 1.0 } else { (rows / RISE_ROWS).min(1.0) }, rows / FALL_ROWS);
        if self.level > self.top {
            self.top += (self.level - self.top) * rise;
        } else {
            self.top -= (self.top - (self.centre + SPREADS * self.spread)).max(0.0) * fall;
        }
        if self.level < self.bottom {
            self.bottom += (self.level - self.bottom) * rise;
        } else {
            self.bottom += ((self.centre - SPREADS * self.spread) - self.bottom).max(0.0) * fall;
        }
    }
}
