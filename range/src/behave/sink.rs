//! Where uploads go: reads every stream and every datagram, over IPv4 and the pod's IPv6 address, keeps nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, UdpSocket},
};

use super::{BehaviourError, listen};
use crate::nets::{Net, RunNets};

/// Where it listens.
#[derive(clap::Args, Debug)]
pub struct SinkArgs {
    /// Address to listen on, for streams and datagrams; the pod's IPv6 address follows from it
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 9000)]
    port: u16,
}

/// Receives until killed.
pub(super) async fn run(args: SinkArgs) -> Result<(), BehaviourError> {
    let streams = listen(args.address, args.port).await?;
    let datagrams = UdpSocket::bind((args.address, args.port)).await.map_err(|error| BehaviourError::Io("listen for datagrams", error))?;
    // A kernel without IPv6, or a pod without such an address, is no reason not to receive the rest.
    let address6 = RunNets::of(Net::slash24(args.address)).map(|nets| SocketAddr::new(IpAddr::V6(nets.address6(args.address)), args.port));
    let (streams6, datagrams6) = match address6 {
        Some(address) => (TcpListener::bind(address).await.ok(), UdpSocket::bind(address).await.ok()),
        None => (None, None),
    };
    if let Some(streams) = streams6 {
        tokio::spawn(receive_streams(streams));
    }
    for socket in [Some(datagrams), datagrams6].into_iter().flatten() {
        tokio::spawn(receive_datagrams(socket));
    }
    receive_streams(streams).await;
    Ok(())
}

async fn receive_streams(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
        });
    }
}

async fn receive_datagrams(socket: UdpSocket) {
    let mut buffer = vec![0; 2_048];
    loop {
        // An error is an answer to something that was sent, and nothing was.
        let _ = socket.recv_from(&mut buffer).await;
    }
}
