//! SHA-256 over nonces: the same program mines at full duty and checks files at little.

use std::{
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use super::BehaviourError;

/// Most work at a time, and the rest between two; short, so that a second's CPU time is steady.
const CYCLE: Duration = Duration::from_millis(50);
/// Most threads, whatever is asked for.
const MAX_THREADS: u32 = 4;

/// How much hashing.
#[derive(clap::Args, Debug)]
pub struct HashArgs {
    /// Threads, at most 4
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// Share of each thread's time spent hashing, percent
    #[arg(long, default_value_t = 100)]
    duty_pct: u32,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Hashes in the given dose until its time is over. The dose is CPU time, not wall time: on a busy machine it is made up for.
pub(super) fn run(args: &HashArgs) -> Result<(), BehaviourError> {
    let began = Instant::now();
    let lasts = Duration::from_secs(args.seconds);
    let duty = f64::from(args.duty_pct.min(100)) / 100.0;
    thread::scope(|scope| {
        for thread in 0..args.threads.clamp(1, MAX_THREADS) {
            scope.spawn(move || {
                while began.elapsed() < lasts {
                    let due = began.elapsed().mul_f64(duty).saturating_sub(own_cpu_time());
                    hash_for(due.min(CYCLE), thread);
                    if due < CYCLE {
                        thread::sleep(CYCLE.mul_f64(1.0 - duty));
                    }
                }
            });
        }
    });
    Ok(())
}

/// CPU time of this thread.
fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Real hashing for a stretch of wall time; returns the last digest so that the work is used.
pub(super) fn hash_for(time: Duration, seed: u32) -> [u8; 32] {
    let until = Instant::now() + time;
    let mut header = [0u8; 80];
    header[..4].copy_from_slice(&seed.to_le_bytes());
    let mut digest = [0u8; 32];
    let mut nonce = 0u64;
    loop {
        for _ in 0..8 {
            nonce += 1;
            header[8..16].copy_from_slice(&nonce.to_le_bytes());
            header[16..48].copy_from_slice(&digest);
            digest = Sha256::digest(header).into();
        }
        if Instant::now() >= until {
            return digest;
        }
    }
}
