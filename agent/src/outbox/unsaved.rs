//! The newest batches, which the disk has not taken: they are sent from memory all the same.

use std::collections::VecDeque;

use prost::Message;
use vedette_proto::v1::Batch;

/// Most batches that wait in memory while the disk refuses them.
pub const MAX_BATCHES: usize = 30;
/// Most bytes of them, as they would be on disk: a fifth of what the agent may take.
const MAX_BYTES: usize = 4 << 20;

/// Batches in memory, the oldest first. Beyond the limits the caller drops the oldest.
#[derive(Debug, Default)]
pub struct Unsaved {
    batches: VecDeque<(Batch, usize)>,
    bytes: usize,
}

impl Unsaved {
    /// Adds the newest.
    pub fn push(&mut self, batch: Batch) {
        let bytes = batch.encoded_len();
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
    }

    /// Takes out the oldest.
    pub fn take_oldest(&mut self) -> Option<Batch> {
        let (batch, bytes) = self.batches.pop_front()?;
        self.bytes -= bytes;
        Some(batch)
    }

    /// Puts back what was taken out.
    pub fn put_back(&mut self, batch: Batch) {
        let bytes = batch.encoded_len();
        self.bytes += bytes;
        self.batches.push_front((batch, bytes));
    }

    /// The sequence of the oldest.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.batches.front().map(|(batch, _)| batch.sequence)
    }

    /// The first from a sequence on.
    #[must_use]
    pub fn find(&self, from: u64) -> Option<&Batch> {
        self.batches.iter().map(|(batch, _)| batch).find(|batch| batch.sequence >= from)
    }

    /// Whether the oldest must go.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.batches.len() > MAX_BATCHES || (self.bytes > MAX_BYTES && self.batches.len() > 1)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.len()
    }
}
