//! Starts a program inside a container that somebody else's runtime made, as `kubectl exec` would: in the container's cgroups,
//! namespaces and root, with its capabilities.
//!
//! Two processes do it, since nobody changes their own PID namespace: the outer one stays outside of the container, waits and
//! passes the program's end on; the inner one enters and becomes the program.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use rustix::{
    io::Errno,
    process::chdir,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, move_into_link_name_space, remove_capability_from_bounding_set, set_capabilities,
    },
};

use crate::enter::{die_with, follow, join_cgroups};

/// What a program inside shares with the container beside its PID namespace, the root last.
const NAMESPACES: [&str; 5] = ["net", "ipc", "uts", "cgroup", "mnt"];

/// Which container, and what to become.
#[derive(clap::Args, Debug)]
pub struct InsideArgs {
    /// A cgroup directory to join; once per hierarchy
    #[arg(long = "cgroup")]
    cgroups: Vec<PathBuf>,
    /// Main process of the container
    #[arg(long)]
    container: i32,
    /// The injector: when it dies, so does this. Without it, be the inner process
    #[arg(long)]
    parent: Option<i32>,
    /// The program, which must exist under this path on both sides, and its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Runs the program inside the container until it ends.
///
/// # Errors
/// When the container cannot be entered or the program cannot be started.
pub fn inside(args: &InsideArgs) -> io::Result<ExitCode> {
    match args.parent {
        Some(parent) => outer(args, parent),
        None => Err(inner(args)?),
    }
}

fn outer(args: &InsideArgs, parent: i32) -> io::Result<ExitCode> {
    die_with(parent)?;
    move_into_link_name_space(open(args.container, "pid")?.as_fd(), None)?;
    // By the program's own name: until it has become the program, the inner process is seen in the container as well.
    let mut command = Command::new(&args.program[0]);
    command.arg("inside").arg("--container").arg(args.container.to_string());
    for dir in &args.cgroups {
        command.arg("--cgroup").arg(dir);
    }
    let mut child = command.arg("--").args(&args.program).stdin(Stdio::piped()).spawn()?;
    let _life_line = child.stdin.take();
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Enters and becomes the program; an `Ok` is the error that it could not.
fn inner(args: &InsideArgs) -> io::Result<io::Error> {
    follow()?;
    join_cgroups(&args.cgroups)?;
    // Else the kernel would take the container's first process for what this one does.
    fs::write("/proc/self/oom_score_adj", fs::read(format!("/proc/{}/oom_score_adj", args.container))?)?;
    let keep = bounding_set(args.container)?;
    // All are opened before the last one is entered: there, `/proc` is the container's.
    for namespace in NAMESPACES.map(|name| open(args.container, name)) {
        move_into_link_name_space(namespace?.as_fd(), None)?;
    }
    chdir("/")?;
    drop_all_but(keep)?;
    Ok(Command::new(&args.program[0]).args(&args.program[1..]).stdin(Stdio::null()).exec())
}

/// Through `/proc`, which names processes as the range does, whatever PID namespace this one is in.
fn open(container: i32, namespace: &str) -> io::Result<File> {
    File::open(format!("/proc/{container}/ns/{namespace}"))
}

/// Takes every other capability from what this process becomes: root gets what is in its bounding set, and what it inherits.
fn drop_all_but(keep: CapabilitySet) -> io::Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            outcome => outcome?,
        }
    }
    let present = capabilities(None)?;
    Ok(set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..present })?)
}

/// Capabilities that a process could ever have: `CapBnd` of its `status`, hexadecimal.
fn bounding_set(process: i32) -> io::Result<CapabilitySet> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path)?;
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.map(CapabilitySet::from_bits_retain).ok_or_else(|| io::Error::other(format!("no CapBnd in {path}")))
}
