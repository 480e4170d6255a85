//! Health checks of many endpoints: a fresh connection to each in turn, a request, an answer, closed. Many opens as in a scan, but all
//! of them are established.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use super::{
    BehaviourError, Bounds,
    http::{Ask, Client},
    jittered,
};

/// Most checks per second, whatever is asked for.
const MAX_RATE: u32 = 200;
/// Most endpoints; more are an error.
const MAX_TARGETS: usize = 256;

/// What is checked, how often.
#[derive(clap::Args, Debug)]
pub struct HealthChecksArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// An endpoint; may be repeated, at most 256
    #[arg(long = "target", required = true, num_args = 1..)]
    targets: Vec<SocketAddrV4>,
    /// Milliseconds from one check of an endpoint to its next; at most 200 checks a second in all
    #[arg(long, default_value_t = 1000)]
    every_ms: u64,
    /// The page that is asked for
    #[arg(long, default_value = "/healthz")]
    path: String,
    /// Ends by itself after this long; without it, it checks until it is killed
    #[arg(long)]
    seconds: Option<u64>,
}

/// Checks until its time is over.
pub(super) async fn run(args: HealthChecksArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    if args.targets.len() > MAX_TARGETS {
        return Err(BehaviourError::TooMany("targets", MAX_TARGETS));
    }
    for &target in &args.targets {
        guard.check(target)?;
    }
    let targets = u32::try_from(args.targets.len()).unwrap_or(u32::MAX);
    let spacing = (Duration::from_millis(args.every_ms) / targets).max(Duration::from_secs(1) / MAX_RATE);
    let began = Instant::now();
    let lasts = args.seconds.map(Duration::from_secs);
    let ask = Ask::get(args.path.clone());
    for &target in args.targets.iter().cycle() {
        if lasts.is_some_and(|lasts| began.elapsed() >= lasts) {
            break;
        }
        let next = tokio::time::Instant::now() + jittered(spacing);
        // Unwell is an answer too.
        if let Ok(mut client) = Client::connect(&guard, target).await {
            let _ = client.ask(&ask).await;
        }
        tokio::time::sleep_until(next).await;
    }
    Ok(())
}
