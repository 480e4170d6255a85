//! Batches on disk until they are acknowledged: bounded, and the same spool after a kill.
//!
//! A full spool drops its oldest segment. A disk that refuses writes leaves the newest batches in memory, from where they are sent as well; of
//! those, too, the oldest are dropped beyond a limit. Both are counted and stated in the `Batch.dropped` of the batch that follows the hole.

mod containers;
mod directory;
mod durable;
mod frame;
mod gaps;
mod queue;
mod segment;
mod segments;
#[cfg(test)]
mod tests;
mod unsaved;

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use vedette_proto::v1::{Batch, ContainerAdded, ContainerRemoved};

use crate::{config::OutboxConfig, metrics::Metrics};
use queue::Queue;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file system refuses.
    #[error("spool {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Made by a version that writes something else.
    #[error("spool {path} is of another version ({found:?}, this agent writes {:?})", frame::VERSION.trim_end())]
    Version {
        /// The directory.
        path: PathBuf,
        /// What its `version` file says.
        found: String,
    },
    /// Another agent has it open.
    #[error("spool {path} is in use by another agent")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// The spool. Appended to by the sampling thread, read by the uplink.
#[derive(Debug)]
pub struct Outbox {
    spool_id: [u8; 16],
    queue: Mutex<Queue>,
    /// Tells the uplink that there is something new.
    pub appended: Notify,
}

impl Outbox {
    /// Opens a spool, or makes one.
    ///
    /// # Errors
    /// [`OutboxError`] names the directory.
    pub fn open(config: OutboxConfig, boot_id: &str, metrics: Metrics) -> Result<Self, OutboxError> {
        let queue = Queue::open(config, boot_id, metrics)?;
        Ok(Self { spool_id: queue.spool_id(), queue: Mutex::new(queue), appended: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in there panics half way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Random identity of the spool, made with it.
    #[must_use]
    pub fn spool_id(&self) -> [u8; 16] {
        self.spool_id
    }

    /// The containers announced and not removed, and the first reference that was never used.
    #[must_use]
    pub fn containers(&self) -> (Vec<ContainerAdded>, u32) {
        let queue = self.lock();
        (queue.containers.alive(), queue.containers.next_reference())
    }

    /// Takes a batch, gives it its sequence, and writes it. A batch that cannot be written waits in memory.
    pub fn append(&self, batch: Batch, now_unix_ms: i64) {
        self.lock().append(batch, now_unix_ms);
        self.appended.notify_one();
    }

    /// The first batch held from this sequence on, with the hole before it stated. Damaged and refused ones are left out.
    ///
    /// # Errors
    /// The file system's.
    pub fn read(&self, from: u64) -> std::io::Result<Option<Batch>> {
        self.lock().read(from)
    }

    /// Every container that a batch may refer to: those alive, and those whose removal is not acknowledged. Also the ones that a batch still
    /// held will announce: which batches the other side has is known only after it answered.
    #[must_use]
    pub fn referred(&self) -> Vec<ContainerAdded> {
        self.lock().containers.referred()
    }

    /// The other side says up to where it has everything. Returns the containers that it has already seen removed, and was named again: which
    /// those are is known only now.
    pub fn welcomed(&self, sequence: u64) -> Vec<ContainerRemoved> {
        self.lock().welcomed(sequence)
    }

    /// Changes whenever batches that were not acknowledged are dropped.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.lock().drops()
    }

    /// The other side refused the first batch held from this sequence on. After three times in a row it is given up.
    pub fn refused(&self, from: u64, reason: &str) {
        self.lock().refused(from, reason);
    }

    /// Whether the first batch held from this sequence on was refused before: then it is sent alone.
    #[must_use]
    pub fn suspects(&self, from: u64) -> bool {
        self.lock().suspects(from)
    }

    /// Everything up to this sequence is durable elsewhere: it is deleted here.
    pub fn acknowledge(&self, sequence: u64) {
        self.lock().acknowledge(sequence);
    }

    /// Whether nothing waits, sent or not.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.waiting() == 0
    }

    /// Batches that wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lock().waiting()
    }

    /// The highest acknowledged sequence known.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.lock().acknowledged()
    }
}
