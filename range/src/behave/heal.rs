//! A container that fails so many times and then is well: its dependency was late, its probe failed at first. A crash loop never is.

use std::{
    fs,
    net::SocketAddrV4,
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use super::{BehaviourError, Bounds, duty::own_cpu_time, hash::hash_for, scratch::Scratch, worker};

/// Most failures before it is well, whatever is asked for.
const MAX_FAILS: u64 = 10;
/// Longest start.
const MAX_START: Duration = Duration::from_secs(60);

/// How often it fails, and how.
#[derive(clap::Args, Debug)]
pub struct HealArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The service it depends on
    #[arg(long)]
    target: SocketAddrV4,
    /// The workload's directory, the same in every life; lives are counted in `heal` below it
    #[arg(long)]
    dir: PathBuf,
    /// Lives that fail, at most 10; 0 for a rollout's new container, which only starts up
    #[arg(long, default_value_t = 3)]
    fails: u64,
    /// How long a life that fails lasts, milliseconds
    #[arg(long, default_value_t = 800)]
    fail_after_ms: u64,
    /// Exit code of a life that fails: 1 for a program's own, 137 as after a failed probe
    #[arg(long, default_value_t = 1)]
    exit_code: i32,
    /// CPU time spent at the start of every life, half a core where there is one, milliseconds, at most a minute
    #[arg(long, default_value_t = 500)]
    start_ms: u64,
    /// Milliseconds between two requests once it is well
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
}

/// Fails, or works until killed.
pub(super) async fn run(args: HealArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let life = {
        let scratch = Scratch::kept(&args.dir, "heal")?;
        let file = scratch.join("lives");
        let lives = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        fs::write(&file, (lives + 1).to_string()).map_err(|error| BehaviourError::File("write", file, error))?;
        lives
    };
    let began = Instant::now();
    let start = Duration::from_millis(args.start_ms).min(MAX_START);
    while own_cpu_time() < start && began.elapsed() < start * 8 {
        hash_for(Duration::from_millis(10), 1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if life < args.fails.min(MAX_FAILS) {
        tokio::time::sleep(Duration::from_millis(args.fail_after_ms).saturating_sub(began.elapsed())).await;
        eprintln!("{} is not ready: giving up for now", args.target);
        process::exit(args.exit_code);
    }
    worker::work(&guard, args.target, Duration::from_millis(args.every_ms)).await
}
