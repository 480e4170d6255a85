//! Where uploads go: reads everything, keeps nothing.

use std::net::Ipv4Addr;

use tokio::io::AsyncReadExt;

use super::{BehaviourError, listen};

/// Where it listens.
#[derive(clap::Args, Debug)]
pub struct SinkArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 9000)]
    port: u16,
}

/// Receives until killed.
pub(super) async fn run(args: SinkArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
        });
    }
}
