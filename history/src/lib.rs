//! The history of observations: a write-ahead log, sealed into Parquet, read as one SQL table.
//!
//! [`History::append`] returns once a batch is durable; [`History::session`] reads what is durable, sealed or not, each row once.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod bounds;
mod compact;
mod config;
mod dir;
mod error;
mod file_scan;
mod files;
mod footers;
mod gaps;
mod history;
mod log_scan;
mod manifest;
mod parquet_file;
mod protected;
mod recording;
mod retain;
mod rows;
mod schema;
mod seal;
mod session;
mod state;
mod statement;
mod subject;
mod table;
mod wal;

pub use batch::{StoredBatch, StoredVerdict};
pub use config::Config;
pub use error::HistoryError;
pub use history::{History, Receipt, Stats};
pub use protected::Protected;
pub use recording::{Recording, RecordingWriter, Tick, ship};
pub use schema::{GAPS_TABLE, OBSERVATIONS_TABLE, observation_schema};
pub use session::{Answer, QueryLimits};
pub use statement::check_statement;
pub use subject::Subject;
