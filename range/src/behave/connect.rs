//! TCP connects: the same program sweeps a subnet at 150 a second and checks the health of two services once a second.

use std::{
    net::SocketAddrV4,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::seq::SliceRandom;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

use super::{BehaviourError, Bounds};
use crate::guard::Net;

/// Most connects per second, whatever is asked for.
pub const MAX_RATE: u32 = 200;
/// Most connects in flight; a sweep faster than its timeouts waits.
const MAX_IN_FLIGHT: usize = 512;
const PORTS: [u16; 8] = [22, 80, 443, 3306, 5432, 6379, 8080, 9200];

/// What to connect to, how fast.
#[derive(clap::Args, Debug)]
pub struct ConnectArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// A service to connect to; may be repeated
    #[arg(long = "target")]
    targets: Vec<SocketAddrV4>,
    /// Sweep the run's own subnet over common ports
    #[arg(long)]
    sweep: bool,
    /// Host number that a sweep leaves out; may be repeated
    #[arg(long = "except")]
    except: Vec<u8>,
    /// Connects per second, at most 200
    #[arg(long, default_value_t = 1)]
    rate: u32,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Connects in the given dose until its time is over.
pub(super) async fn run(args: ConnectArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    let mut targets = args.targets.clone();
    if args.sweep {
        targets.extend(sweep(guard.allowed(), &args.except));
    }
    for &target in &targets {
        guard.check(target)?;
    }
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / args.rate.clamp(1, MAX_RATE));
    let mut next = targets.iter().cycle();
    while Instant::now() < until {
        tick.tick().await;
        let Some(&target) = next.next() else { break };
        guard.check(target)?;
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        tokio::spawn(async move {
            // Refused, absent and open are all answers.
            let _ = timeout(Duration::from_secs(1), TcpStream::connect(target)).await;
            drop(place);
        });
    }
    Ok(())
}

fn sweep(net: Net, except: &[u8]) -> Vec<SocketAddrV4> {
    let hosts = (1..=254u8).filter(|host| !except.contains(host));
    let mut targets: Vec<_> = hosts.flat_map(|host| PORTS.map(|port| SocketAddrV4::new(net.host(host), port))).collect();
    targets.shuffle(&mut rand::rng());
    targets
}
