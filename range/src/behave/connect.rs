//! TCP connects: the same program sweeps a subnet at 150 a second and checks the health of two services once a second.

use std::{net::SocketAddrV4, time::Duration};

use rand::seq::SliceRandom;

use super::{
    BehaviourError, Bounds,
    course::{CourseArgs, Tempo},
    scan,
};
use crate::nets::Net;

/// Most connects per second, whatever is asked for.
pub const MAX_RATE: u32 = 200;
const PORTS: [u16; 8] = [22, 80, 443, 3306, 5432, 6379, 8080, 9200];
/// How long a connect may take.
const PATIENCE: Duration = Duration::from_secs(1);

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
    #[command(flatten)]
    course: CourseArgs,
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
    let tempo = Tempo::new(args.course.begin(), f64::from(args.rate.clamp(1, MAX_RATE)));
    scan::connect(&guard, &targets, tempo, PATIENCE).await
}

fn sweep(net: Net, except: &[u8]) -> Vec<SocketAddrV4> {
    let hosts = (1..=254u8).filter(|host| !except.contains(host));
    let mut targets: Vec<_> = hosts.flat_map(|host| PORTS.map(|port| SocketAddrV4::new(net.host(host), port))).collect();
    targets.shuffle(&mut rand::rng());
    targets
}
