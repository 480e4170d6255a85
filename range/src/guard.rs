//! The one place that says what a behaviour may do: send only to what the run made and only from a namespace the run made, take only a
//! share of the machine, and strain a limit only where there is one.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::linux::fs::MetadataExt,
    path::PathBuf,
};

pub use crate::nets::{BLOCK, Net};
use crate::nets::{Range, RunNets};

/// Most networks of pods that a behaviour may be given.
pub const MAX_NETS: usize = 4;

/// Why a behaviour may not do what it was told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The target is not of the run.
    #[error("refused: {target} is not in {allowed} or a range that belongs to it, the network that this run made")]
    Foreign {
        /// The target.
        target: IpAddr,
        /// What is allowed.
        allowed: Net,
    },
    /// The network named is wider than a run makes, or not from the range's block.
    #[error("refused: {0} is not a /24 inside {BLOCK}")]
    NotARange(Net),
    /// No network was named, or too many.
    #[error("refused: {0} networks are allowed where 1 to {MAX_NETS} belong")]
    Networks(usize),
    /// A behaviour that sends was not told where it may.
    #[error("refused: it would send to {0}, and --allow and --host-namespace do not say that it may")]
    Unbounded(SocketAddr),
    /// The process is in the host's network namespace.
    #[error("refused: this process is in the network namespace it was told to stay out of")]
    HostNamespace,
    /// The process has no address in the run's network: wherever it is, it is not in one of its pods.
    #[error("refused: this process is in no pod of {0}: it would send from {1}")]
    Outside(Net, String),
    /// The namespace could not be looked at.
    #[error("refused: cannot tell the network namespace: {0}")]
    Unknown(String),
    /// Nothing would stop processes from multiplying.
    #[error("refused: no pids limit of at most {0} is in force on this process's cgroup")]
    NoPidsLimit(u64),
    /// Nothing would stop memory from growing.
    #[error("refused: no memory limit of at most {0} MiB is in force on this process's cgroup")]
    NoMemoryLimit(u64),
    /// More memory than its cgroup allows or than half of what the machine has left.
    #[error("refused: {wanted_mib} MiB is more than {room_mib} MiB, {whose}")]
    NoRoom {
        /// What was asked for.
        wanted_mib: u64,
        /// What there is.
        room_mib: u64,
        /// Whose limit it is.
        whose: &'static str,
    },
    /// The directory cannot be filled without filling somebody else's disk.
    #[error("refused: {0} {1}")]
    SharedDisk(PathBuf, String),
}

/// Checked before every connect and every datagram.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Of the run; several when its pods are in more than one /24.
    nets: [Option<RunNets>; MAX_NETS],
    first: RunNets,
}

impl Guard {
    /// A guard for this process.
    ///
    /// # Errors
    /// When the process is in the namespace `host_namespace` (inode of its `ns/net`), or one of `allowed` is not a run's network.
    pub fn new(allowed: &[Net], host_namespace: u64) -> Result<Self, Refusal> {
        let mut nets = [None; MAX_NETS];
        let mut first = None;
        if allowed.len() > nets.len() {
            return Err(Refusal::Networks(allowed.len()));
        }
        for (place, &net) in nets.iter_mut().zip(allowed) {
            let run = RunNets::of(net).ok_or(Refusal::NotARange(net))?;
            *place = Some(run);
            first = first.or(Some(run));
        }
        let first = first.ok_or(Refusal::Networks(0))?;
        if own_namespace()? == host_namespace {
            return Err(Refusal::HostNamespace);
        }
        Ok(Self { nets, first })
    }

    /// Whether this target may be sent to.
    ///
    /// # Errors
    /// When it is not one of the run's own addresses.
    pub fn check(&self, target: impl Into<SocketAddr>) -> Result<(), Refusal> {
        self.check_address(target.into().ip())
    }

