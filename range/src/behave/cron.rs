//! A cron job: a short process every so often, and nothing in between.

use std::{path::PathBuf, thread, time::Duration};

use super::{BehaviourError, offspring::tended, scratch::Scratch, unit::start_unit};

/// Least seconds from one start to the next.
const MIN_EVERY: u64 = 2;
/// Output of a run, KiB; the next one replaces it.
const REPORT_KIB: usize = 256;

/// When, and how much.
#[derive(clap::Args, Debug)]
pub struct CronArgs {
    /// The workload's directory; the report goes to `cron` below it
    #[arg(long)]
    dir: PathBuf,
    /// Seconds from one start to the next, at least 2
    #[arg(long, default_value_t = 60)]
    every_seconds: u64,
    /// CPU time of a run, milliseconds, at most 20 s
    #[arg(long, default_value_t = 1500)]
    burst_ms: u64,
}

/// Starts runs until killed, the first after a random part of the interval.
pub(super) fn run(args: &CronArgs) -> Result<(), BehaviourError> {
    tended(|| {
        let scratch = Scratch::empty(&args.dir, "cron")?;
        let every = Duration::from_secs(args.every_seconds.max(MIN_EVERY));
        thread::sleep(every.mul_f64(rand::random()));
        loop {
            let began = std::time::Instant::now();
            let mut child =
                start_unit(&scratch.join("report"), args.burst_ms, REPORT_KIB).map_err(|error| BehaviourError::Io("start a run", error))?;
            // A run that fails is for its own log; cron goes on.
            let _ = child.wait();
            thread::sleep(every.saturating_sub(began.elapsed()));
        }
    })
}
