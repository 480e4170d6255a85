//! Long connections to the key-value store, reading more than it writes.

use std::{net::SocketAddrV4, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{BehaviourError, Bounds, jittered, key_value::MAX_VALUE};
use crate::guard::Guard;

const MAX_CONNECTIONS: u32 = 16;

/// How the store is used.
#[derive(clap::Args, Clone, Debug)]
pub struct CacheClientArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The store
    #[arg(long)]
    target: SocketAddrV4,
    /// Operations per second in all
    #[arg(long, default_value_t = 30)]
    rate: u32,
    /// Connections
    #[arg(long, default_value_t = 3)]
    connections: u32,
}

/// Uses the store until killed.
pub(super) async fn run(args: CacheClientArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let connections = args.connections.clamp(1, MAX_CONNECTIONS);
    let pause = Duration::from_secs(1) * connections / args.rate.clamp(1, 1_000);
    let clients = (0..connections).map(|_| async {
        loop {
            // The store may restart; the client comes back.
            let _ = one_connection(&guard, &args, pause).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let _: Vec<()> = futures::future::join_all(clients).await;
    Ok(())
}

async fn one_connection(guard: &Guard, args: &CacheClientArgs, pause: Duration) -> std::io::Result<()> {
    guard.check(args.target).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect(args.target).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let key: u32 = rand::random_range(0..500);
        line.clear();
        if rand::random_range(0..4) == 0 {
            let value = vec![b'v'; rand::random_range(256..4_096)];
            stream.write_all(&[format!("S k{key} {}\n", value.len()).as_bytes(), &value].concat()).await?;
            stream.read_line(&mut line).await?;
        } else {
            stream.write_all(format!("G k{key}\n").as_bytes()).await?;
            stream.read_line(&mut line).await?;
            let length = line.trim().parse().ok().filter(|&length| length <= MAX_VALUE).ok_or(std::io::ErrorKind::InvalidData)?;
            stream.read_exact(&mut vec![0; length]).await?;
        }
        if line.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        tokio::time::sleep(jittered(pause)).await;
    }
}
