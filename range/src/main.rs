//! `vedette-range`: reads the command line and calls one function.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use vedette_range::{
    behave::{self, Behaviour},
    clean,
    contain::{ContainArgs, contain},
    enter::{EnterArgs, enter},
    held::{HeldArgs, held},
    home::Home,
    inside::{InsideArgs, inside},
    orphans,
    plan::{sessions::Sessions, table},
    probe::probe,
    run::{PlanArgs, RunArgs, run},
    runtime::containerd::cni,
    turns::{KeepArgs, TurnArgs, keep, turn},
};

/// Simulates attacks and their look-alikes in pods of its own, and labels them.
#[derive(Debug, Parser)]
#[command(name = "vedette-range", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a plan (root; Linux)
    Run(RunArgs),
    /// Print what a run of a plan would do and when, and do nothing
    Plan {
        #[command(flatten)]
        plan: PlanArgs,
    },
    /// Print the sessions that are recorded, and how many episodes of each act they hold
    Sessions,
    /// Remove what runs that were killed left behind
    Clean {
        /// Only this run
        #[arg(long)]
        root_cgroup: Option<String>,
    },
    /// Say whether a run is possible here: makes a cgroup and a network of its own, and removes them
    Probe,
    /// Become a process of a container
    #[command(hide = true)]
    Enter(EnterArgs),
    /// Start a program inside a container of another runtime
    #[command(hide = true)]
    Inside(InsideArgs),
    /// Keep a program in namespaces of its own
    #[command(hide = true)]
    Contain(ContainArgs),
    /// Run a program as long as standard input is open
    #[command(hide = true)]
    Held(HeldArgs),
    /// Be the first process of a container whose program may change
    #[command(hide = true)]
    Keep(KeepArgs),
    /// Change the program of such a container for a while
    #[command(hide = true)]
    Turn(TurnArgs),
    /// Be a network plugin
    #[command(hide = true)]
    Cni,
    /// Be a workload
    #[command(hide = true)]
    Behave {
        #[command(subcommand)]
        behaviour: Behaviour,
    },
}

fn main() -> ExitCode {
    match perform(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes; one whose text quotes its cause does not repeat it.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.replace('\n', " ")
}

fn perform(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Enter(args) => Err(enter(&args)).context("cannot enter the container"),
        Command::Inside(args) => inside(&args).context("cannot start a program in the container"),
        Command::Contain(args) => contain(&args).context("cannot keep the program"),
        Command::Held(args) => held(&args).map(|()| ExitCode::SUCCESS).context("cannot hold the program"),
        Command::Keep(args) => keep(&args).context("cannot keep the container"),
        Command::Turn(args) => turn(&args).map(|()| ExitCode::SUCCESS).context("cannot change the container's program"),
        Command::Cni => Ok(plugin()),
        Command::Behave { behaviour } => {
            orphans::take_away();
            Ok(behave::run(behaviour).map(|()| ExitCode::SUCCESS)?)
        }
        Command::Plan { plan } => {
            print!("{}", table::timeline(&plan.timeline()?));
            Ok(ExitCode::SUCCESS)
        }
        Command::Sessions => {
            print!("{}", table::sessions(&Sessions::shipped()?)?);
            Ok(ExitCode::SUCCESS)
        }
        command => {
            rustls::crypto::ring::default_provider().install_default().expect("no crypto provider was installed before");
            tracing_subscriber::fmt().with_writer(std::io::stderr).init();
            // One thread, which also starts every process: they are told to die with the thread that started them.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(conduct(command)).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn plugin() -> ExitCode {
    let (answer, code) = match cni::plugin(std::io::stdin(), &std::env::vars().collect()) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(answer) => (answer, ExitCode::FAILURE),
    };
    println!("{answer}");
    code
}

async fn conduct(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run(args).await,
        Command::Probe => probe().await,
        Command::Clean { root_cgroup } => {
            let one = root_cgroup.is_some();
            for name in root_cgroup.map_or_else(Home::names, |name| vec![name]) {
                match clean::clean(&name).await {
                    Ok(()) => println!("removed {name}"),
                    Err(error) if !one => eprintln!("{error}"),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        }
        // Done without a runtime.
        _ => Ok(()),
    }
}
