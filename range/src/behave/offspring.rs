//! Children that die with their parent, however it dies.
//!
//! A behaviour with children runs as two processes: the front, which is the container's first or is started inside it, and the tended
//! one, which has the children. When the front dies the kernel tells the tended one (SIGTERM), which kills everything below itself; it
//! adopts orphans, so what its children left behind is below it as well. When the tended one dies, the front does the same.

use std::{
    collections::HashMap,
    env, fs, io,
    path::PathBuf,
    process::{self, Child, Command},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper, set_parent_process_death_signal, waitpid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::BehaviourError;

/// Tells the tended process who its front is.
const FRONT: &str = "VEDETTE_RANGE_FRONT";
/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Held while a child is started, and for good by who kills them: none is started after the last look.
static STARTING: Mutex<()> = Mutex::new(());

/// Runs this work in a tended process; the caller becomes its front.
pub(super) fn tended(work: impl FnOnce() -> Result<(), BehaviourError>) -> Result<(), BehaviourError> {
    let failed = |error| BehaviourError::Io("tend children", error);
    match env::var(FRONT) {
        Ok(front) => {
            be_tended(&front).map_err(failed)?;
            let outcome = work();
            let _held = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
            end_descendants();
            outcome
        }
        Err(_) => front().map_err(failed)?,
    }
}

/// Starts a child of the tended process.
pub(super) fn start(command: &mut Command) -> io::Result<Child> {
    let _held = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// This program under the name it goes by, with no environment.
pub(super) fn own_program() -> io::Result<Command> {
    let named = env::args_os().next().map(PathBuf::from).filter(|path| path.is_file());
    let mut command = Command::new(named.map_or_else(env::current_exe, Ok)?);
    command.env_clear();
    Ok(command)
}

fn front() -> io::Result<Result<(), BehaviourError>> {
    set_child_subreaper(Some(getpid()))?;
    let mut command = own_program()?;
    command.args(env::args_os().skip(1)).env(FRONT, process::id().to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut tended = tokio::process::Command::from(command).spawn()?;
        let stopped = tokio::select! {
            status = tended.wait() => {
                let status = status?;
                return Ok(if status.success() { Ok(()) } else { Err(BehaviourError::Tended(status)) });
            }
            stopped = terminate.recv() => stopped,
            stopped = interrupt.recv() => stopped,
        };
        if let Some(pid) = stopped.and(tended.id()).and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // It may be gone already, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        tended.wait().await?;
        Ok(Ok(()))
    });
    end_descendants();
    outcome
}

/// Sets the process up to be told of its front's death, and a thread that then ends it and everything below.
fn be_tended(front: &str) -> io::Result<()> {
    let (ready, is_ready) = mpsc::sync_channel(1);
    thread::Builder::new().name("tender".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            match signal(SignalKind::terminate()) {
                Ok(mut terminate) => {
                    let _ = ready.send(Ok(()));
                    terminate.recv().await;
                    let _held = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
                    end_descendants();
                    process::exit(0);
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    })?;
    is_ready.recv().map_err(io::Error::other)??;
    set_child_subreaper(Some(getpid()))?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // The front may have died before the line above.
    if getppid().map(|pid| pid.as_raw_nonzero().to_string()).as_deref() != Some(front) {
        return Err(io::Error::other("the process that started this one is gone"));
    }
    Ok(())
}

/// Takes away orphans that ended. Only where no child is waited for at the same time.
pub(super) fn reap() {
    while matches!(waitpid(None, WaitOptions::NOHANG), Ok(Some(_))) {}
}

/// Kills everything below this process until nothing is left.
pub(super) fn end_descendants() {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let alive = descendants(process::id());
        if alive.is_empty() {
            break;
        }
        for pid in alive.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // It may have ended since.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(5));
        reap();
    }
}

/// Living processes below this one, whatever sessions and groups they made.
fn descendants(of: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: HashMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let below = |mut pid: u32| {
        // A cycle cannot be, but a process may have changed its parent while the others were read.
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some(&parent) if parent == of => return true,
                Some(&parent) => pid = parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|&pid| below(pid)).collect()
}

/// The parent of a living process; the name in `stat` may hold spaces and parentheses.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}
