//! The result as JSON, for scripts.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::judge::Attack;

/// What `--report` writes; field names are a promise.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `live` or `replay`.
    pub mode: &'static str,
    /// Every attack.
    pub attacks: Vec<Attack>,
    /// Placebos that ran.
    pub placebos: usize,
    /// Incidents about nothing.
    pub false_incidents: usize,
    /// Containers alive times ticks, as the injector knows it.
    pub expected: u64,
    /// Container observations that the agent (or the player) made.
    pub observations: u64,
    /// Those that the aggregator acknowledged.
    pub acknowledged: u64,
    /// Those in history.
    pub stored: u64,
    /// Rows of the export in the seed's layout.
    pub exported_rows: u64,
}

impl Report {
    /// Writes it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
