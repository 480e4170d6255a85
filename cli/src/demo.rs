//! `vedette demo`: the whole of Vedette on this machine, with simulated attacks. A demonstration, not evidence.

mod live;
mod replay;

pub(crate) mod schedule;

pub(crate) mod judge;

pub(crate) mod accounting;

mod show;

pub(crate) mod finish;

mod report;

mod recording;

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
    #[arg(long, value_name = "DIR")]
    pub recording: Option<PathBuf>,
    /// Save a live run as a recording in this directory, which must not be there yet
    #[arg(long, value_name = "DIR", conflicts_with_all = ["replay", "recording"])]
    pub record: Option<PathBuf>,
    /// Order and dose of the attacks; different in every run unless given
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Runs the demonstration. Its exit code says whether it ran; what was found is in the summary and the report.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    println!("This is a demonstration, not evidence: a few minutes of simulated work and simulated attacks on one machine.");
    let obstacle = if args.replay || args.recording.is_some() { Some("you asked for it".to_owned()) } else { live::obstacle().await };
    match obstacle {
        None => {
            println!("Live: real cgroups and network namespaces of its own, a real agent and aggregator; about seven minutes.");
            live::run(&args).await?;
        }
        Some(obstacle) => {
            println!("Replay of a recorded run, because {obstacle}.");
            replay::run(&args).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
