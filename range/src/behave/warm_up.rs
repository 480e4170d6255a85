//! A cache that warms up: memory grows fast to a plateau and stays, while entries are read. A leak grows and does not stop.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use super::{BehaviourError, text::Language};

/// Largest plateau, MiB, whatever is asked for.
const MAX_MIB: u64 = 1_024;
/// Fastest growth, MiB per second.
const MAX_RATE_MIB: u64 = 256;
/// Most reads per second.
const MAX_READS: u32 = 50_000;
const ENTRY_BYTES: usize = 4_096;
const TICK: Duration = Duration::from_millis(20);

/// How large it grows, and how fast.
#[derive(clap::Args, Debug)]
pub struct WarmUpArgs {
    /// The plateau, MiB, at most 1024
    #[arg(long, default_value_t = 128)]
    mib: u64,
    /// MiB per second until it is reached, at most 256
    #[arg(long, default_value_t = 8)]
    rate_mib: u64,
    /// Reads per second throughout, at most 50,000
    #[arg(long, default_value_t = 500)]
    reads: u32,
    /// Ends by itself after this long; without it, it stays until it is killed
    #[arg(long)]
    seconds: Option<u64>,
}

/// Grows, stays and reads until its time is over.
pub(super) fn run(args: &WarmUpArgs) -> Result<(), BehaviourError> {
    let plateau = usize::try_from(args.mib.clamp(1, MAX_MIB) * 1024 * 1024 / ENTRY_BYTES as u64).unwrap_or(1);
    let rate = args.rate_mib.clamp(1, MAX_RATE_MIB) as f64 * 1024.0 * 1024.0 / ENTRY_BYTES as f64;
    let page = Language::new(1).text(ENTRY_BYTES);
    let mut entries: Vec<Vec<u8>> = Vec::with_capacity(plateau);
    let began = Instant::now();
    let lasts = args.seconds.map(Duration::from_secs);
    let (mut reads, mut sum) = (0u64, 0u64);
    while lasts.is_none_or(|lasts| began.elapsed() < lasts) {
        let elapsed = began.elapsed().as_secs_f64();
        while entries.len() < plateau.min((elapsed * rate) as usize) {
            let mut entry = page[..ENTRY_BYTES].to_vec();
            entry[..8].copy_from_slice(&(entries.len() as u64).to_le_bytes());
            entries.push(entry);
        }
        while (reads as f64) < elapsed * f64::from(args.reads.min(MAX_READS)) {
            reads += 1;
            if !entries.is_empty() {
                sum = entries[rand::random_range(0..entries.len())].iter().fold(sum, |sum, &byte| sum.wrapping_add(byte.into()));
            }
        }
        black_box(sum);
        thread::sleep(TICK);
    }
    Ok(())
}
