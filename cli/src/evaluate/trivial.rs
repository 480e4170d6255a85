//! What any detector must beat: a z-score of every feature against all that its workload did before.

use std::collections::HashMap;

use vedette_proto::{Feature, Features, Observation};

use super::truth::Place;

/// Values of a feature that are waited for before it is scored.
const LEAST: u32 = 60;
/// Beyond it a row is called abnormal.
pub const Z: f32 = 4.0;

/// Mean and squared deviations so far (B. P. Welford, Technometrics 4, 1962).
#[derive(Clone, Copy, Default)]
struct Moments {
    count: u32,
    mean: f64,
    squares: f64,
}

/// The moments of every workload's features.
#[derive(Default)]
pub struct ZScores(HashMap<Place, [Moments; Feature::COUNT]>);

impl ZScores {
    /// The largest z-score of a row, which is learnt afterwards whatever it was.
    pub fn score(&mut self, place: &Place, row: &Observation) -> f32 {
        if !self.0.contains_key(place) {
            self.0.insert(place.clone(), [Moments::default(); Feature::COUNT]);
        }
        let Some(all) = self.0.get_mut(place) else { return 0.0 };
        let mut most = 0.0f64;
        for (moments, value) in all.iter_mut().zip(Features::of(row).values()).filter(|(_, value)| !value.is_nan()) {
            let off = f64::from(*value) - moments.mean;
            let spread = (moments.squares / f64::from(moments.count.max(1))).sqrt();
            if moments.count >= LEAST && spread > 0.0 {
                most = most.max(off.abs() / spread);
            }
            moments.count += 1;
            moments.mean += off / f64::from(moments.count);
            moments.squares += off * (f64::from(*value) - moments.mean);
        }
        most as f32
    }
}

#[cfg(test)]
mod tests {
    use vedette_proto::Column;

    use super::*;

    #[test]
    fn a_surge_stands_out_once_enough_was_seen() {
        let place = Place::default();
        let row = |pids: u64| {
            let mut row = Observation::default();
            row.set_if(Column::PidsCurrent, Some(pids));
            row
        };
        let mut scores = ZScores::default();

        let early = scores.score(&place, &row(900));
        for n in 0..200 {
            scores.score(&place, &row(10 + n % 3));
        }
        let usual = scores.score(&place, &row(11));
        let surge = scores.score(&place, &row(2_000));

        assert_eq!(early, 0.0);
        assert!(usual < 1.0 && surge > Z, "{usual} {surge}");
        assert_eq!(scores.score(&Place::default(), &Observation::default()), 0.0);
    }
}
