//! A sale: visitors arrive at random, more and more, look around with pauses, and leave. Traffic rises as in a flood, but every visitor
//! is a person who waits for answers, and goes away when there are none.

use std::{
    net::SocketAddrV4,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{BehaviourError, Bounds, http::Client, load::Mix, pace::exponential, text::Language};
use crate::guard::Guard;

/// Most arrivals per second, whatever is asked for.
const MAX_ARRIVALS: f64 = 100.0;
/// Most visitors at once; whoever comes then goes away.
const MAX_VISITORS: usize = 400;

/// How many come, and when.
#[derive(clap::Args, Clone, Debug)]
pub struct SaleArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The shop
    #[arg(long)]
    target: SocketAddrV4,
    /// Arrivals per second before and after
    #[arg(long, default_value_t = 1.0)]
    base: f64,
    /// Arrivals per second at the height, at most 100
    #[arg(long, default_value_t = 20.0)]
    peak: f64,
    /// Seconds from the first to the height
    #[arg(long, default_value_t = 20)]
    rise_seconds: u32,
    /// Seconds at the height
    #[arg(long, default_value_t = 60)]
    hold_seconds: u32,
    /// Seconds in which what is above the base halves, afterwards
    #[arg(long, default_value_t = 30)]
    half_seconds: u32,
    /// Mean requests of a visitor
    #[arg(long, default_value_t = 8)]
    steps: u32,
    /// Mean time that a visitor looks at a page, milliseconds
    #[arg(long, default_value_t = 700)]
    think_ms: u64,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl SaleArgs {
    fn arrivals(&self, elapsed: Duration) -> f64 {
        let elapsed = elapsed.as_secs_f64();
        let rise = f64::from(self.rise_seconds.max(1));
        let after = elapsed - rise - f64::from(self.hold_seconds);
        let height = if elapsed < rise { elapsed / rise } else { 0.5f64.powf(after.max(0.0) / f64::from(self.half_seconds.max(1))) };
        (self.base.max(0.0) + (self.peak - self.base).max(0.0) * height).min(MAX_ARRIVALS)
    }
}

/// Lets visitors come until its time is over.
pub(super) async fn run(args: SaleArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let began = Instant::now();
    let until = began + Duration::from_secs(args.seconds);
    let places = Arc::new(Semaphore::new(MAX_VISITORS));
    while Instant::now() < until {
        let rate = args.arrivals(began.elapsed()).max(0.1);
        tokio::time::sleep(Duration::from_secs_f64((exponential() / rate).min(1.0))).await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let args = args.clone();
        tokio::spawn(async move {
            // A visitor who gets no answer goes away.
            let _ = visit(&guard, &args, until).await;
            drop(place);
        });
    }
    Ok(())
}

async fn visit(guard: &Guard, args: &SaleArgs, until: Instant) -> std::io::Result<()> {
    let mut client = Client::connect(guard, args.target).await?;
    let mut language = Language::new(rand::random());
    for _ in 0..rand::random_range(1..=args.steps.clamp(1, 100) * 2 - 1) {
        if Instant::now() >= until {
            break;
        }
        client.ask(&Mix::Shop.next(&mut language)).await?;
        tokio::time::sleep(Duration::from_millis(args.think_ms).mul_f64(exponential())).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        sale: SaleArgs,
    }

    #[test]
    fn visitors_rise_stay_and_go() {
        let flags =
            "x --allow 10.213.5.0/24 --host-namespace 1 --target 10.213.5.9:80 --rise-seconds 10 --hold-seconds 10 --half-seconds 5";
        let sale = Command::parse_from(flags.split(' ')).sale;

        let at = |seconds| sale.arrivals(Duration::from_secs(seconds));

        assert_eq!([at(0), at(5), at(10), at(20), at(25)], [1.0, 10.5, 20.0, 20.0, 10.5]);
    }
}
