//! A memory leak: takes so much a second until a ceiling, and holds it.

use std::{hint::black_box, time::Duration};

use super::{BehaviourError, confines::Confines, course::CourseArgs, hoard::Hoard};

/// Most memory, whatever is asked for.
const MAX_MIB: u64 = 2_048;
/// Most memory per second, whatever is asked for.
const MAX_MIB_PER_SECOND: f64 = 256.0;
/// Between two pieces.
const STEP: Duration = Duration::from_millis(50);
const MIB: u64 = 1 << 20;

/// How fast it leaks, up to where.
#[derive(clap::Args, Debug)]
pub struct LeakArgs {
    /// MiB per second, at most 256
    #[arg(long, default_value_t = 1.0)]
    mib_per_second: f64,
    /// Where it stops, at most 2 GiB and half of what the machine has left; the container's own limit may come first
    #[arg(long, default_value_t = 256)]
    most_mib: u64,
    #[command(flatten)]
    course: CourseArgs,
}

/// Leaks in the given dose until its time is over.
pub(super) fn run(args: &LeakArgs) -> Result<(), BehaviourError> {
    let most = args.most_mib.min(MAX_MIB) * MIB;
    let confines = Confines::own();
    // Where a lower limit will end it, only that much is ever taken.
    Confines::machine_has_room(confines.memory_bytes.map_or(most, |limit| limit.min(most)))?;
    let course = args.course.begin();
    // A rate that is no number leaks nothing.
    let bytes_per_second = if args.mib_per_second > 0.0 { args.mib_per_second.min(MAX_MIB_PER_SECOND) * MIB as f64 } else { 0.0 };
    let mut hoard = Hoard::default();
    while course.on_here() {
        let wanted = (course.worked().as_secs_f64() * bytes_per_second) as u64;
        hoard.grow_to(wanted.min(most));
        course.sleep_here(STEP);
    }
    black_box(&hoard);
    Ok(())
}
