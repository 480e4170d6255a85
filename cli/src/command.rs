//! The commands, their help, and which function runs each.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::client::ConnectArgs;
use crate::demo::{self, DemoArgs};
use crate::exit;

/// Watches every container from the kernel's own files, tells normal from abnormal, and says why.
#[derive(Debug, Parser)]
#[command(name = "vedette", version, after_help = exit::CODES)]
struct Cli {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run aggregator, agent and simulated attacks on this machine
    Demo(DemoArgs),
}

/// Parses the command line, runs the command, reports an error in one line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(cli)));
    match result {
        Ok(code) => code,
        Err(error) => {
            let (exit, line) = exit::of_error(&error);
            if let Some(line) = line {
                eprintln!("vedette: {line}");
            }
            exit.into()
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
