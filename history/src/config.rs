//! Where history lives, how soon it is durable and sealed, and how long it stays.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Configuration of the history. Durations are in whole units named by the field, so that the file needs no duration syntax.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Directory that holds everything; made when it is not there.
    pub dir: PathBuf,
    /// A segment of the log is sealed into Parquet once it has this many rows.
    pub seal_rows: u64,
    /// ... or once its first row is this many seconds old.
    pub seal_after_seconds: u64,
    /// Observations older than this many days go, except protected ones; replayed ones count from when they were stored.
    pub retention_days: u64,
    /// Sealed bytes beyond this make the oldest observations go, except protected ones.
    pub retention_bytes: u64,
    /// Of these bytes replays may have at most so many per cent; beyond it those stored first go.
    pub retention_replay_percent: u32,
    /// Appends within this many milliseconds share one fdatasync.
    pub commit_interval_ms: u64,
    /// Memory that one query may use, in bytes; beyond it the query fails.
    pub query_memory_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/vedette/history"),
            seal_rows: 131_072,
            seal_after_seconds: 600,
            retention_days: 14,
            retention_bytes: 20 << 30,
            retention_replay_percent: 25,
            commit_interval_ms: 10,
            query_memory_bytes: 256 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_named() {
        let error = toml::from_str::<Config>("retention_day = 3").unwrap_err().to_string();

        assert!(error.contains("retention_day") && error.contains("retention_days"), "{error}");
        assert_eq!(toml::from_str::<Config>("retention_days = 3").unwrap(), Config { retention_days: 3, ..Config::default() });
    }
}
