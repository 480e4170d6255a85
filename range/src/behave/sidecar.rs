//! An idle sidecar: answers health probes, looks at its configuration now and then, and does nothing else.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    BehaviourError,
    http::{Asked, Reply, serve},
    listen,
};

/// Connections served at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 16;
/// Between two looks at the configuration.
const LOOK: Duration = Duration::from_secs(10);

/// Where it listens.
#[derive(clap::Args, Debug)]
pub struct SidecarArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 15020)]
    port: u16,
}

/// Answers until killed.
pub(super) async fn run(args: SidecarArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    let answer = |asked: Asked| async move {
        match asked.path.as_str() {
            "/healthz" | "/readyz" => Reply::text(200, "ok\n"),
            _ => Reply::text(404, "no such page\n"),
        }
    };
    let look = async {
        loop {
            tokio::time::sleep(LOOK).await;
            // Where there is none there is nothing to reload.
            let _ = tokio::fs::read("/etc/hosts").await;
        }
    };
    tokio::join!(serve(listener, MAX_CONNECTIONS, answer), look);
    Ok(())
}
