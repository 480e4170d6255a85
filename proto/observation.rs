//! One row of observations, and the checked conversion between rows and column blocks.

use crate::{
    columns::Column,
    v1::{self, ColumnBlock},
};

/// One container (or the node) over one interval: the integers of [`Column`], each present or absent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    values: [u64; Column::COUNT],
    present: u128,
}

impl Default for Observation {
    fn default() -> Self {
        Self { values: [0; Column::COUNT], present: 0 }
    }
}

impl std::fmt::Debug for Observation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(column, value)| (column.name(), value))).finish()
    }
}

impl Observation {
    /// The value of a column; `None` is "not observed", never 0.
    #[inline]
    #[must_use]
    pub fn get(&self, column: Column) -> Option<u64> {
        (self.present >> column as u8 & 1 == 1).then(|| self.values[column as usize])
    }

    /// Sets a column.
    #[inline]
    pub fn set(&mut self, column: Column, value: u64) {
        self.values[column as usize] = value;
        self.present |= 1 << column as u8;
    }

    /// Sets a column if there is a value, else leaves it absent.
    #[inline]
    pub fn set_if(&mut self, column: Column, value: Option<u64>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }

    /// The columns that have a value, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (Column, u64)> + '_ {
        Column::ALL.iter().filter_map(|&column| Some((column, self.get(column)?)))
    }

    /// Whether nothing was observed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// Growth per second of a delta column over the interval of its tier; `None` where either is absent or the interval is 0.
    #[inline]
    #[must_use]
    pub fn per_second(&self, column: Column) -> Option<f64> {
        use crate::columns::Tier;
        let interval = match column.tier() {
            Tier::Fast => Column::IntervalUs,
            Tier::Slow => Column::SlowIntervalUs,
            Tier::Rare => Column::RareIntervalUs,
        };
        let us = self.get(interval).filter(|&us| us > 0)?;
        Some(self.get(column)? as f64 * 1e6 / us as f64)
    }
}

/// The observations of one tick, by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Event time, Unix milliseconds.
    pub unix_ms: i64,
    /// The container of each row; 0 is the node.
    pub container_refs: Vec<u32>,
    /// The rows, as many as `container_refs`.
    pub rows: Vec<Observation>,
}

/// Why a column block is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// More rows than a node can have.
    #[error("block has {rows} rows, more than the limit of {limit}")]
    TooManyRows {
        /// Rows in the block.
        rows: usize,
        /// The limit.
        limit: usize,
    },
    /// A container stands in two rows.
    #[error("container reference {0} is in more than one row")]
    RepeatedContainer(u32),
    /// More columns than ids are sensible.
    #[error("block has {0} columns, more than the limit of {MAX_COLUMNS}")]
    TooManyColumns(usize),
    /// Columns out of order, or one twice.
    #[error("column {0} is repeated or out of order")]
    ColumnOrder(u32),
    /// The bitmap is neither empty nor as long as the rows need.
    #[error("column {column} has {bytes} bytes of presence for {rows} rows")]
    PresenceLength {
        /// Column id.
        column: u32,
        /// Bytes found.
        bytes: usize,
        /// Rows of the block.
        rows: usize,
    },
    /// Values do not match the bits set.
    #[error("column {column} has {values} values for {present} rows that have one")]
    ValueCount {
        /// Column id.
        column: u32,
        /// Values found.
        values: usize,
        /// Bits set.
        present: usize,
    },
    /// A value too large to be a count of anything; SQL's integers are signed.
    #[error("column {column} has the value {value}, beyond what a counter can grow")]
    ValueTooLarge {
        /// Column id.
        column: u32,
        /// The value.
        value: u64,
    },
}

/// Most columns that a block may carry, known or not: room for a future version.
pub const MAX_COLUMNS: usize = 512;

