//! The history of observations: a write-ahead log, sealed into Parquet, read as one SQL table.
//!
//! [`History::append`] returns once a batch is durable; [`History::session`] reads what is durable, sealed or not, each row once.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod bounds;
mod config;
mod dir;
mod error;
mod files;
mod history;
mod log_scan;
mod rows;
mod schema;
mod state;
mod subject;
mod table;
mod wal;

pub use batch::{StoredBatch, StoredVerdict};
pub use config::Config;
pub use error::HistoryError;
pub use history::{History, Protected, Receipt, Stats};
pub use schema::{observation_schema, GAPS_TABLE, OBSERVATIONS_TABLE};
pub use subject::Subject;
