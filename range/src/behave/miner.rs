//! What miners have in common: a share of the CPU on some threads, manners on a busy machine, and a quiet connection to a pool.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    BehaviourError, Bounds,
    course::{Course, CourseArgs},
};
use crate::guard::{Guard, Refusal};

/// Most work at a time, and the rest between two; short, so that a second's CPU time is steady.
const CYCLE: Duration = Duration::from_millis(50);
/// Most threads, whatever is asked for.
const MAX_THREADS: usize = 4;
/// How often a polite miner looks at the machine.
const LOOK: Duration = Duration::from_millis(500);
/// `/proc/stat` counts in hundredths of a second, whatever the kernel's own clock.
const TICKS_PER_SECOND: f64 = 100.0;
/// Least time between two messages to the pool.
const MIN_SHARE: Duration = Duration::from_secs(1);
/// How long the pool may take to answer, and how long a miner waits before it comes back.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest message from a pool.
const MAX_MESSAGE: u64 = 4_096;

/// How much mining, how openly.
#[derive(clap::Args, Clone, Debug)]
pub struct MinerArgs {
    /// Threads, at most 4 and at most one per CPU
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Share of each thread's time spent working, percent; 0 is the same threads, asleep
    #[arg(long, default_value_t = 100)]
    duty_pct: u32,
    /// Rests while everybody else keeps more than this share of the machine busy, percent
    #[arg(long)]
    yield_above_pct: Option<u32>,
    /// A pool of the range to stay connected to
    #[arg(long)]
    pool: Option<SocketAddr>,
    /// Mean seconds between two messages to the pool, each a third to five thirds of it, at least 1
    #[arg(long, default_value_t = 40)]
    share_seconds: u64,
    #[command(flatten)]
    bounds: Option<Bounds>,
    #[command(flatten)]
    course: CourseArgs,
}

impl MinerArgs {
    /// Checks that the pool may be spoken to.
    pub(super) fn guard(&self) -> Result<Option<(Guard, SocketAddr)>, BehaviourError> {
        let Some(pool) = self.pool else { return Ok(None) };
        let guard = self.bounds.as_ref().ok_or(Refusal::Unbounded(pool))?.guard()?;
        guard.check(pool)?;
        Ok(Some((guard, pool)))
    }

    /// Runs one worker per thread until the time is over; a worker works for as long as it is told. The dose is CPU time, not wall
    /// time: on a busy machine it is made up for, while it is off or polite it is not.
    pub(super) fn mine<W: FnMut(Duration)>(
        &self,
        pool: Option<(Guard, SocketAddr)>,
        worker: impl Fn(u32) -> W + Sync,
    ) -> Result<(), BehaviourError> {
        let course = self.course.begin();
        let duty = f64::from(self.duty_pct.min(100)) / 100.0;
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.clamp(1, MAX_THREADS.min(cpus));
        let busy = AtomicBool::new(false);
        let (worker, busy) = (&worker, &busy);
        thread::scope(|scope| {
            if let Some((guard, pool)) = pool {
                scope.spawn(move || stay_connected(&guard, pool, Duration::from_secs(self.share_seconds).max(MIN_SHARE), &course));
            }
            if let Some(above_pct) = self.yield_above_pct {
                scope.spawn(move || watch_others(f64::from(above_pct.min(100)) / 100.0, busy, &course));
            }
            for thread in 0..threads {
                scope.spawn(move || {
                    let mut work = worker(thread as u32);
                    let (before, mut forgone) = (own_cpu_time(), course.worked());
                    while course.on_here() {
                        if busy.load(Ordering::Relaxed) {
                            let began = course.worked();
                            course.sleep_here(LOOK / 2);
                            forgone += course.worked() - began;
                            continue;
                        }
                        let owed = course.worked().saturating_sub(forgone).mul_f64(duty);
                        let due = owed.saturating_sub(own_cpu_time() - before);
                        let piece = due.min(CYCLE).min(course.on_for());
                        if !piece.is_zero() {
                            work(piece);
                        }
                        if due < CYCLE {
                            course.sleep_here(CYCLE.mul_f64(1.0 - duty).max(Duration::from_millis(1)));
                        }
                    }
                });
            }
        });
        Ok(())
    }
}

/// CPU time of this thread.
fn own_cpu_time() -> Duration {
    cpu_time(rustix::time::ClockId::ThreadCPUTime)
}

fn cpu_time(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sets `busy` while the rest of the machine is.
fn watch_others(above: f64, busy: &AtomicBool, course: &Course) {
    let look = || Some((machine(&fs::read_to_string("/proc/stat").ok()?)?, cpu_time(rustix::time::ClockId::ProcessCPUTime)));
    let mut before = look();
    while !course.is_over() {
        course.sleep_here(LOOK);
        let now = look();
        if let (Some(((busy_before, all_before), own_before)), Some(((busy_now, all_now), own_now))) = (before, now) {
            let own = (own_now - own_before).as_secs_f64() * TICKS_PER_SECOND;
            let others = (busy_now - busy_before) as f64 - own;
            busy.store(others > above * (all_now - all_before).max(1) as f64, Ordering::Relaxed);
        }
        before = now;
    }
}

/// Ticks that the CPUs were busy, and all ticks, of `/proc/stat`.
fn machine(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let all: u64 = ticks.iter().sum();
    Some((all.checked_sub(*ticks.get(3)? + *ticks.get(4)?)?, all))
}

/// Stays connected to the pool and says little; comes back when the pool goes away.
fn stay_connected(guard: &Guard, pool: SocketAddr, share: Duration, course: &Course) {
    while !course.is_over() {
        // A pool that restarts is ordinary.
        let _ = one_connection(guard, pool, share, course);
        course.sleep_here(PATIENCE);
    }
}

fn one_connection(guard: &Guard, pool: SocketAddr, share: Duration, course: &Course) -> std::io::Result<()> {
    guard.check(pool).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect_timeout(&pool, PATIENCE)?;
    stream.set_read_timeout(Some(LOOK))?;
    let mut number = 1u32;
    say(&stream, number, "login", r#""login":"4range","agent":"range/1""#)?;
    let mut next = Instant::now() + share.mul_f64(rand::random_range(1.0 / 3.0..5.0 / 3.0));
    let mut pool = BufReader::new(&stream);
    let mut message = Vec::new();
    while !course.is_over() {
        // New jobs come when they come; what half arrived is read on.
        match std::io::Read::take(&mut pool, MAX_MESSAGE).read_until(b'\n', &mut message) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => message.clear(),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= next {
            number = number.wrapping_add(1);
            let (nonce, result) = (rand::random::<u32>(), rand::random::<u128>());
            say(&stream, number, "submit", &format!(r#""nonce":"{nonce:08x}","result":"{result:032x}{result:032x}""#))?;
            next = Instant::now() + share.mul_f64(rand::random_range(1.0 / 3.0..5.0 / 3.0));
        }
    }
    Ok(())
}

fn say(mut stream: &TcpStream, number: u32, method: &str, parameters: &str) -> std::io::Result<()> {
    stream.write_all(format!("{{\"id\":{number},\"method\":\"{method}\",\"params\":{{{parameters}}}}}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_not_being_busy() {
        assert_eq!(machine("cpu  10 1 5 100 20 2 3 4 7 0\ncpu0 1 1 1 1\n"), Some((25, 145)));
        assert_eq!(machine("cpu  1 2\n"), None);
        assert_eq!(machine("intr 1\n"), None);
    }
}
