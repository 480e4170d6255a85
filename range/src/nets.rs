//! The addresses of a run: a /24 for its pods, and what follows from it. Nothing else belongs to a run.
//!
//! The pods of `10.213.X.0/24` have an IPv6 address each in `fdd5:7665:6465:X::/64` with the same host number, and three more /24s lie
//! behind the bridge, one for each way in which an address can fail to answer: `10.214.X.0/24` refuses, `10.215.X.0/24` is silent,
//! `10.212.X.0/24` is forbidden by an answer that says so. Those that answer nothing and those behind a default-deny policy that drops
//! look the same from a pod: both are the silent ones.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The block that every run takes the /24 of its pods from.
pub const BLOCK: &str = "10.213.0.0/16";
/// What a pod reaches through its bridge: the ranges of every run, and no more.
pub const REACH: &str = "10.212.0.0/14";
/// The first 48 bits of every run's IPv6 addresses: locally assigned (RFC 4193), "vede" in the middle.
const PREFIX6: [u16; 3] = [0xfdd5, 0x7665, 0x6465];

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

    /// The network's own address.
    #[must_use]
    pub const fn base(self) -> Ipv4Addr {
        self.base
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

/// Where a scan goes: what becomes of a connection to an address there.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The pods' own /24: a few refuse, most are absent (nobody answers for the address), and the pods themselves unless left out
    Pods,
    /// Every address answers, every port is closed: resets, and port-unreachable for datagrams
    Refusing,
    /// Nothing comes back: a firewall or a default-deny policy that drops
    Silent,
    /// A default-deny policy that says so: ICMP "administratively prohibited", at the kernel's rate of about one a second
    Denied,
}

/// The networks of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunNets {
    pods: Net,
}

impl RunNets {
    /// The networks of the run whose pods are in this /24; `None` when no run has such.
    #[must_use]
    pub fn of(pods: Net) -> Option<Self> {
        let block: Net = BLOCK.parse().ok()?;
        (pods.prefix == 24 && block.contains(pods.base)).then_some(Self { pods: Net::slash24(pods.base) })
    }

    /// Where the pods are.
    #[must_use]
    pub const fn pods(self) -> Net {
        self.pods
    }

    /// A range by what it does.
    #[must_use]
    pub fn range(self, range: Range) -> Net {
        let second = match range {
            Range::Pods => return self.pods,
            Range::Refusing => 214,
            Range::Silent => 215,
            Range::Denied => 212,
        };
        let [a, _, c, _] = self.pods.base.octets();
        Net::slash24(Ipv4Addr::new(a, second, c, 0))
    }

    /// The IPv6 address of the pod with this IPv4 address: the same host number. The prefix is 64 bits long.
    #[must_use]
    pub fn address6(self, address: Ipv4Addr) -> Ipv6Addr {
        let [_, _, c, host] = address.octets();
        let [a, b, d] = PREFIX6;
        Ipv6Addr::new(a, b, d, u16::from(c), 0, 0, 0, u16::from(host))
    }

    /// Whether the address is one of the run's, and of one machine only: no broadcast.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mut ranges = [Range::Pods, Range::Refusing, Range::Silent, Range::Denied].into_iter();
                ranges.any(|range| self.range(range).contains(address)) && !matches!(address.octets()[3], 0 | 255)
            }
            IpAddr::V6(address) => address.segments()[..4] == self.address6(self.pods.base).segments()[..4],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets() -> RunNets {
        RunNets::of("10.213.5.0/24".parse().unwrap()).unwrap()
    }

    #[test]
    fn everything_follows_from_the_pods_network() {
        let ranges = [Range::Pods, Range::Refusing, Range::Silent, Range::Denied].map(|range| nets().range(range).to_string());

        assert_eq!(ranges, ["10.213.5.0/24", "10.214.5.0/24", "10.215.5.0/24", "10.212.5.0/24"]);
        assert_eq!(nets().address6("10.213.5.17".parse().unwrap()).to_string(), "fdd5:7665:6465:5::11");
        let reach: Net = REACH.parse().unwrap();
        assert!(["10.212.0.1", "10.215.255.254"].iter().all(|address| reach.contains(address.parse().unwrap())));
        assert!(["10.211.255.254", "10.216.0.1"].iter().all(|address| !reach.contains(address.parse().unwrap())));
    }

    #[test]
    fn what_is_not_the_runs_is_not_in_it() {
        let own = ["10.213.5.9", "10.214.5.1", "10.215.5.254", "10.212.5.77", "fdd5:7665:6465:5::9", "::ffff:10.213.5.9"];
        let foreign = [
            "10.213.6.9",
            "10.214.6.1",
            "10.213.5.0",
            "10.213.5.255",
            "10.215.5.255",
            "127.0.0.1",
            "192.0.2.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "fdd5:7665:6465:6::9",
            "::ffff:192.0.2.1",
            "2001:db8::1",
        ];

        assert!(own.iter().all(|address| nets().contains(address.parse().unwrap())));
        for address in foreign {
            assert!(!nets().contains(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_network_that_no_run_makes_has_none() {
        for net in ["10.213.0.0/16", "192.168.1.0/24", "0.0.0.0/0", "10.213.5.0/25", "10.214.5.0/24"] {
            assert_eq!(RunNets::of(net.parse().unwrap()), None, "{net}");
        }
    }
}
