//! A program that lasts as long as somebody holds it: whoever started it inside a container by way of a kubelet has no process to
//! kill, only a connection. Standard input is that connection's end; what is said about the program goes to standard output.
//!
//! Lines of JSON: `{"began_unix_ms": T}` once it runs, `{"ended_unix_ms": T, "early": null}` when it was stopped, and with the
//! exit status in words as `early` where it ended by itself. The times are the node's own, as the agent's are.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::now_unix_ms;

/// Between two looks; also what a stretch of time may be wrong by.
const LOOK_MS: i64 = 20;
/// Attempts to remove the room, and the pause between two: grandchildren may still be dying.
const REMOVALS: u32 = 40;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// What is held, and for how long at most.
#[derive(clap::Args, Debug)]
pub struct HeldArgs {
    /// A directory that is made before and removed after
    #[arg(long)]
    room: Option<PathBuf>,
    /// When it is stopped, milliseconds after its start, if nobody let go before
    #[arg(long)]
    milliseconds: u64,
    /// Arguments of this program
    #[arg(last = true, required = true)]
    program: Vec<String>,
}

/// Runs the program until its time is over, it ends, or standard input says anything or ends.
///
/// # Errors
/// When the program cannot be started or stopped.
pub fn held(args: &HeldArgs) -> io::Result<()> {
    if let Some(room) = &args.room {
        fs::create_dir_all(room)?;
    }
    let held = hold(args);
    if let Some(room) = &args.room {
        remove(room);
    }
    held
}

fn hold(args: &HeldArgs) -> io::Result<()> {
    // Standard output is the connection's: a program that writes much must not wait for it.
    let mut child = Command::new(std::env::current_exe()?).args(&args.program).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let began = Instant::now();
    say(&serde_json::json!({"began_unix_ms": now_unix_ms()}));
    let early = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status.to_string());
        }
        if began.elapsed() >= Duration::from_millis(args.milliseconds) || is_let_go(LOOK_MS)? {
            child.kill()?;
            child.wait()?;
            break None;
        }
    };
    say(&serde_json::json!({"ended_unix_ms": now_unix_ms(), "early": early}));
    Ok(())
}

/// To a listener that may be gone: the program and its room are taken care of all the same.
fn say(line: &serde_json::Value) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Waits a moment for standard input to end, or to say anything.
fn is_let_go(wait_ms: i64) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: wait_ms * 1_000_000 }))?;
    Ok(!ends[0].revents().is_empty())
}

fn remove(room: &Path) {
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(room) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(REMOVAL_PAUSE),
            _ => return,
        }
    }
}
