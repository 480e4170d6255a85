//! A fork bomb: processes that start processes that start processes, until a pids limit refuses more; each goes on trying.
//!
//! It stops by itself: every process knows the moment at which it ends, and dies with the one that started it. Without a pids limit in
//! force on its own cgroup it does not begin.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::{
    BehaviourError,
    confines::Confines,
    course::{Course, CourseArgs},
};

/// Highest pids limit that is run into: the machine has other work.
const MAX_LIMIT: u64 = 2_048;
/// Most processes, whatever is asked for and allowed.
const MAX_PROCESSES: u64 = 1_024;
/// Most attempts per second of all processes together.
const MAX_RATE: u64 = 1_000;
/// Longest and shortest rest between two attempts of one process.
const MAX_REST: Duration = Duration::from_secs(5);
const MIN_REST: Duration = Duration::from_millis(10);
/// Longest life of a process of the bomb, whatever it was told.
const MAX_LIFE_MS: u64 = 3_600_000;

/// How many, how fast.
#[derive(clap::Args, Clone, Debug)]
pub struct ForkBombArgs {
    /// Processes, at most 1,024; the pids limit comes first if it is lower
    #[arg(long, default_value_t = MAX_PROCESSES)]
    most: u64,
    /// Attempts per second of all processes together, at most 1,000
    #[arg(long, default_value_t = 200)]
    rate: u64,
    #[command(flatten)]
    course: CourseArgs,
    /// Of a process of the bomb: when it ends, milliseconds since 1970
    #[arg(long, hide = true, requires = "parent")]
    until_unix_ms: Option<u64>,
    /// Of a process of the bomb: who started it, and with whom it dies
    #[arg(long, hide = true)]
    parent: Option<i32>,
}

/// Multiplies until its time is over.
pub(super) fn run(args: &ForkBombArgs) -> Result<(), BehaviourError> {
    let confines = Confines::own();
    confines.pids_limit(MAX_LIMIT)?;
    let program = program()?;
    let course = args.course.begin();
    if let Some(until) = args.until_unix_ms {
        return member(args, &program, &confines, until.min(now_unix_ms() + MAX_LIFE_MS));
    }
    while course.on_here() {
        let until = now_unix_ms() + u64::try_from(course.on_for().as_millis()).unwrap_or(0);
        multiply(args, &program, &confines, until);
        // Members end with the moment; what is off is off.
        wait_for_change(&course);
    }
    Ok(())
}

fn wait_for_change(course: &Course) {
    while !course.on_for().is_zero() && !course.is_over() {
        course.sleep_here(Duration::from_millis(5));
    }
}

/// One process of the bomb.
fn member(args: &ForkBombArgs, program: &PathBuf, confines: &Confines, until: u64) -> Result<(), BehaviourError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| BehaviourError::Io("ask to die with the parent", errno.into()))?;
    // It may have died before the line above.
    if getppid().map(Pid::as_raw_pid) == args.parent {
        multiply(args, program, confines, until);
    }
    Ok(())
}

/// Starts children until the moment, and ends those that live.
fn multiply(args: &ForkBombArgs, program: &PathBuf, confines: &Confines, until: u64) {
    let mut children: Vec<Child> = Vec::new();
    while now_unix_ms() < until {
        // What cannot be counted is taken for too many.
        let processes = confines.pids_current().unwrap_or(u64::MAX);
        if processes < args.most.min(MAX_PROCESSES) {
            // Refused by the limit is what a bomb meets.
            children.extend(start(args, program, until));
        }
        let rest = Duration::from_secs(1).mul_f64(processes.min(MAX_PROCESSES) as f64 / args.rate.clamp(1, MAX_RATE) as f64);
        let left = Duration::from_millis(until.saturating_sub(now_unix_ms()));
        std::thread::sleep(rest.clamp(MIN_REST, MAX_REST).mul_f64(rand::random_range(0.5..1.5)).min(left));
    }
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn start(args: &ForkBombArgs, program: &PathBuf, until: u64) -> Option<Child> {
    let mut command = Command::new(program);
    command.args(["behave", "fork-bomb", "--most", &args.most.to_string(), "--rate", &args.rate.to_string()]);
    command.args(["--until-unix-ms", &until.to_string(), "--parent", &std::process::id().to_string()]);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok()
}

/// By the path that it was started by: the name of a process comes from it.
fn program() -> Result<PathBuf, BehaviourError> {
    let first = std::env::args_os().next().map(PathBuf::from);
    match first.filter(|path| path.is_absolute()) {
        Some(path) => Ok(path),
        None => std::env::current_exe().map_err(|error| BehaviourError::Io("find this executable", error)),
    }
}

fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_millis() as u64)
}
