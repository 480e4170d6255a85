//! A memory-hard miner: a large data set that stays resident and is read at random places, a scratchpad per thread, integer and
//! floating-point work on what is read, and a hash at the end of each round. As RandomX: most of its time is memory latency.

use std::{hint::black_box, time::Instant};

use sha2::{Digest, Sha256};

use super::{BehaviourError, confines::Confines, miner::MinerArgs};

/// Largest data set.
const MAX_RESIDENT_MIB: u64 = 2_048;
/// Scratchpad of a thread, words: 2 MiB, the size of a core's second-level cache.
const SCRATCHPAD_WORDS: usize = 256 * 1024;
/// Reads of the data set per round.
const READS: usize = 2_048;
const MIB: u64 = 1 << 20;

/// How much memory, how much work.
#[derive(clap::Args, Debug)]
pub struct MemoryHashArgs {
    /// Size of the data set, at most 2 GiB, what the memory limit allows and half of what the machine has left
    #[arg(long, default_value_t = 256)]
    resident_mib: u64,
    #[command(flatten)]
    miner: MinerArgs,
}

/// Mines in the given dose until its time is over.
pub(super) fn run(args: &MemoryHashArgs) -> Result<(), BehaviourError> {
    let bytes = args.resident_mib.clamp(1, MAX_RESIDENT_MIB) * MIB;
    Confines::own().fits(bytes)?;
    let pool = args.miner.guard()?;
    let set = data_set(usize::try_from(bytes / 8).unwrap_or(0));
    args.miner.mine(pool, |thread| {
        let set = &set;
        let mut scratchpad = vec![0; SCRATCHPAD_WORDS];
        let mut state = u64::from(thread) + 1;
        move |time| {
            let until = Instant::now() + time;
            while Instant::now() < until {
                state = round(set, &mut scratchpad, state);
            }
        }
    })
}

/// Words that no compression folds and no two pages share.
fn data_set(words: usize) -> Vec<u64> {
    let mut state = rand::random::<u64>();
    (0..words).map(|_| split_mix(&mut state)).collect()
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One round; each read's place depends on what the last one found, so that none can begin early.
fn round(set: &[u64], scratchpad: &mut [u64], seed: u64) -> u64 {
    let mut state = seed;
    let mut real = 1.0f64;
    for _ in 0..READS {
        let word = set[place(split_mix(&mut state), set.len())];
        let scratch = &mut scratchpad[place(word.rotate_left(32), SCRATCHPAD_WORDS)];
        *scratch = scratch.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(word);
        real = (real * (1.0 + (word >> 12) as f64 / 2f64.powi(52))).sqrt();
        state ^= *scratch ^ real.to_bits();
    }
    let digest = Sha256::digest(state.to_le_bytes());
    black_box(digest).iter().take(8).fold(0, |state, &byte| state << 8 | u64::from(byte))
}

/// A place below `length`, evenly.
fn place(random: u64, length: usize) -> usize {
    ((u128::from(random) * length as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_within() {
        assert_eq!((place(0, 10), place(u64::MAX, 10), place(u64::MAX / 2, 10)), (0, 9, 4));
    }

    #[test]
    fn rounds_depend_on_their_seed_and_write_the_scratchpad() {
        let set = data_set(4_096);
        let mut scratchpad = vec![0; SCRATCHPAD_WORDS];

        assert_ne!(round(&set, &mut scratchpad, 1), round(&set, &mut scratchpad.clone(), 2));
        assert!(scratchpad.iter().filter(|&&word| word != 0).count() > 1_000);
    }
}
