//! A sweep over addresses and ports: by TCP connects, by SYNs through a raw socket, or by datagrams; into what refuses, is silent or is
//! forbidden.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use rand::seq::SliceRandom;
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use super::{
    BehaviourError, Bounds,
    course::{CourseArgs, Tempo},
    raw::{Ear, SynSocket},
};
use crate::{
    guard::Guard,
    nets::{Net, Range},
};

/// Most targets per second, whatever is asked for.
pub const MAX_RATE: u32 = 500;
/// Most connects in flight; a sweep faster than its time-outs waits. Below the usual 1,024 open files.
const MAX_IN_FLIGHT: usize = 768;
/// Longest wait for an answer.
const MAX_TIMEOUT: Duration = Duration::from_secs(5);
/// Ports of services that a scan asks for first; then come the numbers from 1.
const FIRST_PORTS: [u16; 16] = [22, 80, 443, 3306, 5432, 6379, 8080, 9200, 2379, 6443, 10250, 8443, 27017, 5000, 3000, 9090];
const MAX_PORTS: u16 = 1_024;
/// What a probe by datagram says: nothing that anybody understands.
const PROBE: [u8; 12] = [0; 12];

/// How targets are probed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Whole TCP connects by the kernel, closed at once
    Connect,
    /// SYNs through a raw socket, and a packet socket that listens for the answers; the kernel resets what it did not ask for
    Syn,
    /// Datagrams from one socket
    Udp,
}

/// What is scanned, how fast.
#[derive(clap::Args, Debug)]
pub struct ScanArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// How targets are probed
    #[arg(long, value_enum, default_value_t = Method::Connect)]
    method: Method,
    /// What the targets do; may be repeated for a mixture
    #[arg(long, value_enum, default_values_t = [Range::Pods])]
    into: Vec<Range>,
    /// Host number among the pods that is left out; may be repeated
    #[arg(long)]
    except: Vec<u8>,
    /// Addresses per range
    #[arg(long, default_value_t = 254)]
    hosts: u8,
    /// Ports per address, at most 1,024: common ones first, then from 1 up
    #[arg(long, default_value_t = 8)]
    ports: u16,
    /// Targets (an address and a port) per second, at most 500
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// How long a connect may take, milliseconds, at most 5,000
    #[arg(long, default_value_t = 1_000)]
    timeout_ms: u64,
    #[command(flatten)]
    course: CourseArgs,
}

/// Scans in the given dose until its time is over.
pub(super) async fn run(args: ScanArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    let own = guard.own_address()?;
    let mut targets = Vec::new();
    for (place, &range) in args.into.iter().enumerate() {
        if !args.into[..place].contains(&range) {
            targets.extend(sweep(guard.range(range), range, &args, own));
        }
    }
    targets.shuffle(&mut rand::rng());
    for &target in &targets {
        guard.check(target)?;
    }
    let course = args.course.begin();
    let tempo = Tempo::new(course, f64::from(args.rate.clamp(1, MAX_RATE)));
    let wait = Duration::from_millis(args.timeout_ms).min(MAX_TIMEOUT);
    match args.method {
        Method::Connect => connect(&guard, &targets, tempo, wait).await,
        Method::Syn => syn(guard, own, &targets, tempo).await,
        Method::Udp => udp(&guard, &targets, tempo).await,
    }
}

fn sweep(net: Net, range: Range, args: &ScanArgs, own: Ipv4Addr) -> Vec<SocketAddrV4> {
    let hosts = (1..=254u8).filter(|host| range != Range::Pods || !args.except.contains(host)).map(|host| net.host(host));
    let hosts = hosts.filter(|&host| host != own).take(usize::from(args.hosts.max(1)));
    let others = (1..=MAX_PORTS).filter(|port| !FIRST_PORTS.contains(port));
    let ports: Vec<_> = FIRST_PORTS.into_iter().chain(others).take(usize::from(args.ports.clamp(1, MAX_PORTS))).collect();
    hosts.flat_map(|host| ports.iter().map(move |&port| SocketAddrV4::new(host, port))).collect()
}

/// Connects to one target after the other at the given tempo, each for at most `wait`.
pub(super) async fn connect(guard: &Guard, targets: &[SocketAddrV4], mut tempo: Tempo, wait: Duration) -> Result<(), BehaviourError> {
    let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut next = targets.iter().cycle();
    while let Some(due) = tempo.due().await {
        for &target in next.by_ref().take(due as usize) {
            guard.check(target)?;
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
            tokio::spawn(async move {
                // Refused, absent and open are all answers.
                let _ = timeout(wait, TcpStream::connect(target)).await;
                drop(place);
            });
        }
    }
    Ok(())
}

async fn syn(guard: Guard, own: Ipv4Addr, targets: &[SocketAddrV4], mut tempo: Tempo) -> Result<(), BehaviourError> {
    let (socket, mut ear) = (SynSocket::open(guard)?, Ear::open()?);
    let from = SocketAddrV4::new(own, rand::random_range(33_000..60_000));
    let mut next = targets.iter().cycle();
    while let Some(due) = tempo.due().await {
        for &target in next.by_ref().take(due as usize) {
            socket.send(from, target)?;
        }
        ear.hear();
    }
    Ok(())
}

async fn udp(guard: &Guard, targets: &[SocketAddrV4], mut tempo: Tempo) -> Result<(), BehaviourError> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(|error| BehaviourError::Io("open a datagram socket", error))?;
    let mut next = targets.iter().cycle();
    while let Some(due) = tempo.due().await {
        for &target in next.by_ref().take(due as usize) {
            guard.check(target)?;
            // One that is lost or refused is an answer as well.
            let _ = socket.send_to(&PROBE, target).await;
        }
    }
    Ok(())
}
