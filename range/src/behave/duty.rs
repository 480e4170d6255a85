//! Work in small steps at a share of the CPU: what the batch programs have in common.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Rest between two looks at the account; short, so that a second's CPU time is steady.
const CYCLE: Duration = Duration::from_millis(50);
/// Most threads, whatever is asked for.
const MAX_THREADS: u32 = 4;

/// How much of the CPU, for how long.
#[derive(clap::Args, Clone, Debug)]
pub struct DutyArgs {
    /// Threads, at most 4
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Share of each thread's time spent working, percent
    #[arg(long, default_value_t = 100)]
    duty_pct: u32,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl DutyArgs {
    /// Threads that will run.
    pub(super) fn threads(&self) -> u32 {
        self.threads.clamp(1, MAX_THREADS)
    }

    /// Runs one worker per thread, step by step, until the time is over. A step should take a few milliseconds. The dose is CPU time,
    /// not wall time: on a busy machine it is made up for.
    pub(super) fn spend<W: FnMut()>(&self, worker: impl Fn(u32) -> W + Sync) {
        let began = Instant::now();
        let lasts = Duration::from_secs(self.seconds);
        let duty = f64::from(self.duty_pct.min(100)) / 100.0;
        let worker = &worker;
        thread::scope(|scope| {
            for thread in 0..self.threads() {
                scope.spawn(move || {
                    let mut step = worker(thread);
                    while began.elapsed() < lasts {
                        if own_cpu_time() < began.elapsed().mul_f64(duty) {
                            step();
                        } else {
                            thread::sleep(CYCLE.mul_f64(1.0 - duty).max(Duration::from_millis(1)));
                        }
                    }
                });
            }
        });
    }
}

/// CPU time of this thread.
pub(super) fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
