//! Random forests: rows of features become trees over histograms (`grow`), trees become one flat [`Forest`] that scores in batches.
//!
//! Nothing here knows what a feature or a class means. Equal tables, configurations and seeds give equal forests, whatever the number of
//! threads. A missing value is NaN, and never decides a split: where a split's column is missing, a row goes where most rows went.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod table;

mod bins;
mod grow;
mod train;

mod flat;
mod tree;

mod calibration;
mod file;
mod model;

pub use calibration::Curve;
pub use file::{FileError, MAX_BYTES};
pub use flat::{BATCH, Forest};
pub use model::{Description, Model, ModelError};
pub use table::{MAX_CLASSES, MAX_COLUMNS, Table, TableError};
pub use train::{Config, ConfigError, TrainError, train};
pub use tree::{Node, Tree, TreeError};
