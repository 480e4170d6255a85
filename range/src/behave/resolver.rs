//! A resolver: answers questions after pods' names over UDP.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::{BehaviourError, Bounds, dns};

/// Where it listens.
#[derive(clap::Args, Debug)]
pub struct ResolverArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 53)]
    port: u16,
}

/// Answers until killed.
pub(super) async fn run(args: ResolverArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    let socket = UdpSocket::bind((args.address, args.port)).await.map_err(|error| BehaviourError::Io("listen", error))?;
    let mut buffer = [0; dns::MAX_MESSAGE];
    loop {
        let Ok((length, SocketAddr::V4(peer))) = socket.recv_from(&mut buffer).await else { continue };
        // Whoever writes another's address into a question gets nothing sent there.
        if guard.check(peer).is_err() {
            continue;
        }
        let Some((name, end)) = dns::asked(&buffer[..length]) else { continue };
        let address = dns::pod_address(&name).filter(|&address| guard.allowed().contains(address));
        let _ = socket.send_to(&dns::answer(&buffer[..length], end, address), peer).await;
    }
}
