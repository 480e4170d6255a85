//! The containers that batches may refer to, as Hello names them.

use std::collections::BTreeMap;

use vedette_proto::v1::{Batch, ContainerAdded, ContainerRemoved};

use super::frame::Header;

/// Most containers that Hello names: the aggregator takes no more from one node.
const MAX_REFERRED: usize = 10_000;

/// Every container that is alive, or whose removal is not acknowledged: at most what the batches held announce.
#[derive(Debug)]
pub struct Containers {
    known: BTreeMap<u32, Known>,
    next_reference: u32,
}

#[derive(Debug)]
struct Known {
    added: ContainerAdded,
    /// The batch that removed it, and how.
    removed_in: Option<(u64, ContainerRemoved)>,
}

impl Default for Containers {
    fn default() -> Self {
        Self { known: BTreeMap::new(), next_reference: 1 }
    }
}

impl Containers {
    /// Takes over what a segment begins with.
    pub fn adopt(&mut self, header: Header) {
        for added in header.containers {
            self.known.entry(added.container_ref).or_insert(Known { added, removed_in: None });
        }
        self.next_reference = self.next_reference.max(header.next_reference);
    }

    /// Takes note of what a batch announces and removes.
    pub fn note(&mut self, batch: &Batch) {
        for added in &batch.added {
            self.next_reference = self.next_reference.max(added.container_ref.saturating_add(1));
            self.known.insert(added.container_ref, Known { added: added.clone(), removed_in: None });
        }
        for removed in &batch.removed {
            if let Some(known) = self.known.get_mut(&removed.container_ref) {
                known.removed_in = Some((batch.sequence, *removed));
            }
        }
    }

    /// The first reference that was never used.
    #[must_use]
    pub fn next_reference(&self) -> u32 {
        self.next_reference
    }

    /// Leaves out references that may have been used without a trace of it here.
    pub fn skip_references(&mut self, count: u32) {
        self.next_reference = self.next_reference.saturating_add(count);
    }

    /// Those announced and not removed.
    #[must_use]
    pub fn alive(&self) -> Vec<ContainerAdded> {
        self.known.values().filter(|known| known.removed_in.is_none()).map(|known| known.added.clone()).collect()
    }

    /// Those that a batch from this sequence on may refer to.
    #[must_use]
    pub fn referred_from(&self, sequence: u64) -> Vec<ContainerAdded> {
        let ended_before = |known: &&Known| known.removed_in.as_ref().is_some_and(|(removed_in, _)| *removed_in < sequence);
        self.known.values().filter(|known| !ended_before(known)).map(|known| known.added.clone()).collect()
    }

    /// Those removed by a batch between two sequences, the second excluded.
    pub fn removed_between(&self, from: u64, to: u64) -> impl Iterator<Item = ContainerRemoved> {
        let removed = self.known.values().filter_map(|known| known.removed_in.as_ref());
        removed.filter(move |(removed_in, _)| (from..to).contains(removed_in)).map(|(_, removed)| *removed)
    }

    /// Those that a batch may refer to, the living first.
    #[must_use]
    pub fn referred(&self) -> Vec<ContainerAdded> {
        let ended = self.known.values().filter(|known| known.removed_in.is_some());
        let alive = self.known.values().filter(|known| known.removed_in.is_none());
        alive.chain(ended).take(MAX_REFERRED).map(|known| known.added.clone()).collect()
    }

    /// Those removed by a batch up to this sequence.
    #[must_use]
    pub fn removed_up_to(&self, sequence: u64) -> Vec<ContainerRemoved> {
        let removed = self.known.values().filter_map(|known| known.removed_in.as_ref());
        removed.filter(|(removed_in, _)| *removed_in <= sequence).map(|(_, removed)| *removed).collect()
    }

    /// Forgets those removed by a batch up to this sequence: acknowledged, or lost, and then the aggregator ends what Hello does not name.
    pub fn forget_removed(&mut self, sequence: u64) {
        self.known.retain(|_, known| known.removed_in.as_ref().is_none_or(|(removed_in, _)| *removed_in > sequence));
    }
}
