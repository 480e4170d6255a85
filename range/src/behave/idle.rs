//! A dose of nothing: the same program as the attacks, with as many threads as are wanted, all asleep.

use std::thread;

use super::{BehaviourError, course::CourseArgs};

const MAX_THREADS: u32 = 64;

/// How much nothing.
#[derive(clap::Args, Debug)]
pub struct IdleArgs {
    /// Threads, the first included, at most 64
    #[arg(long, default_value_t = 1)]
    threads: u32,
    #[command(flatten)]
    course: CourseArgs,
}

/// Sleeps until its time is over.
pub(super) fn run(args: &IdleArgs) -> Result<(), BehaviourError> {
    let course = args.course.begin();
    thread::scope(|scope| {
        for _ in 1..args.threads.clamp(1, MAX_THREADS) {
            scope.spawn(|| course.sleep_here(course.left()));
        }
        course.sleep_here(course.left());
    });
    Ok(())
}
