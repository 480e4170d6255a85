//! A web service: HTTP/1.1 with keep-alive; each request is parsed, looked up, rendered and signed, some are slow.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    BehaviourError,
    hash::hash_for,
    http::{Asked, serve},
    listen,
    shop::Shop,
};

/// Connections served at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 512;
/// Longest wait of a slow request.
const MAX_SLOW: Duration = Duration::from_secs(1);
/// Most CPU time per request.
const MAX_WORK: Duration = Duration::from_millis(50);

/// What the service does.
#[derive(clap::Args, Debug)]
pub struct WebArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// CPU time per request, microseconds, at most 50 ms; the page first, the rest checks a session by hashing
    #[arg(long, default_value_t = 150)]
    work_us: u64,
    /// Mean bytes per listing, at most 256 KiB
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Requests that wait before they are answered, as for a slow disk, percent
    #[arg(long, default_value_t = 1)]
    slow_pct: u32,
    /// Mean wait of these, milliseconds, at most 500
    #[arg(long, default_value_t = 40)]
    slow_ms: u64,
}

/// Serves until killed.
pub(super) async fn run(args: WebArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    let (shop, args) = (Arc::new(Shop::new()), Arc::new(args));
    serve(listener, MAX_CONNECTIONS, move |asked: Asked| {
        let (shop, args) = (Arc::clone(&shop), Arc::clone(&args));
        async move {
            let began = Instant::now();
            let reply = shop.answer(&asked, args.bytes);
            let work = Duration::from_micros(args.work_us).min(MAX_WORK).saturating_sub(began.elapsed());
            // The health page is not worth a session.
            if !work.is_zero() && asked.path != "/healthz" {
                hash_for(work, asked.path.len() as u32);
            }
            if rand::random_range(0..100) < args.slow_pct {
                let wait = Duration::from_millis(args.slow_ms).mul_f64(rand::random_range(0.5..1.5));
                tokio::time::sleep(wait.min(MAX_SLOW)).await;
            }
            reply
        }
    })
    .await;
    Ok(())
}
