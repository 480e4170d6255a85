//! An image push: layers are asked for by digest, and what the store does not have is sent in acknowledged chunks, then a manifest.
//! Always an upload, as an exfiltration is.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

use super::{BehaviourError, Bounds, backup::MAX_RATE, shop::hexadecimal, store::Depositor};
use crate::guard::Guard;

/// Most layers, whatever is asked for.
const MAX_LAYERS: u64 = 16;
/// Largest layer, MiB.
const MAX_LAYER_MIB: u64 = 64;
const CHUNK_BYTES: usize = 1024 * 1024;

/// What is pushed, how fast, how often.
#[derive(clap::Args, Debug)]
pub struct ImagePushArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The store
    #[arg(long)]
    target: SocketAddrV4,
    /// Layers of an image, at most 16; the first half never changes
    #[arg(long, default_value_t = 6)]
    layers: u64,
    /// Size of a layer, MiB, at most 64
    #[arg(long, default_value_t = 8)]
    layer_mib: u64,
    /// Bytes per second, at most 20 MB
    #[arg(long, default_value_t = 8_000_000)]
    rate: u64,
    /// Seconds from the start of one push to the next
    #[arg(long, default_value_t = 60)]
    every_seconds: u64,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Pushes until its time is over.
pub(super) async fn run(args: ImagePushArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut version = 0;
    while Instant::now() < until {
        let began = Instant::now();
        version += 1;
        // A store that fails costs this push, not the next.
        if let Err(error) = push(&guard, &args, version, until).await {
            eprintln!("{}: push failed: {error}", args.target);
        }
        let rest = Duration::from_secs(args.every_seconds.max(1)).saturating_sub(began.elapsed());
        tokio::time::sleep(rest.min(until.saturating_duration_since(Instant::now()))).await;
    }
    Ok(())
}

async fn push(guard: &Guard, args: &ImagePushArgs, version: u64, until: Instant) -> std::io::Result<()> {
    let mut store = Depositor::connect(guard, args.target).await?;
    let (began, mut sent) = (Instant::now(), 0usize);
    let layers = args.layers.clamp(1, MAX_LAYERS);
    let mut manifest = format!("{{\"tag\":\"v{version}\",\"layers\":[");
    for layer in 0..layers {
        let changes = layer >= layers / 2;
        let chunks = args.layer_mib.clamp(1, MAX_LAYER_MIB) * 1024 * 1024 / CHUNK_BYTES as u64;
        for chunk in 0..chunks {
            if Instant::now() >= until {
                return Ok(());
            }
            let bytes = contents(layer, if changes { version } else { 0 }, chunk);
            let digest = hexadecimal(&Sha256::digest(&bytes));
            if !store.has(&digest).await? {
                store.put(&format!("layer/{layer}/{chunk}"), &bytes).await?;
                sent += bytes.len();
            }
            manifest.push_str(&format!("\"{digest}\","));
            let due = Duration::from_secs_f64(sent as f64 / args.rate.clamp(1, MAX_RATE) as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
    manifest.push_str("]}");
    store.put(&format!("manifest/{version}"), manifest.as_bytes()).await.map(drop)
}

/// Bytes of a compressed layer: they look random.
fn contents(layer: u64, version: u64, chunk: u64) -> Vec<u8> {
    let mut bytes = vec![0; CHUNK_BYTES];
    StdRng::seed_from_u64(layer << 48 | version << 24 | chunk).fill_bytes(&mut bytes);
    bytes
}
