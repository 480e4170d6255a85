//! `vedette demo`: the whole of Vedette on this machine, with simulated attacks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Flags of `vedette demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Leave aggregator and agent serving at the end, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Replay the recording even where a live run would be possible
    #[arg(long)]
    pub replay: bool,
    /// The recording to replay, instead of the one that comes with Vedette
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,
}

/// Runs the demonstration.
pub async fn run(_args: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demonstration is not built yet")
}
