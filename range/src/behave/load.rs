//! HTTP clients at a given rate: the same program is a steady client at 20 requests a second and a flood at 1,500.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{BehaviourError, Bounds, jittered};
use crate::guard::Guard;

/// Most requests per second, whatever is asked for: the machine has two cores and other work.
pub const MAX_RATE: u32 = 2_000;
/// Most connections at once.
const MAX_CONNECTIONS: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(2);

/// How much load, on what.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The service
    #[arg(long)]
    target: SocketAddrV4,
    /// Requests per second in all, at most 2,000
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Connections, at most 200
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Requests before a connection is closed and opened again
    #[arg(long, default_value_t = 50)]
    reuse: u32,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Sends requests in the given dose until its time is over.
pub(super) async fn run(args: LoadArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let connections = args.connections.clamp(1, MAX_CONNECTIONS);
    let pause = Duration::from_secs(1) * connections / args.rate.clamp(1, MAX_RATE);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let clients = (0..connections).map(|place| {
        let first = pause * place / connections;
        let args = &args;
        async move {
            tokio::time::sleep(first).await;
            while Instant::now() < until {
                // A server that is slow or gone is what a client meets; it tries again.
                let _ = one_connection(&guard, args, pause, until).await;
                tokio::time::sleep(pause.min(Duration::from_millis(200))).await;
            }
        }
    });
    futures::future::join_all(clients).await;
    Ok(())
}

async fn one_connection(guard: &Guard, args: &LoadArgs, pause: Duration, until: Instant) -> std::io::Result<()> {
    guard.check(args.target).map_err(std::io::Error::other)?;
    let mut stream = timeout(PATIENCE, TcpStream::connect(args.target)).await??;
    stream.set_nodelay(true)?;
    for _ in 0..args.reuse.max(1) {
        let began = Instant::now();
        if began >= until {
            break;
        }
        timeout(PATIENCE, get(&mut stream)).await??;
        tokio::time::sleep(jittered(pause).saturating_sub(began.elapsed())).await;
    }
    Ok(())
}

/// One request and its whole response.
pub(super) async fn get(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET /items HTTP/1.1\r\nHost: web\r\nAccept: */*\r\n\r\n").await?;
    let mut response = Vec::with_capacity(8 * 1024);
    loop {
        if let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&response[..end]);
            let length =
                head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).and_then(|length| length.parse::<usize>().ok());
            let length = length.ok_or_else(|| std::io::Error::other("response without a length"))?;
            if response.len() >= end + 4 + length {
                return Ok(());
            }
        }
        if stream.read_buf(&mut response).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
