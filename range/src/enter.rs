//! The trampoline that turns a fresh process into one of a container: cgroups first, so that its birth is counted there, then the
//! pod's network namespace, then the program.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, getppid, set_parent_process_death_signal},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Where to go and what to become.
#[derive(clap::Args, Debug)]
pub struct EnterArgs {
    /// A cgroup directory to join; once per hierarchy
    #[arg(long = "cgroup")]
    cgroups: Vec<PathBuf>,
    /// The network namespace to join; without it the present one stays
    #[arg(long)]
    netns: Option<PathBuf>,
    /// The injector: when it dies, so does this
    #[arg(long)]
    parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Enters, and becomes the program; returns only on failure.
#[must_use]
pub fn enter(args: &EnterArgs) -> io::Error {
    let entered =
        join_cgroups(&args.cgroups).and_then(|()| args.netns.as_deref().map_or(Ok(()), join_network)).and_then(|()| die_with(args.parent));
    match entered {
        Ok(()) => Command::new(&args.program[0]).args(&args.program[1..]).exec(),
        Err(error) => error,
    }
}

/// Moves this process into cgroups.
pub(crate) fn join_cgroups(dirs: &[PathBuf]) -> io::Result<()> {
    for dir in dirs {
        fs::write(dir.join("cgroup.procs"), "0").map_err(|error| named(&error, "join", dir))?;
    }
    Ok(())
}

fn join_network(path: &Path) -> io::Result<()> {
    let namespace = File::open(path).map_err(|error| named(&error, "open", path))?;
    let moved = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
    moved.map_err(|errno| named(&errno.into(), "enter", path))
}

/// Lets this process be killed when its parent, which must have this id, is gone.
pub(crate) fn die_with(parent: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The injector may have died before the line above.
    let present = getppid().map(rustix::process::Pid::as_raw_nonzero);
    if present.is_none_or(|present| present.get() != parent) {
        return Err(io::Error::other("the injector is gone"));
    }
    Ok(())
}

/// The same for a process whose parent is in another PID namespace and has no id here: standard input is a pipe that the parent
/// holds the other end of.
pub(crate) fn follow() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let stdin = io::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if ends[0].revents().is_empty() { Ok(()) } else { Err(io::Error::other("the parent is gone")) }
}

fn named(error: &io::Error, action: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action} {}: {error}", path.display()))
}
