//! Service discovery: each endpoint is looked up by name and connected to, again and again, and the connections are kept for a while.
//! Many opens to many targets as in a scan, but each is asked for by name, living, and answered.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use super::{BehaviourError, Bounds, dns, http::PATIENCE, jittered};
use crate::guard::Guard;

/// Most look-ups with a connect per second, whatever is asked for.
const MAX_RATE: u32 = 200;
/// Most endpoints; more are an error.
const MAX_TARGETS: usize = 256;
/// Most connections kept; at the limit, the next waits.
const MAX_KEPT: usize = 256;
/// How long an answer may take before the question is sent again, once.
const ANSWER: Duration = Duration::from_millis(500);

/// What is looked up, how often.
#[derive(clap::Args, Debug)]
pub struct DiscoveryArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// An endpoint; may be repeated, at most 256
    #[arg(long = "target", required = true, num_args = 1..)]
    targets: Vec<SocketAddrV4>,
    /// The resolver; without it, endpoints are connected to by address
    #[arg(long)]
    resolver: Option<SocketAddrV4>,
    /// Endpoints per second, at most 200
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// How long a connection is kept, milliseconds, at most 10 s
    #[arg(long, default_value_t = 2000)]
    keep_ms: u64,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Looks up and connects until its time is over.
pub(super) async fn run(args: DiscoveryArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    if args.targets.len() > MAX_TARGETS {
        return Err(BehaviourError::TooMany("targets", MAX_TARGETS));
    }
    for &target in args.targets.iter().chain(&args.resolver) {
        guard.check(target)?;
    }
    let places = Arc::new(Semaphore::new(MAX_KEPT));
    let spacing = Duration::from_secs(1) / args.rate.clamp(1, MAX_RATE);
    let keep = Duration::from_millis(args.keep_ms).min(Duration::from_secs(10));
    let until = Instant::now() + Duration::from_secs(args.seconds);
    for &target in args.targets.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        let next = tokio::time::Instant::now() + jittered(spacing);
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let resolver = args.resolver;
        tokio::spawn(async move {
            // An endpoint that has gone is found to be gone the next time.
            if let Ok(stream) = reach(&guard, resolver, target).await {
                tokio::time::sleep(keep).await;
                drop(stream);
            }
            drop(place);
        });
        tokio::time::sleep_until(next).await;
    }
    Ok(())
}

async fn reach(guard: &Guard, resolver: Option<SocketAddrV4>, target: SocketAddrV4) -> std::io::Result<TcpStream> {
    let address = match resolver {
        Some(resolver) => resolve(guard, resolver, &dns::pod_name(*target.ip())).await?,
        None => *target.ip(),
    };
    let target = SocketAddrV4::new(address, target.port());
    guard.check(target).map_err(std::io::Error::other)?;
    timeout(PATIENCE, TcpStream::connect(target)).await?
}

/// Over a socket of its own, as resolver libraries do it.
async fn resolve(guard: &Guard, resolver: SocketAddrV4, name: &str) -> std::io::Result<Ipv4Addr> {
    guard.check(resolver).map_err(std::io::Error::other)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(resolver).await?;
    let question = dns::question(rand::random(), name);
    let mut buffer = [0; dns::MAX_MESSAGE];
    for _ in 0..2 {
        socket.send(&question).await?;
        if let Ok(length) = timeout(ANSWER, socket.recv(&mut buffer)).await {
            return dns::address(&question, &buffer[..length?]).ok_or_else(|| std::io::ErrorKind::NotFound.into());
        }
    }
    Err(std::io::ErrorKind::TimedOut.into())
}
