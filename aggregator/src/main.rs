//! `vedette-aggregator`: reads the configuration, opens the outside, serves until SIGTERM or SIGINT.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use vedette_aggregator::{Config, serve};

/// Takes in what Vedette's agents observe, tells normal from abnormal, keeps a labelled history and answers questions.
#[derive(Parser)]
#[command(name = "vedette-aggregator", version, about)]
struct Arguments {
    /// The configuration; without it the defaults hold (see aggregator.toml)
    #[arg(long, value_name = "FILE", env = "VEDETTE_AGGREGATOR_CONFIG")]
    config: Option<PathBuf>,
    /// Check configuration and identity file, and end
    #[arg(long)]
    check: bool,
    /// Ask the aggregator that runs on this configuration's data_dir for a new CA, and end
    #[arg(long)]
    rotate_ca: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("VEDETTE_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vedette-aggregator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit on open files to the hard one: every agent has a connection, and a service is often started with room for a
/// thousand files only.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused only where it would not help anyway.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("another crypto provider is installed already");
    }
    let config = match &arguments.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    config.check()?;
    if arguments.check {
        config.detect.check()?;
        vedette_aggregator::identity::Identity::new(config.identity.file.clone()).refresh()?;
        println!("configuration is valid");
        return Ok(());
    }
    if arguments.rotate_ca {
        vedette_aggregator::tls::ask_for_rotation(&config.data_dir)?;
        println!("asked for: within a minute ca.pem holds the next CA too, which signs {} days later", config.tls.ca_overlap_days);
        return Ok(());
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let mut aggregator = serve::start(config.clone()).await?;
        if let Some(path) = &arguments.config {
            aggregator.follow(path.clone(), config);
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = aggregator.failed() => anyhow::bail!("the gRPC server ended on its own"),
        }
        aggregator.stop().await;
        Ok(())
    })
}
