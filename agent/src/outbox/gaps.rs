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
        let mut all = self.0.remove(&before);
        merge(&mut all, dropped);
        self.0.extend(all.map(|all| (before, all)));
    }

    /// States a hole before a sequence, and every earlier one with it: the batches that they were to be stated with are gone.
    pub fn add_to_all_before(&mut self, before: u64, dropped: &Dropped) {
        let later = self.0.split_off(&before.saturating_add(1));
        let mut all = None;
        for earlier in std::mem::replace(&mut self.0, later).values().chain([dropped]) {
            merge(&mut all, earlier);
        }
        self.0.extend(all.map(|all| (before, all)));
    }

    /// What is missing between two sequences, both included.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Option<Dropped> {
        let mut all = None;
        for (_, dropped) in self.0.range(from..=to) {
            merge(&mut all, dropped);
        }
        all
    }

    /// Forgets the holes that were stated with a batch up to this sequence. Says whether there were any.
    pub fn forget(&mut self, acknowledged: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|&following, _| following > acknowledged);
        self.0.len() != before
    }
}

/// Adds one hole to another; the reason is that of the first.
pub fn merge(into: &mut Option<Dropped>, more: &Dropped) {
    let Some(dropped) = into else {
        *into = Some(more.clone());
        return;
    };
    dropped.batches += more.batches;
    dropped.observations += more.observations;
    dropped.first_unix_ms = dropped.first_unix_ms.min(more.first_unix_ms);
    dropped.last_unix_ms = dropped.last_unix_ms.max(more.last_unix_ms);
}
