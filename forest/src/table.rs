//! Rows to learn from: features, a class each, and the episode that each is part of.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::StdRng};

/// Most columns of a table: a split names its column in a byte, and a row in scoring has its place for each.
pub const MAX_COLUMNS: usize = 255;
/// Most classes: there are a dozen kinds.
pub const MAX_CLASSES: usize = 16;

/// Why a table or a row of it is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Columns.
    #[error("a table has 1 to {MAX_COLUMNS} columns, not {0}")]
    Columns(usize),
    /// Classes.
    #[error("a table has 2 to {MAX_CLASSES} classes, not {0}")]
    Classes(usize),
    /// A row is longer or shorter than the table is wide.
    #[error("row {row} has {found} values, the table has {columns} columns")]
    Width {
        /// Its number.
        row: usize,
        /// Its values.
        found: usize,
        /// What they should be.
        columns: usize,
    },
    /// A row's class is none of the table's.
    #[error("row {row} is of class {class}, the table has {classes}")]
    Class {
        /// Its number.
        row: usize,
        /// Its class.
        class: u8,
        /// How many there are.
        classes: usize,
    },
    /// Infinite; missing is NaN.
    #[error("row {row}, column {column}: the value is infinite")]
    Infinite {
        /// The row's number.
        row: usize,
        /// The column's.
        column: usize,
    },
    /// There is nothing to tell apart.
    #[error("all {0} rows are of one class")]
    OneClass(usize),
}

/// The rows.
#[derive(Clone, Debug)]
pub struct Table {
    columns: usize,
    class_count: usize,
    /// Row by row.
    values: Vec<f32>,
    classes: Vec<u8>,
    episodes: Vec<u32>,
}

impl Table {
    /// An empty table.
    ///
    /// # Errors
    /// [`TableError::Columns`] or [`TableError::Classes`].
    pub fn new(columns: usize, classes: usize) -> Result<Self, TableError> {
        if !(1..=MAX_COLUMNS).contains(&columns) {
            return Err(TableError::Columns(columns));
        }
        if !(2..=MAX_CLASSES).contains(&classes) {
            return Err(TableError::Classes(classes));
        }
        Ok(Self { columns, class_count: classes, values: Vec::new(), classes: Vec::new(), episodes: Vec::new() })
    }

    /// Adds a row. Rows of one class and one `episode` belong together: a long episode says no more than a short one.
    ///
    /// # Errors
    /// [`TableError`] names the row; the table is as before.
    pub fn push(&mut self, row: &[f32], class: u8, episode: u32) -> Result<(), TableError> {
        let number = self.classes.len();
        if row.len() != self.columns {
            return Err(TableError::Width { row: number, found: row.len(), columns: self.columns });
        }
        if usize::from(class) >= self.class_count {
            return Err(TableError::Class { row: number, class, classes: self.class_count });
        }
        if let Some(column) = row.iter().position(|value| value.is_infinite()) {
            return Err(TableError::Infinite { row: number, column });
        }
        self.values.extend_from_slice(row);
        self.classes.push(class);
        self.episodes.push(episode);
        Ok(())
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// How many columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How many classes, with or without rows.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// The class of each row.
    #[must_use]
    pub fn classes(&self) -> &[u8] {
        &self.classes
    }

    /// All values, row by row.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// A weight for each row: the rows of an episode weigh 1 together, for they are not independent of each other.
    pub(crate) fn episode_weights(&self) -> Vec<f32> {
        let mut rows: BTreeMap<(u8, u32), usize> = BTreeMap::new();
        let keys = || self.classes.iter().copied().zip(self.episodes.iter().copied());
        keys().for_each(|key| *rows.entry(key).or_default() += 1);
        keys().map(|key| 1.0 / rows[&key] as f32).collect()
    }

    /// One column.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = f32> {
        self.values.iter().skip(column).step_by(self.columns).copied()
    }
}

/// Draws samples in which every class has as many rows as any other, the first a multiple of them, and within it every episode about as many.
pub(crate) struct Sampler {
    /// Of each class that has rows: how many are drawn, and its episodes' rows.
    classes: Vec<(usize, Vec<Vec<u32>>)>,
}

/// Rows of each class in a sample, at least: copies of few rows are better than a tree of few rows.
const LEAST_PER_CLASS: usize = 256;
/// A sample has at most so many rows of a class for each row of the smallest one. More would drown it: leaves of a deep tree get pure,
/// and whatever a rare row was worth, an unseen one would fall among the common ones. Source: C. Chen, A. Liaw, L. Breiman, "Using Random
/// Forest to Learn Imbalanced Data" (2004), balanced random forest.
const MOST_PER_RARE: usize = 4;

