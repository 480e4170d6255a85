//! How many tokens that nobody knows an address may have reviewed: who shows bad ones is stopped before the API server is asked.

use std::{collections::HashMap, net::IpAddr};

use tokio::time::Instant;

/// Unknown tokens at once from one address. A node shows one; a port-forward brings everybody behind it.
const BURST: f64 = 32.0;
/// And after that so many a second.
const PER_SECOND: f64 = 0.5;
/// Addresses remembered; those that have all their tries back make room, and without room an address shares one budget with others.
const MAX_SOURCES: usize = 4_096;

/// Tries left, and when that was so.
#[derive(Clone, Copy, Debug)]
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn at(self, now: Instant) -> f64 {
        (self.left + PER_SECOND * now.saturating_duration_since(self.at).as_secs_f64()).min(BURST)
    }
}

/// The addresses that showed unknown tokens. `None` stands for those that cannot be told apart.
#[derive(Debug, Default)]
pub(super) struct Sources(HashMap<Option<IpAddr>, Budget>);

impl Sources {
    /// Takes one try of an address; whether it had one.
    pub fn take(&mut self, source: Option<IpAddr>, now: Instant) -> bool {
        let source = self.place(source, now);
        let budget = self.0.entry(source).or_insert(Budget { left: BURST, at: now });
        let left = budget.at(now);
        *budget = Budget { left: if left >= 1.0 { left - 1.0 } else { left }, at: now };
        left >= 1.0
    }

    /// The token was good: the try was none.
    pub fn give_back(&mut self, source: Option<IpAddr>, now: Instant) {
        if let Some(budget) = self.0.get_mut(&source.map(network)) {
            *budget = Budget { left: (budget.at(now) + 1.0).min(BURST), at: now };
        }
    }

    fn place(&mut self, source: Option<IpAddr>, now: Instant) -> Option<IpAddr> {
        let source = source.map(network);
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
            self.0.retain(|_, budget| budget.at(now) < BURST);
            if self.0.len() >= MAX_SOURCES {
                return None;
            }
        }
        source
    }
}

/// Whoever has an IPv6 address has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => std::net::Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u32) -> Option<IpAddr> {
        Some(std::net::Ipv4Addr::from(0x0a00_0000 + last).into())
    }

    #[test]
    fn who_shows_bad_tokens_is_stopped_and_others_are_not() {
        let now = Instant::now();
        let mut sources = Sources::default();

        let flood = (0..1_000).filter(|_| sources.take(address(1), now)).count();

        assert_eq!(flood, 32);
        assert!(sources.take(address(2), now));
        assert!(!sources.take(address(1), now + Duration::from_secs(1)));
        assert!(sources.take(address(1), now + Duration::from_secs(3)));
    }

    #[test]
    fn good_tokens_cost_nothing() {
        let now = Instant::now();
        let mut sources = Sources::default();

        let taken = (0..1_000)
            .filter(|_| {
                let taken = sources.take(address(1), now);
                sources.give_back(address(1), now);
                taken
            })
            .count();

        assert_eq!(taken, 1_000);
    }

    #[test]
    fn addresses_are_bounded() {
        let now = Instant::now();
        let mut sources = Sources::default();

        for last in 0..10_000 {
            sources.take(address(last), now);
        }

        assert!(sources.0.len() <= MAX_SOURCES + 1, "{}", sources.0.len());
    }

    #[test]
    fn a_network_of_ipv6_addresses_is_one_source() {
        let now = Instant::now();
        let mut sources = Sources::default();

        let flood = (0..100u32).filter(|n| sources.take(Some(format!("fd00::{n:x}").parse().unwrap()), now)).count();

        assert_eq!(flood, 32);
    }
}
