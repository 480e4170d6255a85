//! A small worker that asks the web service now and then, and fails when it is told to.

use std::{net::SocketAddrV4, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::{BehaviourError, Bounds, hash::hash_for, jittered, load::get};

/// The worker's rhythm and fate.
#[derive(clap::Args, Debug)]
pub struct WorkerArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The web service
    #[arg(long)]
    target: SocketAddrV4,
    /// Milliseconds between two requests
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
    /// Exit with code 1 after this long
    #[arg(long)]
    fail_after_ms: Option<u64>,
}

/// Works until killed or, if told so, fails.
pub(super) async fn run(args: WorkerArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let work = async {
        let mut connection = None;
        loop {
            hash_for(Duration::from_millis(2), 1);
            if connection.is_none() && guard.check(args.target).is_ok() {
                connection = timeout(Duration::from_secs(1), TcpStream::connect(args.target)).await.ok().and_then(Result::ok);
            }
            if let Some(stream) = &mut connection
                && !timeout(Duration::from_secs(1), get(stream)).await.is_ok_and(|got| got.is_ok())
            {
                connection = None;
            }
            tokio::time::sleep(jittered(Duration::from_millis(args.every_ms))).await;
        }
    };
    let Some(fail_after_ms) = args.fail_after_ms else { return work.await };
    let _: Result<(), _> = timeout(Duration::from_millis(fail_after_ms), work).await.unwrap_or(Ok(()));
    std::process::exit(1)
}
