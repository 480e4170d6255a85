//! The one place that says whether a behaviour may send to an address: only to what the run made, and only from a namespace the run made.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    os::linux::fs::MetadataExt,
    str::FromStr,
};

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    base: Ipv4Addr,
    prefix: u8,
}

impl Net {
    /// The /24 that holds this address.
    #[must_use]
    pub fn slash24(inside: Ipv4Addr) -> Self {
        let [a, b, c, _] = inside.octets();
        Self { base: Ipv4Addr::new(a, b, c, 0), prefix: 24 }
    }

    /// Host `number` of the network.
    #[must_use]
    pub fn host(self, number: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.base.octets();
        Ipv4Addr::new(a, b, c, number)
    }

    /// Length of the prefix in bits.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the address is in the network.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        u32::from(address) & mask == u32::from(self.base) & mask
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (base, prefix) = text.split_once('/').ok_or_else(|| format!("{text:?} is not a network such as 10.213.5.0/24"))?;
        let base = base.parse().map_err(|_| format!("{base:?} is not an IPv4 address"))?;
        let prefix = prefix.parse().ok().filter(|&prefix| prefix <= 32).ok_or_else(|| format!("{prefix:?} is not a prefix length"))?;
        Ok(Self { base, prefix })
    }
}

/// Why a behaviour may not send.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The target is not of the run.
    #[error("refused: {target} is not in {allowed}, the network that this run made")]
    Foreign {
        /// The target.
        target: Ipv4Addr,
        /// What is allowed.
        allowed: Net,
    },
    /// The network named is wider than a run makes, or not from the range's block.
    #[error("refused: {0} is not a /24 inside {BLOCK}")]
    NotARange(Net),
    /// The process is in the host's network namespace.
    #[error("refused: this process is in the network namespace it was told to stay out of")]
    HostNamespace,
    /// The namespace could not be looked at.
    #[error("refused: cannot tell the network namespace: {0}")]
    Unknown(String),
}

/// The block that every run takes its /24 from.
pub const BLOCK: &str = "10.213.0.0/16";

/// Checked before every connect.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    allowed: Net,
}

impl Guard {
    /// A guard for this process.
    ///
    /// # Errors
    /// When the process is in the namespace `host_namespace` (inode of its `ns/net`), or `allowed` is not a run's network.
    pub fn new(allowed: Net, host_namespace: u64) -> Result<Self, Refusal> {
        let block: Net = BLOCK.parse().map_err(Refusal::Unknown)?;
        if allowed.prefix != 24 || !block.contains(allowed.base) {
            return Err(Refusal::NotARange(allowed));
        }
        if own_namespace()? == host_namespace {
            return Err(Refusal::HostNamespace);
        }
        Ok(Self { allowed })
    }

    /// Whether this target may be sent to.
    ///
    /// # Errors
    /// When it is not in the run's own network.
    pub fn check(&self, target: SocketAddrV4) -> Result<(), Refusal> {
        if self.allowed.contains(*target.ip()) {
            return Ok(());
        }
        Err(Refusal::Foreign { target: *target.ip(), allowed: self.allowed })
    }

    /// The run's network.
    #[must_use]
    pub const fn allowed(&self) -> Net {
        self.allowed
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

    #[test]
    fn only_the_runs_own_network_may_be_sent_to() {
        let guard = Guard::new("10.213.5.0/24".parse().unwrap(), 0).unwrap();

        assert_eq!(guard.check("10.213.5.9:80".parse().unwrap()), Ok(()));
        for target in ["10.213.6.9:80", "127.0.0.1:80", "192.0.2.1:443", "10.212.5.9:80", "0.0.0.0:1"] {
            assert!(matches!(guard.check(target.parse().unwrap()), Err(Refusal::Foreign { .. })), "{target}");
        }
    }

    #[test]
    fn the_hosts_namespace_is_refused() {
        let own = own_namespace().unwrap();

        assert_eq!(Guard::new("10.213.5.0/24".parse().unwrap(), own).unwrap_err(), Refusal::HostNamespace);
    }

    #[test]
    fn a_network_that_no_run_makes_is_refused() {
        for net in ["10.213.0.0/16", "192.168.1.0/24", "0.0.0.0/0", "10.213.5.0/25"] {
            assert!(matches!(Guard::new(net.parse().unwrap(), 0), Err(Refusal::NotARange(_))), "{net}");
        }
    }
}
