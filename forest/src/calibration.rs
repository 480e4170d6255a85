//! From what trees say on average to a probability: a curve for each class, fitted on rows that no tree has seen.

use serde::{Deserialize, Serialize};

/// Shares of 0 and 1 would be infinitely sure: a hundred trees are not.
const LEAST_SHARE: f64 = 0.002;
/// Newton steps; it takes about five.
const STEPS: usize = 50;
/// A step that changes neither number by more is the last.
const CLOSE: f64 = 1e-7;

/// One class's curve: the probability is `1 / (1 + exp(-(slope * logit(share) + offset)))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// How steep; 1 takes shares as they are.
    pub slope: f32,
    /// How far moved; 0 takes shares as they are.
    pub offset: f32,
}

impl Curve {
    /// Takes shares as they are.
    pub const STRAIGHT: Self = Self { slope: 1.0, offset: 0.0 };

    /// The probability for a share.
    #[must_use]
    pub fn at(self, share: f32) -> f32 {
        sigmoid(f64::from(self.slope) * logit(share) + f64::from(self.offset)) as f32
    }

    /// Fits the curve to rows: share, whether the row is of the class, and its weight. [`Curve::STRAIGHT`] where all rows are on one side.
    ///
    /// Source: J. Platt, "Probabilistic Outputs for Support Vector Machines" (1999), with the targets of its section 2.2; the step is Newton's,
    /// damped as in H.-T. Lin, C.-J. Lin, R. Weng (2007).
    #[must_use]
    pub fn fit(rows: &[(f32, bool, f32)]) -> Self {
        let weight_of = |side: bool| rows.iter().filter(|row| row.1 == side).map(|row| f64::from(row.2)).sum::<f64>();
        let (of_it, of_others) = (weight_of(true), weight_of(false));
        if of_it <= 0.0 || of_others <= 0.0 {
            return Self::STRAIGHT;
        }
        let (yes, no) = ((of_it + 1.0) / (of_it + 2.0), 1.0 / (of_others + 2.0));
        let loss = |slope: f64, offset: f64| -> f64 {
            let of_row = |&(share, is, weight): &(f32, bool, f32)| {
                let z = slope * logit(share) + offset;
                // log(1 + exp(-|z|)), without an exponential that overflows.
                let sure = z.max(0.0) + (-z.abs()).exp().ln_1p();
                f64::from(weight) * (sure - if is { yes } else { no } * z)
            };
            rows.iter().map(of_row).sum()
        };
        let (mut slope, mut offset) = (1.0, ((of_it + 1.0) / (of_others + 1.0)).ln());
        let mut now = loss(slope, offset);
        for _ in 0..STEPS {
            let (mut g, mut h) = ([0.0; 2], [1e-9, 0.0, 1e-9]);
            for &(share, is, weight) in rows {
                let (x, weight) = (logit(share), f64::from(weight));
                let p = sigmoid(slope * x + offset);
                let (error, bend) = (weight * (p - if is { yes } else { no }), weight * p * (1.0 - p));
                g = [g[0] + error * x, g[1] + error];
                h = [h[0] + bend * x * x, h[1] + bend * x, h[2] + bend];
            }
            let scale = h[0] * h[2] - h[1] * h[1];
            if scale <= 0.0 {
                break;
            }
            let step = [(h[1] * g[1] - h[2] * g[0]) / scale, (h[1] * g[0] - h[0] * g[1]) / scale];
            let mut part = 1.0;
            while part > 1e-6 && loss(slope + part * step[0], offset + part * step[1]) > now {
                part /= 2.0;
            }
            slope += part * step[0];
            offset += part * step[1];
            now = loss(slope, offset);
            if (part * step[0]).abs() < CLOSE && (part * step[1]).abs() < CLOSE {
                break;
            }
        }
        // A class whose shares say the opposite has not been learnt: its probability then says nothing but how common it is.
        Self { slope: slope.max(0.0) as f32, offset: offset as f32 }
    }

    /// Whether it is a curve at all.
    pub(crate) fn is_finite(self) -> bool {
        self.slope.is_finite() && self.offset.is_finite()
    }
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn logit(share: f32) -> f64 {
    let share = f64::from(share).clamp(LEAST_SHARE, 1.0 - LEAST_SHARE);
    (share / (1.0 - share)).ln()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// Rows whose class has this probability at their share.
    fn rows(count: usize, probability: impl Fn(f32) -> f32) -> Vec<(f32, bool, f32)> {
        let mut rng = StdRng::seed_from_u64(1);
        (0..count)
            .map(|_| {
                let share = rng.random_range(0.0..1.0f32);
                (share, rng.random_bool(f64::from(probability(share))), 1.0)
            })
            .collect()
    }

    #[test]
    fn shares_that_are_probabilities_stay_what_they_are() {
        let curve = Curve::fit(&rows(20_000, |share| share));

        for share in [0.1, 0.3, 0.5, 0.7, 0.9] {
            assert!((curve.at(share) - share).abs() < 0.02, "{share}: {}", curve.at(share));
        }
    }

    #[test]
    fn shares_that_are_too_timid_are_made_bolder() {
        // Between a quarter and three quarters it goes from never to always.
        let truth = |share: f32| ((share - 0.25) * 2.0).clamp(0.01, 0.99);

        let curve = Curve::fit(&rows(20_000, truth));

        for share in [0.3, 0.4, 0.5, 0.6, 0.7] {
            assert!((curve.at(share) - truth(share)).abs() < 0.06, "{share}: {} for {}", curve.at(share), truth(share));
        }
    }

    #[test]
    fn rows_of_weight_count_as_often_as_they_weigh() {
        let plain = rows(400, |share| share * share);
        let twice: Vec<_> = plain.iter().flat_map(|row| [*row, *row]).collect();
        let heavy: Vec<_> = plain.iter().map(|&(share, is, _)| (share, is, 2.0)).collect();

        let (of_twice, of_heavy) = (Curve::fit(&twice), Curve::fit(&heavy));

        assert!((of_twice.slope - of_heavy.slope).abs() < 1e-4 && (of_twice.offset - of_heavy.offset).abs() < 1e-4);
    }

    #[test]
    fn what_cannot_be_fitted_is_taken_as_it_is() {
        assert_eq!(Curve::fit(&[]), Curve::STRAIGHT);
        assert_eq!(Curve::fit(&[(0.5, true, 1.0), (0.9, true, 1.0)]), Curve::STRAIGHT);
        let opposite: Vec<_> = (0..100).map(|n| (n as f32 / 100.0, n < 50, 1.0)).collect();
        assert_eq!(Curve::fit(&opposite).slope, 0.0);
        assert!(Curve::fit(&[(0.0, false, 1.0), (1.0, true, 1.0)]).is_finite(), "parted without a doubt");
    }
}
