//! Holes in what is held: each is stated with the batch that follows it.

use std::collections::BTreeMap;

use vedette_proto::v1::Dropped;

use super::frame::Gap;

/// Holes by the sequence that follows them. When the oldest batches are dropped, their holes become one: there are never more than batches.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<u64, Dropped>);

impl Gaps {
    /// As they were saved.
    #[must_use]
    pub fn restore(saved: Vec<Gap>) -> Self {
        Self(saved.into_iter().filter_map(|gap| Some((gap.before, gap.dropped?))).collect())
    }

    /// To be saved.
    #[must_use]
    pub fn saved(&self) -> Vec<Gap> {
        self.0.iter().map(|(&before, dropped)| Gap { before, dropped: Some(dropped.clone()) }).collect()
    }

    /// States a hole before a sequence.
    pub fn add(&mut self, before: u64, dropped: &Dropped) {
        let all = merged(self.0.remove(&before), Some(dropped));
        self.0.extend(all.map(|all| (before, all)));
    }

    /// States a hole before a sequence, with every other one from `from` on: the batches that those were to be stated with are gone.
    pub fn add_over(&mut self, from: u64, before: u64, dropped: &Dropped) {
        let over: Vec<u64> = self.0.range(from..=before).map(|(&at, _)| at).collect();
        let mut all = None;
        for at in over {
            all = merged(all, self.0.remove(&at).as_ref());
        }
        self.0.extend(merged(all, Some(dropped)).map(|all| (before, all)));
    }

    /// What is missing between two sequences, both included.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Option<Dropped> {
        self.0.range(from..=to).fold(None, |all, (_, dropped)| merged(all, Some(dropped)))
    }

    /// Forgets the holes that were stated with a batch up to this sequence. Says whether there were any.
    pub fn forget(&mut self, acknowledged: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|&following, _| following > acknowledged);
        self.0.len() != before
    }
}

/// Two holes as one, with the reasons of both.
fn merged(one: Option<Dropped>, other: Option<&Dropped>) -> Option<Dropped> {
    let (mut one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or_else(|| other.cloned()),
    };
    one.batches += other.batches;
    one.observations += other.observations;
    one.first_unix_ms = one.first_unix_ms.min(other.first_unix_ms);
    one.last_unix_ms = one.last_unix_ms.max(other.last_unix_ms);
    for reason in other.reason.split("; ").filter(|reason| !one.reason.contains(reason)).collect::<Vec<_>>() {
        one.reason = format!("{}; {reason}", one.reason);
    }
    Some(one)
}
