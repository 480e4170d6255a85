//! What scores are worth against labels: kept as two histograms, so that no number of rows is too many.

use crate::cell::Cell;
use crate::evaluate::stats::Areas;
use crate::output::{Column, Output};

/// Scores nearer to each other than one part of this count as equal.
const BINS: usize = 1 << 18;
/// Where no training row was abnormal, the threshold is what this share of them does not exceed.
const QUIET: f64 = 0.999;

/// How many rows had which score, by what they were.
#[derive(Default)]
pub struct Histogram {
    /// Normal and abnormal rows of each bin; empty until there is one.
    bins: Vec<[u64; 2]>,
}

impl Histogram {
    /// Counts a row.
    pub fn add(&mut self, score: f32, abnormal: bool) {
        if self.bins.is_empty() {
            self.bins.resize(BINS, [0; 2]);
        }
        self.bins[bin(score)][usize::from(abnormal)] += 1;
    }

    /// Normal and abnormal rows.
    fn totals(&self) -> [u64; 2] {
        self.bins.iter().fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    }

    /// Areas under the curves; `None` where all rows are of one side.
    fn areas(&self) -> Option<Areas> {
        let [normal, abnormal] = self.totals().map(|count| count as f64);
        if normal == 0.0 || abnormal == 0.0 {
            return None;
        }
        let (mut hits, mut alarms, mut areas) = (0.0, 0.0, Areas::default());
        for [of_others, of_it] in self.bins.iter().rev().map(|counts| counts.map(|count| count as f64)) {
            areas.roc += of_others * (hits + of_it / 2.0);
            hits += of_it;
            alarms += of_others;
            if of_it > 0.0 {
                areas.pr += of_it * hits / (hits + alarms);
            }
        }
        Some(Areas { roc: areas.roc / (normal * abnormal), pr: areas.pr / abnormal })
    }

    /// The bin from which on rows are called abnormal for the best F1, halfway to the next row below: to the row itself would be to the
    /// training rows' luck. `None` where none is abnormal.
    fn best(&self) -> Option<usize> {
        let [_, abnormal] = self.totals();
        let (mut hits, mut alarms) = (0, 0);
        let (mut best, mut from, mut to) = (0.0, None, 0);
        for (place, [of_others, of_it]) in self.bins.iter().enumerate().rev() {
            if of_others + of_it == 0 {
                if to == place + 1 {
                    to = place;
                }
                continue;
            }
            hits += of_it;
            alarms += of_others;
            let f1 = 2.0 * hits as f64 / (hits + alarms + abnormal) as f64;
            if f1 > best {
                (best, from, to) = (f1, Some(place), place);
            }
        }
        from.map(|from| from - (from - to) / 2)
    }

    /// The bin above that of the row that this share does not exceed.
    fn quiet(&self) -> usize {
        let totals = self.totals();
        let most = ((totals[0] + totals[1]) as f64 * QUIET).ceil() as u64;
        let mut seen = 0;
        let reached = |counts: &[u64; 2]| {
            seen += counts[0] + counts[1];
            seen >= most
        };
        self.bins.iter().position(reached).map_or(BINS - 1, |place| (place + 1).min(BINS - 1))
    }

    /// Hits, false alarms, misses and quiet rows where rows from this bin on are called abnormal.
    fn calls(&self, from: usize) -> [u64; 4] {
        let sum = |bins: &[[u64; 2]]| bins.iter().fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
        let (below, above) = self.bins.split_at(from.min(self.bins.len()));
        let ([quiet, missed], [alarms, hits]) = (sum(below), sum(above));
        [hits, alarms, missed, quiet]
    }
}

fn bin(score: f32) -> usize {
    ((f64::from(score) * BINS as f64) as usize).min(BINS - 1)
}

/// Figures of a labelled table.
pub struct Judged {
    threshold: f64,
    /// What the threshold was made of.
    made_of: &'static str,
    calls: [u64; 4],
    /// Areas under the curves; `None` where all judged rows are of one label.
    pub areas: Option<Areas>,
}