    /// Whether this address may be sent to, or said to be sent from.
    ///
    /// # Errors
    /// When it is not one of the run's own addresses.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.nets.iter().flatten().any(|nets| nets.contains(address)) {
            return Ok(());
        }
        Err(Refusal::Foreign { target: address, allowed: self.first.pods() })
    }

    /// The pod's own address, which says that this process is in a pod of the run. Nothing is sent.
    ///
    /// # Errors
    /// When the way to the run's network begins at an address that is not in it: the host, or somebody else's container.
    pub fn own_address(&self) -> Result<Ipv4Addr, Refusal> {
        let pods = self.first.pods();
        // Connecting a datagram socket only looks the way up.
        let local = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .and_then(|socket| socket.connect((pods.host(1), 9)).and_then(|()| socket.local_addr()))
            .map_err(|error| Refusal::Outside(pods, format!("nowhere ({error})")))?;
        match local.ip() {
            IpAddr::V4(address) if self.nets.iter().flatten().any(|nets| nets.pods().contains(address)) => Ok(address),
            other => Err(Refusal::Outside(pods, other.to_string())),
        }
    }

    /// The network of the run's pods.
    #[must_use]
    pub const fn allowed(&self) -> Net {
        self.first.pods()
    }

    /// One of the run's ranges.
    #[must_use]
    pub fn range(&self, range: Range) -> Net {
        self.first.range(range)
    }

    /// The same pod over IPv6.
    #[must_use]
    pub fn over_v6(&self, target: SocketAddr) -> SocketAddr {
        match target {
            SocketAddr::V4(target) => SocketAddr::new(self.first.address6(*target.ip()).into(), target.port()),
            SocketAddr::V6(_) => target,
        }
    }
}

/// Inode of this process's network namespace.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_namespace() -> Result<u64, Refusal> {
    std::fs::metadata("/proc/self/ns/net").map(|namespace| namespace.st_ino()).map_err(|error| Refusal::Unknown(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(nets: &[&str]) -> Result<Guard, Refusal> {
        let nets: Vec<Net> = nets.iter().map(|net| net.parse().unwrap()).collect();
        Guard::new(&nets, 0)
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn only_the_runs_own_network_may_be_sent_to() {
        let guard = guard(&["10.213.5.0/24"]).unwrap();

        for target in ["10.213.5.9:80", "10.215.5.3:22", "[fdd5:7665:6465:5::9]:80"] {
            assert_eq!(guard.check(at(target)), Ok(()), "{target}");
        }
        let foreign = ["10.213.6.9:80", "127.0.0.1:80", "192.0.2.1:443", "10.212.6.9:80", "0.0.0.0:1", "10.213.5.255:1", "[::1]:80"];
        for target in foreign {
            assert!(matches!(guard.check(at(target)), Err(Refusal::Foreign { .. })), "{target}");
        }
    }

    #[test]
    fn several_networks_of_pods_may_be_named_but_not_none() {
        let two = guard(&["10.213.5.0/24", "10.213.9.0/24"]).unwrap();

        assert_eq!(two.check(at("10.213.9.1:1")), Ok(()));
        assert!(two.check(at("10.213.7.1:1")).is_err());
        assert_eq!(guard(&[]).unwrap_err(), Refusal::Networks(0));
        assert_eq!(guard(&["10.213.5.0/24"; MAX_NETS + 1]).unwrap_err(), Refusal::Networks(MAX_NETS + 1));
    }

    #[test]
    fn a_pod_has_the_same_number_over_ipv6() {
        let guard = guard(&["10.213.5.0/24"]).unwrap();

        let target = guard.over_v6(at("10.213.5.16:9000"));

        assert_eq!(target, at("[fdd5:7665:6465:5::10]:9000"));
        assert_eq!(guard.check(target), Ok(()));
        assert!(guard.check(guard.over_v6(at("10.213.6.16:80"))).is_err());
    }

    #[test]
    fn the_hosts_namespace_is_refused() {
        let own = own_namespace().unwrap();

        assert_eq!(Guard::new(&["10.213.5.0/24".parse().unwrap()], own).unwrap_err(), Refusal::HostNamespace);
    }

    #[test]
    fn outside_of_the_runs_pods_there_is_no_own_address() {
        // Whatever runs this test has no address of a run, also where the namespace to stay out of is not known.
        let guard = guard(&["10.213.5.0/24"]).unwrap();

        assert!(matches!(guard.own_address(), Err(Refusal::Outside(..))));
    }

    #[test]
    fn a_network_that_no_run_makes_is_refused() {
        for net in ["10.213.0.0/16", "192.168.1.0/24", "0.0.0.0/0", "10.213.5.0/25"] {
            assert!(matches!(guard(&[net]), Err(Refusal::NotARange(_))), "{net}");
        }
    }
}
