//! Rows to learn from: features, a class each, and the episode that each is part of.

use std::collections::BTreeMap;

/// Most columns of a table: a split names its column in a byte, and a row in scoring has its place for each.
pub const MAX_COLUMNS: usize = 64;
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

    /// Adds a row. Rows of one class and one `episode` share a weight: a long episode says no more than a short one.
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

    /// One column.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = f32> {
        self.values.iter().skip(column).step_by(self.columns).copied()
    }

    /// A weight for each row, 1 on average: every class weighs the same, within it every episode, within that every row.
    pub(crate) fn weights(&self) -> Result<Vec<f32>, TableError> {
        let mut rows: BTreeMap<(u8, u32), usize> = BTreeMap::new();
        let keys = || self.classes.iter().copied().zip(self.episodes.iter().copied());
        keys().for_each(|key| *rows.entry(key).or_default() += 1);
        let mut episodes = [0usize; MAX_CLASSES];
        rows.keys().for_each(|(class, _)| episodes[usize::from(*class)] += 1);
        let present = episodes.iter().filter(|&&count| count > 0).count();
        if present < 2 {
            return Err(TableError::OneClass(self.len()));
        }
        let each = self.len() as f64 / present as f64;
        Ok(keys().map(|key| (each / (episodes[usize::from(key.0)] * rows[&key]) as f64) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_every_episode_weighs_the_same() {
        let mut table = Table::new(1, 3).unwrap();
        for (class, episode, rows) in [(0, 1, 6), (0, 2, 2), (2, 1, 2)] {
            (0..rows).for_each(|_| table.push(&[0.0], class, episode).unwrap());
        }

        let weights = table.weights().unwrap();

        let sum = |rows: std::ops::Range<usize>| weights[rows].iter().sum::<f32>();
        assert!((sum(0..10) - 10.0).abs() < 1e-5);
        assert!((sum(0..8) - sum(8..10)).abs() < 1e-5, "classes");
        assert!((sum(0..6) - sum(6..8)).abs() < 1e-5, "episodes");
    }

    #[test]
    fn what_is_no_row_is_refused_by_its_number() {
        let mut table = Table::new(2, 2).unwrap();
        table.push(&[1.0, f32::NAN], 1, 0).unwrap();

        assert_eq!(table.push(&[1.0], 0, 0), Err(TableError::Width { row: 1, found: 1, columns: 2 }));
        assert_eq!(table.push(&[1.0, 1.0], 2, 0), Err(TableError::Class { row: 1, class: 2, classes: 2 }));
        assert_eq!(table.push(&[1.0, f32::INFINITY], 0, 0), Err(TableError::Infinite { row: 1, column: 1 }));
        assert_eq!(table.len(), 1);
        assert_eq!(table.weights(), Err(TableError::OneClass(1)));
    }

    #[test]
    fn a_table_that_no_forest_can_hold_is_refused() {
        assert_eq!(Table::new(0, 2).unwrap_err(), TableError::Columns(0));
        assert_eq!(Table::new(65, 2).unwrap_err(), TableError::Columns(65));
        assert_eq!(Table::new(1, 1).unwrap_err(), TableError::Classes(1));
        assert_eq!(Table::new(1, 17).unwrap_err(), TableError::Classes(17));
    }
}
