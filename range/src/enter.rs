//! The trampoline that turns a fresh process into one of a container: cgroups first, so that its birth is counted there, then the
//! pod's network namespace, then the program.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::Command,
};

use rustix::{
    process::{Signal, getppid, set_parent_process_death_signal},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Where to go and what to become.
#[derive(clap::Args, Debug)]
pub struct EnterArgs {
    /// A cgroup directory to join; once per hierarchy
    #[arg(long = "cgroup")]
    cgroups: Vec<PathBuf>,
    /// The network namespace to join
    #[arg(long)]
    netns: PathBuf,
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
    for cgroup in &args.cgroups {
        if let Err(error) = fs::write(cgroup.join("cgroup.procs"), "0") {
            return io::Error::new(error.kind(), format!("cannot join {}: {error}", cgroup.display()));
        }
    }
    if let Err(error) = join(args) {
        return io::Error::new(error.kind(), format!("cannot enter {}: {error}", args.netns.display()));
    }
    Command::new(&args.program[0]).args(&args.program[1..]).exec()
}

fn join(args: &EnterArgs) -> io::Result<()> {
    let namespace = File::open(&args.netns)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The injector may have died before the line above.
    let parent = getppid().map(rustix::process::Pid::as_raw_nonzero);
    if parent.is_none_or(|parent| parent.get() != args.parent) {
        return Err(io::Error::other("the injector is gone"));
    }
    Ok(())
}
