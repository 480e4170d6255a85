//! Uploads: the same program sends in bulk for half a minute and a few hundred kilobytes now and then.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{BehaviourError, Bounds};
use crate::guard::Guard;

/// Most bytes per second, whatever is asked for.
pub const MAX_RATE: u64 = 20_000_000;
/// Sends per second within a burst.
const SLICES: u64 = 20;

/// How much to send, and when.
#[derive(clap::Args, Debug)]
pub struct UploadArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The receiver
    #[arg(long)]
    target: SocketAddrV4,
    /// Bytes per second while sending, at most 20 MB
    #[arg(long)]
    rate: u64,
    /// Bytes per burst
    #[arg(long)]
    burst: u64,
    /// Seconds from the start of one burst to the next
    #[arg(long)]
    every: u64,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Sends in the given dose until its time is over.
pub(super) async fn run(args: UploadArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    while Instant::now() < until {
        let began = Instant::now();
        // A receiver that goes away ends the burst, not the program.
        let _ = burst(&guard, &args, until).await;
        let rest = Duration::from_secs(args.every).saturating_sub(began.elapsed()).max(Duration::from_millis(10));
        tokio::time::sleep(rest).await;
    }
    Ok(())
}

async fn burst(guard: &Guard, args: &UploadArgs, until: Instant) -> std::io::Result<()> {
    guard.check(args.target).map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect(args.target).await?;
    let slice = usize::try_from(args.rate.clamp(1, MAX_RATE) / SLICES).unwrap_or(1).max(1);
    let bytes = vec![0x5a; slice];
    let mut left = args.burst;
    let mut tick = tokio::time::interval(Duration::from_millis(1000 / SLICES));
    // Time lost to a slow receiver is not made up for: the rate is a ceiling.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while left > 0 && Instant::now() < until {
        tick.tick().await;
        let part = slice.min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&bytes[..part]).await?;
        left -= part as u64;
    }
    stream.shutdown().await
}
