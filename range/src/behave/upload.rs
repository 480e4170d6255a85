//! Uploads: the same program sends in bulk, drips, and sends a few hundred kilobytes now and then; over one connection or many, as
//! streams or as datagrams, over IPv4 or IPv6.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    BehaviourError, Bounds,
    course::{Course, CourseArgs, Tempo},
};
use crate::guard::Guard;

/// Most bytes per second, whatever is asked for.
pub const MAX_RATE: u64 = 20_000_000;
/// Most connections, whatever is asked for.
const MAX_CONNECTIONS: u32 = 64;
/// Sends per second and connection within a burst.
const SLICES: u64 = 20;
/// Payload of a datagram: with its headers within what every network carries whole, also over IPv6.
const DATAGRAM_BYTES: u64 = 1_200;
const PATIENCE: Duration = Duration::from_secs(5);

/// How much to send, when, and how.
#[derive(clap::Args, Debug)]
pub struct UploadArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The receiver
    #[arg(long)]
    target: SocketAddr,
    /// Bytes per second in all while sending, at most 20 MB
    #[arg(long)]
    rate: u64,
    /// Bytes per burst in all; unless said, it never ends
    #[arg(long, default_value_t = u64::MAX)]
    burst: u64,
    /// Seconds from the start of one burst to the next
    #[arg(long, default_value_t = 1)]
    every: u64,
    /// Connections, or sockets for datagrams, at most 64
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// As datagrams
    #[arg(long)]
    datagrams: bool,
    /// To the target's IPv6 address
    #[arg(long)]
    v6: bool,
    #[command(flatten)]
    course: CourseArgs,
}

/// One connection's share.
#[derive(Clone, Copy)]
struct Share {
    target: SocketAddr,
    rate: u64,
    burst: u64,
    datagrams: bool,
}

/// Sends in the given dose until its time is over.
pub(super) async fn run(args: UploadArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let connections = args.connections.clamp(1, MAX_CONNECTIONS);
    let share = Share {
        target: if args.v6 { guard.over_v6(args.target) } else { args.target },
        rate: (args.rate.clamp(1, MAX_RATE) / u64::from(connections)).max(1),
        burst: args.burst.div_ceil(u64::from(connections)),
        datagrams: args.datagrams,
    };
    guard.check(share.target)?;
    let course = args.course.begin();
    let every = Duration::from_secs(args.every);
    let senders = (0..connections).map(|_| async move {
        while course.on().await {
            let began = Instant::now();
            // A receiver that goes away ends the burst, not the program.
            let _ = timeout(course.left(), burst(&guard, share, course)).await;
            course.sleep(every.saturating_sub(began.elapsed()).max(Duration::from_millis(10))).await;
        }
    });
    let _: Vec<()> = futures::future::join_all(senders).await;
    Ok(())
}

async fn burst(guard: &Guard, share: Share, course: Course) -> std::io::Result<()> {
    if share.datagrams { datagrams(guard, share, course).await } else { stream(guard, share, course).await }
}

async fn stream(guard: &Guard, share: Share, course: Course) -> std::io::Result<()> {
    guard.check(share.target).map_err(std::io::Error::other)?;
    let mut stream = timeout(PATIENCE, TcpStream::connect(share.target)).await??;
    let slice = usize::try_from(share.rate / SLICES).unwrap_or(1).max(1);
    let bytes = vec![0x5a; slice];
    let mut left = share.burst;
    let mut tempo = Tempo::new(course, share.rate as f64 / slice as f64);
    while left > 0 {
        // Time lost to a slow receiver is not made up for: the rate is a ceiling.
        let Some(due) = tempo.due().await else { break };
        for _ in 0..due {
            let part = slice.min(usize::try_from(left).unwrap_or(usize::MAX));
            stream.write_all(&bytes[..part]).await?;
            left -= part as u64;
        }
    }
    stream.shutdown().await
}

async fn datagrams(guard: &Guard, share: Share, course: Course) -> std::io::Result<()> {
    let local: SocketAddr = if share.target.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local).await?;
    let bytes = [0x5a; DATAGRAM_BYTES as usize];
    let mut left = share.burst;
    let mut tempo = Tempo::new(course, share.rate as f64 / DATAGRAM_BYTES as f64);
    while left > 0 {
        let Some(due) = tempo.due().await else { break };
        for _ in 0..due {
            guard.check(share.target).map_err(std::io::Error::other)?;
            // Nobody has to be there.
            let _ = socket.send_to(&bytes, share.target).await;
            left = left.saturating_sub(DATAGRAM_BYTES);
        }
    }
    Ok(())
}
