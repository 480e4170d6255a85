//! Intervals of shares and rates, and areas under curves.

use statrs::distribution::{Beta, ChiSquared, ContinuousCDF};

/// Of every interval here: it holds the truth 95 times of 100.
const ALPHA: f64 = 0.05;

/// A share of so many, with its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub of: usize,
}

impl Share {
    /// Counts those that hold.
    pub fn count<T>(all: impl IntoIterator<Item = T>, mut holds: impl FnMut(&T) -> bool) -> Self {
        all.into_iter().fold(Self::default(), |share, one| Self { hits: share.hits + usize::from(holds(&one)), of: share.of + 1 })
    }

    /// The share; `None` of none.
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }

    /// Lower and upper bound: the exact interval of Clopper and Pearson (Biometrika 26, 1934).
    pub fn bounds(self) -> (f64, f64) {
        let (hits, misses) = (self.hits as f64, (self.of - self.hits) as f64);
        let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
        let low = if self.hits == 0 { 0.0 } else { quantile(hits, misses + 1.0, ALPHA / 2.0) };
        let high = if self.hits == self.of { 1.0 } else { quantile(hits + 1.0, misses, 1.0 - ALPHA / 2.0) };
        (low, high)
    }
}

/// The upper bound of a Poisson rate's mean count, where so many were counted (F. Garwood, Biometrika 28, 1936; one-sided).
pub fn poisson_upper(count: usize) -> f64 {
    let degrees = 2.0 * (count as f64 + 1.0);
    ChiSquared::new(degrees).map_or(f64::NAN, |chi| chi.inverse_cdf(1.0 - ALPHA) / 2.0)
}

/// The value below which this share lies, by the nearest rank; `None` of none.
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
}

/// What a score is worth at every threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Areas {
    /// Under the curve of hits against false alarms.
    pub roc: f64,
    /// Average precision: under precision against recall, without interpolation.
    pub pr: f64,
}

/// The areas for scores and truths; equal scores are one threshold. `None` where all are of one side.
pub fn areas(mut rows: Vec<(f32, bool)>) -> Option<Areas> {
    let positives = rows.iter().filter(|row| row.1).count() as f64;
    let negatives = rows.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut hits, mut alarms) = (0.0, 0.0);
    let mut areas = Areas::default();
    for same in rows.chunk_by(|a, b| a.0 == b.0) {
        let of_it = same.iter().filter(|row| row.1).count() as f64;
        let of_others = same.len() as f64 - of_it;
        areas.roc += of_others * (hits + of_it / 2.0);
        hits += of_it;
        alarms += of_others;
        areas.pr += of_it * hits / (hits + alarms);
    }
    Some(Areas { roc: areas.roc / (positives * negatives), pr: areas.pr / positives })
}

/// Most points of a curve: more are not seen.
const POINTS: usize = 300;

/// The curve of hits against false alarms, or of precision against recall; empty where all are of one side.
pub fn curve(mut rows: Vec<(f32, bool)>, roc: bool) -> Vec<(f64, f64)> {
    let positives = rows.iter().filter(|row| row.1).count() as f64;
    let negatives = rows.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return Vec::new();
    }
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut hits, mut alarms) = (0.0, 0.0);
    let mut points = if roc { vec![(0.0, 0.0)] } else { Vec::new() };
    for same in rows.chunk_by(|a, b| a.0 == b.0) {
        let of_it = same.iter().filter(|row| row.1).count() as f64;
        hits += of_it;
        alarms += same.len() as f64 - of_it;
        points.push(if roc { (alarms / negatives, hits / positives) } else { (hits / positives, hits / (hits + alarms)) });
    }
    let (step, last) = (points.len().div_ceil(POINTS), points.len() - 1);
    points.into_iter().enumerate().filter(|(place, _)| place % step == 0 || *place == last).map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-4, "{a} is not {b}");
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Of R's binom.test and poisson.test.
        let (low, high) = Share { hits: 8, of: 10 }.bounds();
        near(low, 0.4439);
        near(high, 0.9748);
        assert_eq!(Share { hits: 0, of: 10 }.bounds().0, 0.0);
        near(Share { hits: 0, of: 10 }.bounds().1, 0.3085);
        near(Share { hits: 30, of: 30 }.bounds().0, 0.8843);
        near(poisson_upper(0), 2.9957);
        near(poisson_upper(3), 7.7537);
    }

    #[test]
    fn none_of_none_is_nothing() {
        assert_eq!(Share::default().value(), None);
        assert_eq!(Share::default().bounds(), (0.0, 1.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let mut values = [4.0, 1.0, 3.0, 2.0];

        assert_eq!([0.5, 0.95, 1.0, 0.01].map(|share| quantile(&mut values, share)), [Some(2.0), Some(4.0), Some(4.0), Some(1.0)]);
    }

    #[test]
    fn a_curve_ends_where_all_are_called_abnormal() {
        let rows: Vec<(f32, bool)> = (0..10_000).map(|n| (n as f32, n % 3 == 0)).collect();

        let (roc, pr) = (curve(rows.clone(), true), curve(rows, false));

        assert!(roc.len() <= POINTS + 1 && roc.len() > POINTS / 2);
        assert_eq!((roc[0], *roc.last().unwrap(), pr.last().unwrap().0), ((0.0, 0.0), (1.0, 1.0), 1.0));
        assert!(curve(vec![(0.5, true)], true).is_empty());
    }

    #[test]
    fn areas_of_a_perfect_a_useless_and_a_middling_score() {
        let of = |rows: &[(f32, bool)]| areas(rows.to_vec());

        assert_eq!(of(&[(0.9, true), (0.8, true), (0.1, false)]), Some(Areas { roc: 1.0, pr: 1.0 }));
        assert_eq!(of(&[(0.5, true), (0.5, false)]), Some(Areas { roc: 0.5, pr: 0.5 }));
        // Hits at ranks 1 and 3.
        let middling = of(&[(0.9, true), (0.8, false), (0.7, true), (0.6, false)]).unwrap();
        near(middling.roc, 0.75);
        near(middling.pr, (1.0 + 2.0 / 3.0) / 2.0);
        assert_eq!(of(&[(0.9, true)]), None);
    }
}
