//! Whether the cluster enforces its network policies, tried from where attacks will run: one listener that may be reached, and one
//! that must not be. Both are the run's own, so that a policy that is not enforced lets nothing out either.
//!
//! The answer is the exit code: 0 enforced, [`UNREACHED`] nothing can be said, [`THROUGH`] not enforced.

use std::{
    io::ErrorKind,
    net::SocketAddrV4,
    process,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, time::timeout};

use super::{BehaviourError, Bounds};

/// Exit code: the listener that may be reached was not; a time-out of the other one would say nothing.
pub const UNREACHED: i32 = 3;
/// Exit code: the listener that must not be reached answered.
pub const THROUGH: i32 = 4;
/// How long a connect may take. What a policy drops never answers; a cluster's own pods do within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many connects in a row must come to nothing.
const IN_A_ROW: u32 = 3;
/// Between two tries.
const REST: Duration = Duration::from_millis(250);
/// Longest time for all of it.
const MAX_SECONDS: u64 = 120;

/// What is tried.
#[derive(clap::Args, Debug)]
pub struct ReachArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// A listener that policies allow
    #[arg(long)]
    open: SocketAddrV4,
    /// A listener that policies forbid
    #[arg(long)]
    shut: SocketAddrV4,
    /// How long to wait for the one to answer and for the other to stop answering, at most 120: policies reach a node late
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Tries, and ends the process with the answer.
pub(super) async fn run(args: ReachArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.open)?;
    guard.check(args.shut)?;
    let until = Instant::now() + Duration::from_secs(args.seconds.min(MAX_SECONDS));
    let code = judge(until, || answers(args.open), || answers(args.shut)).await;
    if code != 0 {
        let (listener, what) = if code == UNREACHED { (args.open, "does not answer") } else { (args.shut, "answers") };
        eprintln!("{listener} {what}");
        process::exit(code);
    }
    Ok(())
}

/// The open one first, then the shut one again and again, and the open one at the end: the network may have gone meanwhile.
async fn judge<F: Future<Output = bool>, G: Future<Output = bool>>(until: Instant, open: impl Fn() -> F, shut: impl Fn() -> G) -> i32 {
    while !open().await {
        if Instant::now() >= until {
            return UNREACHED;
        }
        tokio::time::sleep(REST).await;
    }
    let mut silent = 0;
    while silent < IN_A_ROW {
        silent = if shut().await { 0 } else { silent + 1 };
        if silent == 0 && Instant::now() >= until {
            return THROUGH;
        }
        tokio::time::sleep(REST).await;
    }
    if open().await { 0 } else { UNREACHED }
}

/// Whether somebody answers; a refusal is an answer, too: the question arrived.
async fn answers(address: SocketAddrV4) -> bool {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The answers of both, one after the other, the last one for ever.
    fn verdict(open: &[bool], shut: &[bool]) -> i32 {
        let next = |list: &RefCell<Vec<bool>>| {
            let mut list = list.borrow_mut();
            if list.len() > 1 { list.remove(0) } else { list[0] }
        };
        let (open, shut) = (RefCell::new(open.to_vec()), RefCell::new(shut.to_vec()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // Long enough for the answers listed, short enough for a test.
        let until = Instant::now() + Duration::from_millis(600);
        runtime.block_on(judge(until, || std::future::ready(next(&open)), || std::future::ready(next(&shut))))
    }

    #[test]
    fn what_is_silent_while_the_other_answers_is_forbidden() {
        assert_eq!(verdict(&[false, true], &[false]), 0);
    }

    #[test]
    fn a_policy_may_come_late_but_not_never() {
        assert_eq!(verdict(&[true], &[true, false]), 0);
        assert_eq!(verdict(&[true], &[true]), THROUGH);
    }

    #[test]
    fn silence_proves_nothing_where_nobody_answers() {
        assert_eq!(verdict(&[false], &[false]), UNREACHED);
        assert_eq!(verdict(&[true, false], &[false]), UNREACHED);
    }
}