impl Judged {
    /// Sets the threshold by the training rows and judges it by the others; without training rows by these themselves, and says so.
    pub fn of(train: &Histogram, test: &Histogram) -> Self {
        let (place, made_of) = match (train.bins.is_empty(), train.best()) {
            (true, _) => (test.best().unwrap_or(BINS - 1), "the same rows: flatters"),
            (false, Some(place)) => (place, "training rows, best F1"),
            (false, None) => (train.quiet(), "training rows, 1 in 1,000 above"),
        };
        Self { threshold: place as f64 / BINS as f64, made_of, calls: test.calls(place), areas: test.areas() }
    }

    /// Prints them.
    pub fn print(&self, rows: u64, entities: usize, output: &mut Output) -> anyhow::Result<()> {
        let [hits, alarms, missed, quiet] = self.calls;
        let share = |part: u64, whole: u64| {
            if whole == 0 { Cell::Absent } else { Cell::Number((part as f64 / whole as f64 * 1e4).round() / 1e4) }
        };
        let area = |of: fn(&Areas) -> f64| self.areas.as_ref().map_or(Cell::Absent, |areas| Cell::Number((of(areas) * 1e4).round() / 1e4));
        let figures = [
            ("rows", "ROWS", Cell::Unsigned(rows)),
            ("entities", "ENTITIES", Cell::Unsigned(entities as u64)),
            ("judged", "JUDGED", Cell::Unsigned(hits + alarms + missed + quiet)),
            ("abnormal", "ABNORMAL", Cell::Unsigned(hits + missed)),
            ("roc_auc", "ROC-AUC", area(|areas| areas.roc)),
            ("pr_auc", "PR-AUC", area(|areas| areas.pr)),
            ("threshold", "THRESHOLD", Cell::Number((self.threshold * 1e6).round() / 1e6)),
            ("threshold_of", "OF", Cell::text(self.made_of)),
            ("f1", "F1", share(2 * hits, 2 * hits + alarms + missed)),
            ("precision", "PRECISION", share(hits, hits + alarms)),
            ("recall", "RECALL", share(hits, hits + missed)),
            ("false_positive_share", "FALSE", share(alarms, alarms + quiet)),
        ];
        let columns = figures.iter().map(|(name, header, _)| Column::both(name, header)).collect();
        let cells: Vec<Cell> = figures.into_iter().map(|(_, _, cell)| cell).collect();
        output.object(columns, &cells)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::stats::areas;

    fn histogram(rows: &[(f32, bool)]) -> Histogram {
        let mut histogram = Histogram::default();
        rows.iter().for_each(|(score, abnormal)| histogram.add(*score, *abnormal));
        histogram
    }

    #[test]
    fn areas_are_those_of_the_rows_themselves() {
        let rows: Vec<(f32, bool)> = (0..5_000).map(|n| ((n * 7_919 % 1_009) as f32 / 1_009.0, n * 31 % 100 < 7 + n % 9)).collect();

        let (of_bins, of_rows) = (histogram(&rows).areas().unwrap(), areas(rows).unwrap());

        assert!((of_bins.roc - of_rows.roc).abs() < 1e-9 && (of_bins.pr - of_rows.pr).abs() < 1e-9);
        assert_eq!(histogram(&[(0.5, true)]).areas(), None);
    }

    #[test]
    fn the_threshold_is_frozen_on_the_training_rows() {
        let train = histogram(&[(0.1, false), (0.2, false), (0.6, true), (0.7, true)]);
        let test = histogram(&[(0.1, false), (0.65, false), (0.9, true), (0.3, true)]);

        let judged = Judged::of(&train, &test);

        assert!((0.2..=0.6).contains(&judged.threshold), "{}", judged.threshold);
        assert_eq!(judged.calls, [1, 1, 1, 1]);
    }

    #[test]
    fn training_rows_that_are_all_normal_say_what_is_quiet() {
        let train = histogram(&(0..2_000).map(|n| (n as f32 / 4_000.0, false)).collect::<Vec<_>>());
        let test = histogram(&[(0.498, false), (0.51, true)]);

        assert_eq!(Judged::of(&train, &test).calls, [1, 0, 0, 1]);
    }
}