impl Sampler {
    /// For a table, whose class 0 is drawn so many times as often as each other one.
    ///
    /// # Errors
    /// [`TableError::OneClass`].
    pub fn new(table: &Table, first_class_draws: usize) -> Result<Self, TableError> {
        let mut rows: BTreeMap<u8, BTreeMap<u32, Vec<u32>>> = BTreeMap::new();
        for (row, (&class, &episode)) in table.classes.iter().zip(&table.episodes).enumerate() {
            rows.entry(class).or_default().entry(episode).or_default().push(row as u32);
        }
        if rows.len() < 2 {
            return Err(TableError::OneClass(table.len()));
        }
        let smallest = rows.values().map(|episodes| episodes.values().map(Vec::len).sum()).min().unwrap_or(0);
        let per_class = (smallest * MOST_PER_RARE).min(table.len() / rows.len()).max(LEAST_PER_CLASS);
        let draws = |class: u8| per_class * if class == 0 { first_class_draws } else { 1 };
        Ok(Self { classes: rows.into_iter().map(|(class, episodes)| (draws(class), episodes.into_values().collect())).collect() })
    }

    /// How often each row is in a sample, drawn with replacement.
    pub fn draw(&self, copies: &mut [u16], rng: &mut StdRng) {
        copies.fill(0);
        for (draws, episodes) in &self.classes {
            for _ in 0..*draws {
                let rows = &episodes[rng.random_range(0..episodes.len())];
                let copies = &mut copies[rows[rng.random_range(0..rows.len())] as usize];
                *copies = copies.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_class_and_every_episode_is_drawn_as_often() {
        let mut table = Table::new(1, 3).unwrap();
        for (class, episode, rows) in [(0, 1, 6_000), (0, 2, 2_000), (2, 1, 500)] {
            (0..rows).for_each(|_| table.push(&[0.0], class, episode).unwrap());
        }
        let mut copies = vec![0; table.len()];

        Sampler::new(&table, 1).unwrap().draw(&mut copies, &mut StdRng::seed_from_u64(1));

        let sum = |rows: std::ops::Range<usize>| copies[rows].iter().map(|copies| usize::from(*copies)).sum::<usize>();
        assert_eq!((sum(0..8_000), sum(8_000..8_500)), (2_000, 2_000));
        assert!((900..1_100).contains(&sum(0..6_000)), "{}", sum(0..6_000));

        Sampler::new(&table, 4).unwrap().draw(&mut copies, &mut StdRng::seed_from_u64(1));

        let sum = |rows: std::ops::Range<usize>| copies[rows].iter().map(|copies| usize::from(*copies)).sum::<usize>();
        assert_eq!((sum(0..8_000), sum(8_000..8_500)), (8_000, 2_000));
    }

    #[test]
    fn classes_of_one_size_are_drawn_as_often_as_they_have_rows() {
        let mut table = Table::new(1, 2).unwrap();
        (0..2_000).for_each(|row| table.push(&[0.0], (row % 2) as u8, row / 100).unwrap());

        assert!(Sampler::new(&table, 1).unwrap().classes.iter().all(|(draws, _)| *draws == 1_000));
    }

    #[test]
    fn what_is_no_row_is_refused_by_its_number() {
        let mut table = Table::new(2, 2).unwrap();
        table.push(&[1.0, f32::NAN], 1, 0).unwrap();

        assert_eq!(table.push(&[1.0], 0, 0), Err(TableError::Width { row: 1, found: 1, columns: 2 }));
        assert_eq!(table.push(&[1.0, 1.0], 2, 0), Err(TableError::Class { row: 1, class: 2, classes: 2 }));
        assert_eq!(table.push(&[1.0, f32::INFINITY], 0, 0), Err(TableError::Infinite { row: 1, column: 1 }));
        assert_eq!(table.len(), 1);
        assert_eq!(Sampler::new(&table, 1).err(), Some(TableError::OneClass(1)));
    }

    #[test]
    fn a_table_that_no_forest_can_hold_is_refused() {
        assert_eq!(Table::new(0, 2).unwrap_err(), TableError::Columns(0));
        assert_eq!(Table::new(256, 2).unwrap_err(), TableError::Columns(256));
        assert_eq!(Table::new(1, 1).unwrap_err(), TableError::Classes(1));
        assert_eq!(Table::new(1, 17).unwrap_err(), TableError::Classes(17));
    }
}
