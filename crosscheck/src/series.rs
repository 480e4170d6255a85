//! Our own values over time: between two samples by a straight line, and never over a hole.

/// A hole of so many stamps' tolerance is no line any more.
const HOLE: i64 = 5;

/// A value at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it was read, Unix milliseconds.
    pub unix_ms: i64,
    /// The metric's unit.
    pub value: f64,
}

/// Points in order of time.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    points: &'a [Point],
    tolerance_ms: i64,
}

impl<'a> Series<'a> {
    /// Points whose times may be wrong by so much, milliseconds.
    #[must_use]
    pub fn new(points: &'a [Point], tolerance_ms: i64) -> Self {
        Self { points, tolerance_ms }
    }

    /// The value at an instant; `None` outside of what was sampled, or in a hole of it.
    #[must_use]
    pub fn at(&self, unix_ms: i64) -> Option<f64> {
        let next = self.points.partition_point(|point| point.unix_ms < unix_ms);
        let after = self.points.get(next)?;
        if after.unix_ms == unix_ms {
            return Some(after.value);
        }
        let before = self.points.get(next.checked_sub(1)?)?;
        let length = after.unix_ms - before.unix_ms;
        if length > HOLE * self.tolerance_ms {
            return None;
        }
        let part = (unix_ms - before.unix_ms) as f64 / length as f64;
        Some(before.value + part * (after.value - before.value))
    }

    /// Whether there is no hole between two instants.
    #[must_use]
    pub fn is_whole(&self, from: i64, to: i64) -> bool {
        let inside = |pair: &&[Point]| pair[1].unix_ms > from && pair[0].unix_ms < to;
        self.points.windows(2).filter(inside).all(|pair| pair[1].unix_ms - pair[0].unix_ms <= HOLE * self.tolerance_ms)
    }

    /// The most that it rises within the tolerance around an instant.
    #[must_use]
    pub fn steepest(&self, unix_ms: i64) -> f64 {
        let (low, high) = self.around(unix_ms);
        (high - low).max(0.0)
    }

    /// The most that it differs within the tolerance around an instant.
    #[must_use]
    pub fn spread(&self, unix_ms: i64) -> f64 {
        let near = self.points.iter().filter(|point| (point.unix_ms - unix_ms).abs() <= self.tolerance_ms).map(|point| point.value);
        let (low, high) = near.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low <= high { high - low } else { 0.0 }
    }

    /// Values as far before and after an instant as a stamp may be wrong; its ends where it has none.
    fn around(&self, unix_ms: i64) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return (0.0, 0.0) };
        let value = |unix_ms: i64| self.at(unix_ms.clamp(first.unix_ms, last.unix_ms)).unwrap_or(f64::NAN);
        let (low, high) = (value(unix_ms - self.tolerance_ms), value(unix_ms + self.tolerance_ms));
        if low.is_nan() || high.is_nan() { (0.0, 0.0) } else { (low, high) }
    }
}

/// The middle one, or the mean of the two; 0 of none.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}
