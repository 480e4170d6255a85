//! Training: all trees in parallel, each with a seed of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::{SeedableRng, rngs::StdRng};
use rayon::prelude::*;

use crate::{Forest, Table, TableError, bins::Bins, grow::Grower, table::Sampler};

/// Deepest trees: a tree's nodes are then named by 16 bits with room to spare.
const MAX_DEPTH: u32 = 12;
/// Most draws of the first class for one of another.
const MAX_DRAWS: usize = 64;
/// Most trees.
const MAX_TREES: usize = 1_000;

/// How a forest is grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Trees.
    pub trees: usize,
    /// Most splits from the root to a leaf.
    pub max_depth: u32,
    /// Least rows of a leaf, copies of a sample counted.
    pub min_leaf: u32,
    /// Columns that a split chooses from.
    pub columns_per_split: usize,
    /// How often class 0 is drawn for every time that another is: more than once where it is what is ordinary, and much more various than
    /// any other.
    pub first_class_draws: usize,
    /// All that is random comes from it.
    pub seed: u64,
}

impl Config {
    /// What serves tables of so many columns: 100 trees of at most 12 splits, leaves of at least 5 rows, the square root of the columns a split,
    /// every class drawn as often.
    #[must_use]
    pub fn of(columns: usize, seed: u64) -> Self {
        Self { trees: 100, max_depth: MAX_DEPTH, min_leaf: 5, columns_per_split: columns.isqrt().max(1), first_class_draws: 1, seed }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, value, least, most| Err(ConfigError { key, value, least, most });
        if !(1..=MAX_TREES).contains(&self.trees) {
            return bad("trees", self.trees, 1, MAX_TREES);
        }
        if !(1..=MAX_DEPTH).contains(&self.max_depth) {
            return bad("max_depth", self.max_depth as usize, 1, MAX_DEPTH as usize);
        }
        if self.min_leaf == 0 {
            return bad("min_leaf", 0, 1, u32::MAX as usize);
        }
        if self.columns_per_split == 0 {
            return bad("columns_per_split", 0, 1, crate::MAX_COLUMNS);
        }
        if !(1..=MAX_DRAWS).contains(&self.first_class_draws) {
            return bad("first_class_draws", self.first_class_draws, 1, MAX_DRAWS);
        }
        Ok(())
    }
}

/// A value is out of its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}, must be between {least} and {most}")]
pub struct ConfigError {
    key: &'static str,
    value: usize,
    least: usize,
    most: usize,
}

/// Why nothing is grown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// Grows a forest; `grown` hears how many trees there are, from any thread.
///
/// Source: L. Breiman, "Random Forests", Machine Learning 45 (2001), over histograms of at most 255 bins a column.
///
/// # Errors
/// [`TrainError`]: a value out of bounds, or fewer than two classes.
pub fn train(table: &Table, config: &Config, grown: &(dyn Fn(usize) + Sync)) -> Result<Forest, TrainError> {
    config.check()?;
    let sampler = Sampler::new(table, config.first_class_draws)?;
    let bins = Bins::new(table);
    let done = AtomicUsize::new(0);
    let grower = || Grower::new(&bins, table.classes(), table.class_count(), config);
    let tree = |grower: &mut Grower<'_>, number: usize| {
        let tree = grower.grow(&sampler, &mut StdRng::seed_from_u64(seed_of(config.seed, number as u64)));
        grown(done.fetch_add(1, Ordering::Relaxed) + 1);
        tree
    };
    let trees: Vec<_> = (0..config.trees).into_par_iter().map_init(grower, tree).collect();
    Ok(Forest::new(table.columns(), table.class_count(), &trees).expect("what was grown is a forest"))
}

/// SplitMix64: neighbouring trees have seeds that have nothing in common.
fn seed_of(seed: u64, tree: u64) -> u64 {
    let mut mixed = seed.wrapping_add(tree.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
