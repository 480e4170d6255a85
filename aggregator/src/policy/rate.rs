//! Rates and shares with the intervals that hold the truth 95 times of 100.

use statrs::distribution::{Beta, ChiSquared, ContinuousCDF};
use vedette_proto::v1::Rate;

/// Of both ends together.
const ALPHA: f64 = 0.05;

/// So many in so many days, per week, with the exact Poisson interval (F. Garwood, Biometrika 28, 1936).
pub fn rate(count: u64, days: f64) -> Rate {
    let quantile = |events: u64, p: f64| match events {
        0 => 0.0,
        events => ChiSquared::new(2.0 * events as f64).map_or(f64::NAN, |chi| chi.inverse_cdf(p) / 2.0),
    };
    let per_week = |events: f64| (days > 0.0).then(|| events / days * 7.0);
    Rate {
        count,
        days,
        per_week: per_week(count as f64),
        low_per_week: per_week(quantile(count, ALPHA / 2.0)),
        high_per_week: per_week(quantile(count + 1, 1.0 - ALPHA / 2.0)),
    }
}

/// The exact interval of a share (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934); `None` of none.
pub fn share(hits: u64, of: u64) -> Option<(f64, f64)> {
    if of == 0 {
        return None;
    }
    let (hits_f, misses) = (hits as f64, (of - hits) as f64);
    let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
    let low = if hits == 0 { 0.0 } else { quantile(hits_f, misses + 1.0, ALPHA / 2.0) };
    let high = if hits == of { 1.0 } else { quantile(hits_f + 1.0, misses, 1.0 - ALPHA / 2.0) };
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: Option<f64>, b: f64) {
        assert!(a.is_some_and(|a| (a - b).abs() < 0.01), "{a:?} {b}");
    }

    #[test]
    fn rates_have_the_intervals_of_the_tables() {
        // Of 0 counted: 0 to 3.69; of 3: 0.62 to 8.77; of 10: 4.80 to 18.39.
        let week = |count| rate(count, 7.0);

        near(week(0).low_per_week, 0.0);
        near(week(0).high_per_week, 3.69);
        near(week(3).per_week, 3.0);
        near(week(3).low_per_week, 0.62);
        near(week(3).high_per_week, 8.77);
        near(rate(10, 14.0).low_per_week, 4.80 / 2.0);
        near(rate(10, 14.0).high_per_week, 18.39 / 2.0);
    }

    #[test]
    fn without_watching_there_is_no_rate() {
        assert_eq!(rate(0, 0.0).high_per_week, None);
    }

    #[test]
    fn shares_have_the_intervals_of_the_tables() {
        // 0 of 10: at most 0.3085; 1 of 20: 0.0013 to 0.2487.
        near(share(0, 10).map(|bounds| bounds.1), 0.3085);
        near(share(1, 20).map(|bounds| bounds.0), 0.0013);
        near(share(1, 20).map(|bounds| bounds.1), 0.2487);
        assert_eq!((share(4, 4).map(|bounds| bounds.1), share(0, 0)), (Some(1.0), None));
    }
}
