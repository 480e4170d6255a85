//! A small worker that asks the web service now and then, and fails when it is told to.

use std::{net::SocketAddrV4, time::Duration};

use tokio::time::timeout;

use super::{
    BehaviourError, Bounds,
    hash::hash_for,
    http::{Ask, Client},
    jittered,
};
use crate::guard::Guard;

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
    let work = work(&guard, args.target, Duration::from_millis(args.every_ms));
    let Some(fail_after_ms) = args.fail_after_ms else { return work.await };
    let _ = timeout(Duration::from_millis(fail_after_ms), work).await;
    std::process::exit(1)
}

/// A little hashing and a request over one connection, again and again.
pub(super) async fn work(guard: &Guard, target: SocketAddrV4, every: Duration) -> Result<(), BehaviourError> {
    let mut connection = None;
    loop {
        hash_for(Duration::from_millis(2), 1);
        if connection.is_none() {
            connection = Client::connect(guard, target).await.ok();
        }
        if let Some(client) = &mut connection
            && client.ask(&Ask::get("/items")).await.is_err()
        {
            connection = None;
        }
        tokio::time::sleep(jittered(every)).await;
    }
}
