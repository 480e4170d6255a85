//! Keeps a program and everything it starts in PID, mount and network namespaces of its own: they end with the range, however it
//! ends, and take their processes, mounts and sockets along.
//!
//! Two processes do it, since a PID namespace begins with a child: the outer one makes the namespaces and waits; the inner one
//! is the first in them, dies with the outer one, and reaps what the program leaves behind.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change},
    process::{WaitOptions, wait},
    thread::UnshareFlags,
};

use crate::enter::follow;

/// What to keep.
#[derive(clap::Args, Debug)]
pub struct ContainArgs {
    /// Be the inner process
    #[arg(long)]
    inner: bool,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Runs the program in namespaces of its own until it ends.
///
/// # Errors
/// When the namespaces cannot be made or the program cannot be started.
pub fn contain(args: &ContainArgs) -> io::Result<ExitCode> {
    if args.inner { inner(&args.program) } else { outer(&args.program) }
}

fn outer(program: &[String]) -> io::Result<ExitCode> {
    unshare(UnshareFlags::NEWPID | UnshareFlags::NEWNS | UnshareFlags::NEWNET)?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.args(["contain", "--inner", "--"]).args(program).stdin(Stdio::piped()).spawn()?;
    // Its other end tells the child whether this process lives.
    let _life_line = child.stdin.take();
    exit_code(&mut child)
}

fn inner(program: &[String]) -> io::Result<ExitCode> {
    follow()?;
    // What the range mounts from now on, disks and network namespaces, is seen here; what is mounted here is seen nowhere else.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", plain | MountFlags::NOEXEC, None)?;
    mount("tmpfs", "/run", "tmpfs", plain, c"mode=755")?;
    hide(Path::new("/var/lib"), "cni", Path::new("/run/var-lib"))?;
    let main = Command::new(&program[0]).args(&program[1..]).stdin(Stdio::null()).spawn()?;
    loop {
        if let Some((pid, status)) = wait(WaitOptions::empty())?
            && u32::try_from(pid.as_raw_nonzero().get()) == Ok(main.id())
        {
            let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
    }
}

/// Gives a directory an empty entry of this name in place of the one it may have: results of network plugins are kept in
/// `/var/lib/cni` and nowhere else, and nothing of a run may stay on the host. `aside` is where the directory can be seen meanwhile.
fn hide(dir: &Path, name: &str, aside: &Path) -> io::Result<()> {
    fs::create_dir(aside)?;
    mount_bind_recursive(dir, aside)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755")?;
    for entry in fs::read_dir(aside)? {
        let (entry, place) = entry.map(|entry| (entry.path(), dir.join(entry.file_name())))?;
        let kind = entry.symlink_metadata()?.file_type();
        if kind.is_symlink() {
            symlink(fs::read_link(&entry)?, &place)?;
        } else if kind.is_dir() && !place.ends_with(name) {
            fs::create_dir(&place)?;
            mount_bind_recursive(&entry, &place)?;
        }
    }
    Ok(())
}

fn exit_code(child: &mut Child) -> io::Result<ExitCode> {
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Gives this thread, and what it starts, namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // The deprecation is about FILES, which is never asked for.
    #[expect(deprecated)]
    rustix::thread::unshare(flags).map_err(io::Error::from)
}

/// Gives this thread a mount namespace of its own: mounts of the host still appear in it, and those made in it are seen by
/// namespaces made from it, but not by the host.
///
/// # Errors
/// Without privilege.
pub fn keep_mounts() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)?)
}
