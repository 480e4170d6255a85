//! `vedette` against an aggregator of the test.

use std::{
    ffi::OsStr,
    process::{Command, Output},
};

use anyhow::{Context, bail};

use crate::{aggregator::Aggregator, checkout};

/// The command with nothing of this machine's own configuration.
#[must_use]
pub fn command<S: AsRef<OsStr>>(aggregator: &Aggregator, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(checkout::binary("vedette"));
    command.env("VEDETTE_ENDPOINT", format!("https://{}", aggregator.grpc)).env("VEDETTE_DATA_DIR", aggregator.folder.join("data"));
    command.env("XDG_CONFIG_HOME", &aggregator.folder).env("NO_COLOR", "1").env_remove("RUST_BACKTRACE").args(arguments);
    command
}

/// Runs it to its end.
///
/// # Errors
/// Where it cannot be started.
pub fn run<S: AsRef<OsStr>>(aggregator: &Aggregator, arguments: impl IntoIterator<Item = S>) -> anyhow::Result<Output> {
    command(aggregator, arguments).output().context("cannot start vedette (cargo build --workspace --bins)")
}

/// Runs it, must succeed; its output as JSON, an object a line.
///
/// # Errors
/// What it said where it failed.
pub fn json_lines<S: AsRef<OsStr>>(
    aggregator: &Aggregator,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<Vec<serde_json::Value>> {
    let output = run(aggregator, arguments)?;
    if !output.status.success() {
        bail!("vedette failed ({}): {}\n{}", output.status, String::from_utf8_lossy(&output.stderr), aggregator.process.log());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}
