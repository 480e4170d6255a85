//! When the next request is due: steady, by the time of day, in bursts, or rising.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Longest sleep without looking at a changing rate again.
const GLANCE: Duration = Duration::from_millis(100);

/// How a rate changes over time.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Always the rate, evenly spaced within a fifth
    Steady,
    /// A sine over the period around the rate, exponential gaps
    Diurnal,
    /// The rate, and once per period at a random time a burst of it, exponential gaps
    Bursty,
    /// Rises to the rate over the period and stays, evenly spaced
    Ramp,
}

/// A shape and its figures.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PaceArgs {
    /// How the rate changes over time
    #[arg(long, value_enum, default_value_t = Shape::Steady)]
    shape: Shape,
    /// Seconds of a day (diurnal), between two bursts (bursty), or of the rise (ramp)
    #[arg(long, default_value_t = 600)]
    period_seconds: u32,
    /// Diurnal: where in the day it begins, percent of the period; 0 is the mean and rising, 25 the peak, 75 the trough
    #[arg(long, default_value_t = 0)]
    phase_pct: u32,
    /// Diurnal: distance of peak and trough from the mean, percent of it, at most 100
    #[arg(long, default_value_t = 60)]
    amplitude_pct: u32,
    /// Bursty: the rate in a burst, as a multiple of the rate
    #[arg(long, default_value_t = 4)]
    burst_factor: u32,
    /// Bursty: length of a burst
    #[arg(long, default_value_t = 5)]
    burst_seconds: u32,
    /// Ramp: the share of the rate that it begins with, percent
    #[arg(long, default_value_t = 5)]
    from_pct: u32,
}

impl PaceArgs {
    /// The rate after this long, as a multiple of the rate asked for.
    pub(super) fn factor(&self, elapsed: Duration) -> f64 {
        let period = f64::from(self.period_seconds.max(1));
        let place = elapsed.as_secs_f64() / period;
        match self.shape {
            Shape::Steady => 1.0,
            Shape::Diurnal => {
                let angle = (place + f64::from(self.phase_pct) / 100.0) * std::f64::consts::TAU;
                1.0 + f64::from(self.amplitude_pct.min(100)) / 100.0 * angle.sin()
            }
            Shape::Bursty => {
                let length = f64::from(self.burst_seconds).min(period) / period;
                // The same for all connections of a program, other for every period.
                let begin = StdRng::seed_from_u64(place as u64).random_range(0.0..=1.0 - length);
                let inside = (begin..begin + length).contains(&place.fract());
                if inside { f64::from(self.burst_factor) } else { 1.0 }
            }
            Shape::Ramp => {
                let from = f64::from(self.from_pct.min(100)) / 100.0;
                from + (1.0 - from) * place.min(1.0)
            }
        }
    }

    const fn changes(&self) -> bool {
        !matches!(self.shape, Shape::Steady)
    }

    /// Gaps between two requests, as multiples of the mean one.
    fn gap(&self) -> f64 {
        match self.shape {
            Shape::Steady | Shape::Ramp => rand::random_range(0.8..1.2),
            Shape::Diurnal | Shape::Bursty => exponential(),
        }
    }
}

/// A gap of a Poisson process of rate 1, at most 10.
pub(super) fn exponential() -> f64 {
    let uniform: f64 = rand::random();
    (-(1.0 - uniform).ln()).min(10.0)
}

/// Tells one of several connections when its next request is due.
pub(super) struct Pacer {
    pace: PaceArgs,
    /// Requests per second of this connection where the factor is 1.
    rate: f64,
    /// Most requests per second of this connection, whatever the factor.
    most: f64,
    began: Instant,
    asked: Instant,
}

impl Pacer {
    /// A connection's share of `rate` requests per second over `connections`; bursts stay below `most` in all.
    pub(super) fn new(pace: PaceArgs, rate: u32, most: u32, connections: u32, began: Instant) -> Self {
        let share = |rate: u32| f64::from(rate) / f64::from(connections);
        Self { pace, rate: share(rate.clamp(1, most)), most: share(most), began, asked: Instant::now() }
    }

    /// Waits until the next request is due. Time since the last one counts, what was missed is not made up for.
    pub(super) async fn due(&mut self) {
        let mut owed = self.pace.gap();
        let mut accounted = self.asked;
        loop {
            let now = Instant::now();
            let rate = (self.rate * self.pace.factor(now - self.began)).min(self.most);
            owed -= (now - accounted).as_secs_f64() * rate;
            accounted = now;
            if owed <= 0.0 {
                self.asked = now;
                return;
            }
            // A rate of nothing ends by a look at it, not by a division.
            let wait = Duration::from_secs_f64((owed / rate.max(1e-3)).min(600.0));
            tokio::time::sleep(if self.pace.changes() { wait.min(GLANCE) } else { wait }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(shape: Shape) -> PaceArgs {
        PaceArgs { shape, period_seconds: 100, phase_pct: 0, amplitude_pct: 60, burst_factor: 4, burst_seconds: 10, from_pct: 10 }
    }

    fn factors(shape: Shape) -> Vec<f64> {
        (0..1_000).map(|second| pace(shape).factor(Duration::from_secs(second))).collect()
    }

    #[test]
    fn a_day_has_a_peak_a_trough_and_a_mean() {
        let factors = factors(Shape::Diurnal);

        assert!((factors[25] - 1.6).abs() < 1e-6 && (factors[75] - 0.4).abs() < 1e-6);
        assert!((factors.iter().sum::<f64>() / 1_000.0 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn every_period_has_one_burst_at_another_time() {
        let factors = factors(Shape::Bursty);

        let begins: Vec<_> = factors.chunks(100).map(|period| period.iter().position(|&factor| factor > 1.0).unwrap()).collect();
        assert!(factors.chunks(100).all(|period| (9..=11).contains(&period.iter().filter(|&&factor| factor == 4.0).count())));
        assert!(begins.iter().any(|&begin| begin != begins[0]), "{begins:?}");
    }

    #[test]
    fn a_ramp_rises_and_stays() {
        let factors = factors(Shape::Ramp);

        assert!((factors[0] - 0.1).abs() < 1e-6 && (factors[50] - 0.55).abs() < 1e-6);
        assert!(factors[100..].iter().all(|&factor| factor == 1.0));
    }

    #[test]
    fn gaps_have_a_mean_of_one() {
        let mean = (0..20_000).map(|_| exponential()).sum::<f64>() / 20_000.0;

        assert!((0.95..1.05).contains(&mean), "{mean}");
    }
}