impl Block {
    /// Turns columns into rows, checking everything a peer could get wrong. Unknown columns are skipped.
    ///
    /// # Errors
    /// [`BlockError`] names the column and the count that is off.
    pub fn decode(wire: &ColumnBlock, max_rows: usize) -> Result<Self, BlockError> {
        let rows = wire.container_refs.len();
        if rows > max_rows {
            return Err(BlockError::TooManyRows { rows, limit: max_rows });
        }
        // Agents number containers upwards and send rows in that order; only a peer that does not pays for sorting.
        if !wire.container_refs.windows(2).all(|pair| pair[0] < pair[1]) {
            let mut sorted = wire.container_refs.clone();
            sorted.sort_unstable();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(BlockError::RepeatedContainer(pair[0]));
            }
        }
        if wire.columns.len() > MAX_COLUMNS {
            return Err(BlockError::TooManyColumns(wire.columns.len()));
        }
        let mut block =
            Self { unix_ms: wire.unix_ms, container_refs: wire.container_refs.clone(), rows: vec![Observation::default(); rows] };
        let mut previous = None;
        for column in &wire.columns {
            if previous.is_some_and(|previous| previous >= column.id) {
                return Err(BlockError::ColumnOrder(column.id));
            }
            previous = Some(column.id);
            block.decode_column(column)?;
        }
        Ok(block)
    }

    fn decode_column(&mut self, column: &v1::Column) -> Result<(), BlockError> {
        let rows = self.rows.len();
        let id = column.id;
        let present = if column.presence.is_empty() {
            rows
        } else {
            if column.presence.len() != rows.div_ceil(8) {
                return Err(BlockError::PresenceLength { column: id, bytes: column.presence.len(), rows });
            }
            let stray = !rows.is_multiple_of(8) && column.presence[rows / 8] >> (rows % 8) != 0;
            let set = column.presence.iter().map(|byte| byte.count_ones() as usize).sum();
            if stray {
                return Err(BlockError::ValueCount { column: id, values: column.values.len(), present: set });
            }
            set
        };
        if column.values.len() != present {
            return Err(BlockError::ValueCount { column: id, values: column.values.len(), present });
        }
        if let Some(&value) = column.values.iter().find(|&&value| value > i64::MAX as u64) {
            return Err(BlockError::ValueTooLarge { column: id, value });
        }
        let Some(known) = Column::from_id(id) else { return Ok(()) };
        if column.presence.is_empty() {
            for (row, &value) in self.rows.iter_mut().zip(&column.values) {
                row.set(known, value);
            }
        } else {
            let mut values = column.values.iter();
            for (byte_place, &byte) in column.presence.iter().enumerate() {
                let mut bits = byte;
                while bits != 0 {
                    let row = byte_place * 8 + bits.trailing_zeros() as usize;
                    if let Some(&value) = values.next() {
                        self.rows[row].set(known, value);
                    }
                    bits &= bits - 1;
                }
            }
        }
        Ok(())
    }

    /// Turns rows into columns; columns without any value are left out.
    #[must_use]
    pub fn encode(&self) -> ColumnBlock {
        let rows = self.rows.len();
        let union = self.rows.iter().fold(0u128, |union, row| union | row.present);
        let all = self.rows.iter().fold(u128::MAX, |all, row| all & row.present);
        let columns = Column::ALL
            .iter()
            .filter(|&&column| union >> column as u8 & 1 == 1)
            .map(|&column| {
                if all >> column as u8 & 1 == 1 {
                    let values = self.rows.iter().map(|row| row.values[column as usize]).collect();
                    return v1::Column { id: column.id(), presence: Vec::new(), values };
                }
                let mut presence = vec![0u8; rows.div_ceil(8)];
                let mut values = Vec::new();
                for (place, row) in self.rows.iter().enumerate() {
                    if let Some(value) = row.get(column) {
                        presence[place / 8] |= 1 << (place % 8);
                        values.push(value);
                    }
                }
                v1::Column { id: column.id(), presence, values }
            })
            .collect();
        ColumnBlock { unix_ms: self.unix_ms, container_refs: self.container_refs.clone(), columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_observation() -> impl Strategy<Value = Observation> {
        prop::collection::vec((0..Column::COUNT, 0..=i64::MAX as u64), 0..40).prop_map(|pairs| {
            let mut row = Observation::default();
            for (place, value) in pairs {
                row.set(Column::ALL[place], value);
            }
            row
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same_rows(rows in prop::collection::vec(any_observation(), 0..70)) {
            let container_refs = (0..rows.len() as u32).collect();
            let block = Block { unix_ms: 1_700_000_000_000, container_refs, rows };

            let decoded = Block::decode(&block.encode(), 100);

            prop_assert_eq!(decoded, Ok(block));
        }

        #[test]
        fn no_block_makes_decoding_panic(
            refs in prop::collection::vec(any::<u32>(), 0..20),
            columns in prop::collection::vec(
                (any::<u32>(), prop::collection::vec(any::<u8>(), 0..4), prop::collection::vec(any::<u64>(), 0..24)), 0..6),
        ) {
            let columns = columns.into_iter().map(|(id, presence, values)| v1::Column { id: id % 100, presence, values }).collect();
            let wire = ColumnBlock { unix_ms: 0, container_refs: refs, columns };

            if let Ok(block) = Block::decode(&wire, 16) {
                prop_assert_eq!(block.rows.len(), wire.container_refs.len());
            }
        }
    }

    #[test]
    fn an_unknown_column_is_skipped_and_the_rest_kept() {
        let wire = ColumnBlock {
            unix_ms: 1,
            container_refs: vec![5],
            columns: vec![
                v1::Column { id: 2, presence: vec![], values: vec![7] },
                v1::Column { id: 9_999, presence: vec![], values: vec![1] },
            ],
        };

        let block = Block::decode(&wire, 10).expect("valid");

        assert_eq!(block.rows[0].iter().collect::<Vec<_>>(), [(Column::CpuUsageUs, 7)]);
    }

    #[test]
    fn a_container_in_two_rows_is_refused() {
        let wire = ColumnBlock { unix_ms: 1, container_refs: vec![5, 3, 5], columns: vec![] };

        assert_eq!(Block::decode(&wire, 10), Err(BlockError::RepeatedContainer(5)));
    }
}
