//! A container that ends badly after a while: by its own exit code, by a memory fault, or by taking more memory than it may.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{BehaviourError, confines::Confines, hash::hash_for, hoard::Hoard};

/// Longest life.
const MAX_AFTER: Duration = Duration::from_secs(3_600);
/// Highest memory limit that is run into: the machine has other work.
const MAX_LIMIT_BYTES: u64 = 1 << 30;
/// How fast memory is taken, bytes per second.
const GREED: u64 = 512 << 20;
/// Stack that is left for the memory fault, bytes.
const LITTLE_STACK: u64 = 64 << 10;

/// How it ends.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Exit code 1
    Exit,
    /// A real memory fault: signal 11
    Segfault,
    /// Memory taken until the container's limit kills it: signal 9, counted as an OOM kill. Refused without a limit of at most 1 GiB
    Oom,
}

/// How and when it ends.
#[derive(clap::Args, Debug)]
pub struct FailArgs {
    /// How it ends
    #[arg(long, value_enum, default_value_t = How::Exit)]
    how: How,
    /// When, milliseconds after its start, at most an hour
    #[arg(long, default_value_t = 500)]
    after_ms: u64,
}

/// Starts like a program that reads its configuration, waits, and ends badly.
pub(super) fn run(args: &FailArgs) -> Result<(), BehaviourError> {
    let began = Instant::now();
    let limit = match args.how {
        How::Oom => Confines::own().memory_limit(MAX_LIMIT_BYTES)?,
        How::Exit | How::Segfault => 0,
    };
    hash_for(Duration::from_millis(5), 1);
    thread::sleep(Duration::from_millis(args.after_ms).min(MAX_AFTER).saturating_sub(began.elapsed()));
    match args.how {
        How::Exit => {}
        How::Segfault => _ = black_box(fault()?),
        How::Oom => outgrow(limit),
    }
    // What should have ended it did not: it still ends badly.
    std::process::exit(1)
}

/// Takes memory until the limit kills this process; a little beyond the limit it gives up.
fn outgrow(limit: u64) {
    let began = Instant::now();
    let mut hoard = Hoard::default();
    while hoard.bytes() < limit + limit / 8 + (64 << 20) {
        let wanted = began.elapsed().as_millis() as u64 * (GREED / 1_000);
        hoard.grow_to(wanted);
        thread::sleep(Duration::from_millis(5));
    }
    black_box(&hoard);
}

/// Outgrows the stack where no guard page of this process's own stands: the kernel finds no memory there, and ends it by signal 11. Sent
/// as a signal instead, it would not end the first process of a container.
fn fault() -> Result<u64, BehaviourError> {
    for (resource, current) in [(Resource::Core, 0), (Resource::Stack, LITTLE_STACK)] {
        let limit = Rlimit { current: Some(current), ..getrlimit(resource) };
        setrlimit(resource, limit).map_err(|errno| BehaviourError::Io("set a limit of this process", errno.into()))?;
    }
    Ok(descend(1))
}

/// As deep as the stack allows, and deeper.
fn descend(depth: u64) -> u64 {
    let mut frame = black_box([depth; 512]);
    if black_box(depth) < u64::MAX {
        frame[black_box(depth as usize % 512)] += descend(depth + 1);
    }
    black_box(frame).iter().sum()
}
