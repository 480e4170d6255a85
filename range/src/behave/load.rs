//! HTTP clients at a rate of some shape: the same program is a steady client at 20 requests a second, a load test that rises, and a flood
//! at 1,500.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use super::{
    BehaviourError, Bounds,
    http::{Ask, Client},
    pace::{PaceArgs, Pacer, exponential},
    shop::ITEMS,
    text::Language,
};
use crate::guard::Guard;

/// Most requests per second, whatever is asked for: the machine has two cores and other work.
pub const MAX_RATE: u32 = 2_000;
/// Most connections at once.
const MAX_CONNECTIONS: u32 = 200;

/// What clients ask for.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub enum Mix {
    /// Listings only
    Plain,
    /// Single items (60 %), listings (25 %), searches (10 %) and orders of 0.1 to 4 kB (5 %)
    Shop,
}

impl Mix {
    /// The next request of somebody at the shop.
    pub(super) fn next(self, language: &mut Language) -> Ask {
        let dice = match self {
            Self::Plain => 60,
            Self::Shop => rand::random_range(0..100),
        };
        let item = || rand::random_range(0..ITEMS);
        match dice {
            0..60 => Ask::get(format!("/items/{}", item())),
            60..85 => Ask::get("/items"),
            85..95 => Ask::get(format!("/search?q={}", language.word())),
            _ => {
                let mut form = format!("item={}&item={}&note=", item(), item()).into_bytes();
                form.extend_from_slice(language.line(rand::random_range(100..4_000)).trim_end().as_bytes());
                Ask { method: "POST", path: "/orders".to_owned(), body: form }
            }
        }
    }
}

/// How much load, on what.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The service
    #[arg(long)]
    target: SocketAddrV4,
    /// Requests per second in all, at most 2,000, bursts included
    #[arg(long, default_value_t = 20)]
    rate: u32,
    #[command(flatten)]
    pace: PaceArgs,
    /// Connections, at most 200
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Requests before a connection is closed and opened again
    #[arg(long, default_value_t = 50)]
    reuse: u32,
    /// What is asked for
    #[arg(long, value_enum, default_value_t = Mix::Plain)]
    mix: Mix,
    /// Mean time to look at an answer before the next request, milliseconds (exponential)
    #[arg(long, default_value_t = 0)]
    think_ms: u64,
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
    let began = Instant::now();
    let until = began + Duration::from_secs(args.seconds);
    let clients = (0..connections).map(|place| {
        let first = pause * place / connections;
        let args = &args;
        async move {
            tokio::time::sleep(first).await;
            let mut language = Language::new(rand::random());
            let mut pacer = Pacer::new(args.pace, args.rate, MAX_RATE, connections, began);
            while Instant::now() < until {
                // A server that is slow or gone is what a client meets; it tries again.
                let _ = one_connection(&guard, args, &mut pacer, &mut language, until).await;
                tokio::time::sleep(pause.min(Duration::from_millis(200))).await;
            }
        }
    });
    futures::future::join_all(clients).await;
    Ok(())
}

async fn one_connection(guard: &Guard, args: &LoadArgs, pacer: &mut Pacer, language: &mut Language, until: Instant) -> std::io::Result<()> {
    let mut client = Client::connect(guard, args.target).await?;
    for _ in 0..args.reuse.max(1) {
        if Instant::now() >= until {
            break;
        }
        client.ask(&args.mix.next(language)).await?;
        tokio::time::sleep(Duration::from_millis(args.think_ms).mul_f64(exponential())).await;
        pacer.due().await;
    }
    Ok(())
}
