//! Raw counters of one container, pod or node at one instant. A sample never leaves the agent.

use vedette_proto::{Column, Tier};

/// What was read, by column: a counter's total where the column is its growth, the level itself where it is a level.
#[derive(Clone, Copy)]
pub struct Sample {
    values: [u64; Column::COUNT],
    present: u128,
    /// When each tier was last read, in microseconds of a monotonic clock, by [`Tier`].
    at_us: [Option<u64>; 3],
}

impl Default for Sample {
    fn default() -> Self {
        Self { values: [0; Column::COUNT], present: 0, at_us: [None; 3] }
    }
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(column, value)| (column.name(), value))).finish()
    }
}

impl Sample {
    /// The reading of a column; `None` is "not read".
    #[inline]
    #[must_use]
    pub fn get(&self, column: Column) -> Option<u64> {
        (self.present >> column as u8 & 1 == 1).then(|| self.values[column as usize])
    }

    /// Sets a reading.
    #[inline]
    pub fn set(&mut self, column: Column, value: u64) {
        self.values[column as usize] = value;
        self.present |= 1 << column as u8;
    }

    /// Sets a reading if there is one.
    #[inline]
    pub fn set_if(&mut self, column: Column, value: Option<u64>) {
        if let Some(value) = value {
            self.set(column, value);
        }
    }

    /// Forgets a reading.
    pub fn clear(&mut self, column: Column) {
        self.present &= !(1 << column as u8);
    }

    /// The columns that were read.
    pub fn iter(&self) -> impl Iterator<Item = (Column, u64)> + '_ {
        let mut bits = self.present;
        std::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let place = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            Some((Column::ALL[place], self.values[place]))
        })
    }

    /// When a tier was last read.
    #[must_use]
    pub fn at_us(&self, tier: Tier) -> Option<u64> {
        self.at_us[tier as usize]
    }

    /// Says that a tier was read now.
    pub fn read_at(&mut self, tier: Tier, now_us: u64) {
        self.at_us[tier as usize] = Some(now_us);
    }

    /// Takes over what a newer sample holds and keeps the rest: slow counters outlive the fast ticks between.
    pub fn update(&mut self, newer: &Self) {
        for (column, value) in newer.iter() {
            self.set(column, value);
        }
        for (mine, theirs) in self.at_us.iter_mut().zip(newer.at_us) {
            *mine = theirs.or(*mine);
        }
    }

    /// Everything a container's own counters said before it existed: zero.
    #[must_use]
    pub fn before_birth(fast_us: Option<u64>, slow_us: Option<u64>) -> Self {
        let mut sample = Self { at_us: [fast_us, slow_us, slow_us], ..Self::default() };
        for &column in Column::ALL {
            if column.scope() == vedette_proto::Scope::Container && column.reading() == vedette_proto::Reading::Delta {
                sample.set(column, 0);
            }
        }
        sample
    }
}
