//! What is remembered of reviewed tokens, by their SHA-256: bounded, and never longer than the token itself is good.

use std::{collections::HashMap, sync::Arc};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Caller;
use crate::ingest::Refused;

/// A token's SHA-256: the token itself is not kept.
pub(super) type Key = [u8; 32];

/// The key of a token.
pub(super) fn key(token: &str) -> Key {
    Sha256::digest(token.as_bytes()).into()
}

/// A token that the API server accepted.
#[derive(Clone, Debug)]
pub(super) struct Good {
    /// Whose it is.
    pub caller: Arc<Caller>,
    /// When the API server said so.
    pub reviewed: Instant,
    /// Until when that is not asked again.
    pub until: Instant,
    /// When the token ends, whatever the API server says. `None`: it does not say.
    pub expires: Option<Instant>,
}

/// What is known of a token.
#[derive(Debug)]
pub(super) enum Found {
    /// Accepted not long ago.
    Good(Good),
    /// Accepted once; to be reviewed again.
    Stale(Good),
    /// Refused not long ago, or ended.
    Bad(Refused),
    /// Nothing.
    Unknown,
}

/// Accepted and refused tokens, apart: who shows bad ones crowds out no good one.
#[derive(Debug)]
pub(super) struct Cache {
    good: HashMap<Key, Good>,
    bad: HashMap<Key, (Refused, Instant)>,
    /// Most of each.
    limit: usize,
}

impl Cache {
    pub fn new(limit: usize) -> Self {
        Self { good: HashMap::new(), bad: HashMap::new(), limit }
    }

    /// What is known at an instant.
    pub fn find(&mut self, key: &Key, now: Instant) -> Found {
        if let Some(good) = self.good.get(key) {
            return if good.expires.is_some_and(|end| end <= now) {
                self.good.remove(key);
                Found::Bad(super::reviews::expired())
            } else if now < good.until {
                Found::Good(good.clone())
            } else {
                Found::Stale(good.clone())
            };
        }
        match self.bad.get(key) {
            Some((refused, until)) if now < *until => Found::Bad(refused.clone()),
            Some(_) => {
                self.bad.remove(key);
                Found::Unknown
            }
            None => Found::Unknown,
        }
    }

    /// The token was accepted.
    pub fn accept(&mut self, key: Key, good: Good) {
        self.bad.remove(&key);
        if self.good.len() >= self.limit && !self.good.contains_key(&key) {
            let oldest = self.good.iter().min_by_key(|(_, good)| good.reviewed).map(|(key, _)| *key);
            oldest.and_then(|key| self.good.remove(&key));
        }
        self.good.insert(key, good);
    }

    /// The token was refused, and is not asked about before `until`.
    pub fn refuse(&mut self, key: Key, refused: Refused, until: Instant) {
        self.good.remove(&key);
        if self.bad.len() >= self.limit && !self.bad.contains_key(&key) {
            let oldest = self.bad.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| *key);
            oldest.and_then(|key| self.bad.remove(&key));
        }
        self.bad.insert(key, (refused, until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::Role, *};
    use crate::counters::Refusal;

    fn good(now: Instant, expires: Option<u64>) -> Good {
        let caller = Arc::new(Caller { role: Role::Viewer, name: "v".into(), node: None });
        let seconds = |seconds| now + Duration::from_secs(seconds);
        Good { caller, reviewed: now, until: seconds(45), expires: expires.map(seconds) }
    }

    #[test]
    fn a_good_token_is_stale_after_its_time_and_bad_once_it_ended() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut cache = Cache::new(10);
        cache.accept(key("a"), good(now, Some(60)));
        cache.accept(key("b"), good(now, Some(20)));

        assert!(matches!(cache.find(&key("a"), after(44)), Found::Good(_)));
        assert!(matches!(cache.find(&key("a"), after(45)), Found::Stale(_)));
        assert!(matches!(cache.find(&key("a"), after(60)), Found::Bad(refused) if refused.reason == Refusal::Expired));
        assert!(matches!(cache.find(&key("b"), after(20)), Found::Bad(_)), "ends before its review is old");
        assert!(matches!(cache.find(&key("c"), now), Found::Unknown));
    }

    #[test]
    fn refused_tokens_are_bounded_and_crowd_out_no_good_one() {
        let now = Instant::now();
        let mut cache = Cache::new(3);
        cache.accept(key("good"), good(now, None));

        for n in 0..100u64 {
            let refused = Refused::new(Refusal::Unauthenticated, "no");
            cache.refuse(key(&format!("bad {n}")), refused, now + Duration::from_secs(10 + n));
        }

        assert_eq!((cache.good.len(), cache.bad.len()), (1, 3));
        assert!(matches!(cache.find(&key("good"), now), Found::Good(_)));
        assert!(matches!(cache.find(&key("bad 99"), now), Found::Bad(_)));
        assert!(matches!(cache.find(&key("bad 0"), now), Found::Unknown));
    }

    #[test]
    fn good_tokens_are_bounded_and_the_longest_unreviewed_goes_first() {
        let now = Instant::now();
        let mut cache = Cache::new(2);

        for n in 0..3 {
            cache.accept(key(&n.to_string()), good(now + Duration::from_secs(n), None));
        }

        assert_eq!(cache.good.len(), 2);
        assert!(matches!(cache.find(&key("0"), now), Found::Unknown));
    }

    #[test]
    fn a_refusal_takes_the_place_of_what_was_good() {
        let now = Instant::now();
        let mut cache = Cache::new(2);
        cache.accept(key("a"), good(now, None));

        cache.refuse(key("a"), Refused::new(Refusal::Revoked, "revoked"), now + Duration::from_secs(10));

        assert!(matches!(cache.find(&key("a"), now), Found::Bad(refused) if refused.reason == Refusal::Revoked));
        assert!(matches!(cache.find(&key("a"), now + Duration::from_secs(10)), Found::Unknown));
    }
}
