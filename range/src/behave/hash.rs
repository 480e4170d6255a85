//! SHA-256 over nonces: the same program mines at full duty and checks files at little.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{BehaviourError, miner::MinerArgs};

/// How much hashing.
#[derive(clap::Args, Debug)]
pub struct HashArgs {
    #[command(flatten)]
    miner: MinerArgs,
}

/// Hashes in the given dose until its time is over.
pub(super) fn run(args: &HashArgs) -> Result<(), BehaviourError> {
    let pool = args.miner.guard()?;
    args.miner.mine(pool, |thread| {
        move |time| {
            hash_for(time, thread);
        }
    })
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
