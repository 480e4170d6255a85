//! `vedette-agent`: reads its configuration, opens the outside, runs until it is told to stop.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use vedette_agent::{agent, config::Config};

/// Samples this node and its containers from the kernel and streams what it saw to an aggregator.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML); the shipped agent.toml shows every key with its default.
    #[arg(long)]
    config: PathBuf,
    /// Check the configuration and what it names, then exit.
    #[arg(long)]
    check: bool,
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vedette-agent: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Only this provider is ever installed in this process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let config = Config::load(&arguments.config)?;
    if arguments.check {
        agent::check(&config)?;
        println!("{} is valid", arguments.config.display());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(agent::run(config, shutdown).await?)
    })
}
