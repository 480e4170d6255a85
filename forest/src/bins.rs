//! Every column cut into at most 255 bins of about equal numbers of rows: trees are grown over these.

use rayon::prelude::*;

use crate::Table;

/// The code of a missing value; those of the bins come after it.
pub const MISSING: u8 = 0;
/// Most cuts of a column: one bin more, and the code for missing.
const MAX_CUTS: usize = 254;

/// A table's codes.
pub struct Bins {
    columns: Vec<Column>,
}

/// One column.
pub struct Column {
    /// Ascending. A value belongs to the bin of the first cut that is not below it; beyond all of them to the last bin.
    cuts: Vec<f32>,
    /// The code of each row.
    pub codes: Vec<u8>,
}

impl Column {
    fn new(values: &[f32]) -> Self {
        let mut sorted: Vec<f32> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let cuts = cuts(&sorted);
        let code = |value: &f32| if value.is_nan() { MISSING } else { cuts.partition_point(|cut| cut < value) as u8 + 1 };
        let codes = values.iter().map(code).collect();
        Self { cuts, codes }
    }

    /// How many codes it has, [`MISSING`] among them.
    pub fn len(&self) -> usize {
        self.cuts.len() + 2
    }

    /// Whether all values that are known are the same: no split can be made of it.
    pub fn is_constant(&self) -> bool {
        self.cuts.is_empty()
    }

    /// The threshold that keeps the codes up to this one, and not the next, at or below it.
    pub fn threshold(&self, code: u8) -> f32 {
        self.cuts[usize::from(code) - 1]
    }
}

/// Cuts between sorted values, so that bins have about equal numbers of them.
fn cuts(sorted: &[f32]) -> Vec<f32> {
    let steps: Vec<usize> = (1..sorted.len()).filter(|&place| sorted[place - 1] < sorted[place]).collect();
    let mut cuts: Vec<f32> = Vec::with_capacity(steps.len().min(MAX_CUTS));
    let mut cut = |place: usize| {
        let between = between(sorted[place - 1], sorted[place]);
        if cuts.last().is_none_or(|last| *last < between) {
            cuts.push(between);
        }
    };
    if steps.len() <= MAX_CUTS {
        steps.into_iter().for_each(&mut cut);
    } else {
        for wanted in (1..=MAX_CUTS).map(|number| number * sorted.len() / (MAX_CUTS + 1)) {
            // The step at the wanted place, else the next one: a value that many rows have is a bin of its own.
            let step = steps.partition_point(|&step| step < wanted);
            steps.get(step).copied().into_iter().for_each(&mut cut);
        }
    }
    cuts
}

/// A number from `low` on and below `high`.
fn between(low: f32, high: f32) -> f32 {
    let middle = low * 0.5 + high * 0.5;
    if middle >= low && middle < high { middle } else { low }
}

impl Bins {
    /// Cuts every column of a table.
    pub fn new(table: &Table) -> Self {
        let column = |number| Column::new(&table.column(number).collect::<Vec<_>>());
        Self { columns: (0..table.columns()).into_par_iter().map(column).collect() }
    }

    /// The columns, in the table's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_values_are_a_bin_each() {
        let column = Column::new(&[3.0, 1.0, f32::NAN, 1.0, 2.0]);

        assert_eq!(column.codes, [3, 1, MISSING, 1, 2]);
        assert_eq!((column.threshold(1), column.threshold(2), column.len()), (1.5, 2.5, 4));
    }

    #[test]
    fn many_values_are_bins_of_about_equal_size() {
        let values: Vec<f32> = (0..100_000).map(|n| (n as f32).sqrt()).collect();

        let column = Column::new(&values);

        let mut sizes = [0usize; 256];
        column.codes.iter().for_each(|&code| sizes[usize::from(code)] += 1);
        assert_eq!((column.len(), sizes[0]), (256, 0));
        assert!(sizes[1..].iter().all(|size| (350..450).contains(size)), "{sizes:?}");
    }

    #[test]
    fn a_value_that_most_rows_have_is_a_bin_of_its_own() {
        let values: Vec<f32> = (0..10_000).map(|n| if n % 10 == 0 { n as f32 } else { 0.0 }).collect();

        let column = Column::new(&values);

        let of_zero = column.codes.iter().filter(|&&code| code == column.codes[1]).count();
        assert_eq!(of_zero, 9_001);
        assert!(column.len() > 20, "{}", column.len());
    }

    #[test]
    fn one_value_makes_no_split() {
        assert!(Column::new(&[1.0, f32::NAN, 1.0]).is_constant());
        assert!(Column::new(&[f32::NAN]).is_constant());
        assert!(!Column::new(&[1.0, f32::from_bits(1.0f32.to_bits() + 1)]).is_constant());
    }

    proptest! {
        #[test]
        fn a_threshold_parts_values_as_its_code_does(values in prop::collection::vec(-1e38f32..1e38, 1..400)) {
            let column = Column::new(&values);
            for code in (1..column.len() - 1).map(|code| code as u8) {
                for (value, of) in values.iter().zip(&column.codes) {
                    prop_assert_eq!(*value <= column.threshold(code), *of <= code);
                }
            }
        }
    }
}
