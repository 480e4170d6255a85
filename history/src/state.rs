//! What all parts of the history share: which files and segments make up the table now, what is acknowledged, what is wrong.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    files::StoredFile,
    wal::segment::{Gap, Segment},
};

/// Spools remembered per node: a new one is made only when an agent loses its disk.
pub(crate) const SPOOLS_PER_NODE: usize = 4;
/// Nodes remembered; beyond it the one not heard for longest is forgotten, and a resend from it would be stored twice.
pub(crate) const NODES: usize = 20_000;
/// Gaps kept for the table `gaps`, the newest ones.
pub(crate) const GAPS: usize = 10_000;

/// The highest stored sequence per node and spool.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    nodes: HashMap<String, NodeProgress>,
    clock: u64,
}

#[derive(Debug, Default)]
struct NodeProgress {
    /// The one written to last is last.
    spools: Vec<([u8; 16], u64)>,
    touched: u64,
}

impl Progress {
    pub(crate) fn get(&self, node: &str, spool_id: &[u8; 16]) -> u64 {
        let spools = self.nodes.get(node).map_or(&[][..], |node| &node.spools);
        spools.iter().find(|(id, _)| id == spool_id).map_or(0, |&(_, sequence)| sequence)
    }

    pub(crate) fn set(&mut self, node: &str, spool_id: [u8; 16], sequence: u64) {
        self.clock += 1;
        if !self.nodes.contains_key(node) {
            if self.nodes.len() >= NODES
                && let Some(oldest) = self.nodes.iter().min_by_key(|(_, node)| node.touched).map(|(name, _)| name.clone())
            {
                self.nodes.remove(&oldest);
            }
            self.nodes.insert(node.to_owned(), NodeProgress::default());
        }
        let Some(known) = self.nodes.get_mut(node) else { return };
        known.touched = self.clock;
        match known.spools.iter().position(|(id, _)| *id == spool_id) {
            // To the end: a spool that is in use outlives those that were tried since.
            Some(place) => {
                let (_, stored) = known.spools.remove(place);
                known.spools.push((spool_id, sequence.max(stored)));
            }
            None => {
                known.spools.push((spool_id, sequence));
                if known.spools.len() > SPOOLS_PER_NODE {
                    known.spools.remove(0);
                }
            }
        }
    }
}

/// What the table consists of at one instant. Sealing swaps a segment for its files under the write lock, so that a reader
/// sees each row in exactly one of the two.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub files: Vec<Arc<StoredFile>>,
    /// Unsealed, oldest first.
    pub segments: Vec<Arc<Segment>>,
    /// Id of the segment being written, the last of them, if any.
    pub active: Option<u64>,
    /// Gaps of sealed segments.
    pub gaps: Vec<Gap>,
}

/// What went on since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub rows: AtomicU64,
    pub syncs: AtomicU64,
    pub duplicates: AtomicU64,
    pub failed: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// Shared by writer, sealer and readers.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub parts: RwLock<Parts>,
    pub progress: RwLock<Progress>,
    pub counters: Counters,
    problems: Mutex<BTreeMap<&'static str, String>>,
}

impl State {
    pub(crate) fn parts(&self) -> std::sync::RwLockReadGuard<'_, Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn parts_mut(&self) -> std::sync::RwLockWriteGuard<'_, Parts> {
        self.parts.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> std::sync::RwLockReadGuard<'_, Progress> {
        self.progress.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress_mut(&self) -> std::sync::RwLockWriteGuard<'_, Progress> {
        self.progress.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn problems_locked(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// States a problem of one part, or that it is over.
    pub(crate) fn set_problem(&self, part: &'static str, problem: Option<String>) {
        let mut problems = self.problems_locked();
        match problem {
            Some(problem) => {
                if problems.insert(part, problem.clone()).is_none() {
                    tracing::error!(part, %problem, "history has a problem");
                }
            }
            None => {
                if problems.remove(part).is_some() {
                    tracing::info!(part, "history works again");
                }
            }
        }
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems_locked().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_newest_spools() {
        let mut progress = Progress::default();

        for spool in 1..=5u8 {
            progress.set("node-a", [spool; 16], u64::from(spool) * 10);
        }

        assert_eq!(progress.get("node-a", &[1; 16]), 0);
        assert_eq!(progress.get("node-a", &[2; 16]), 20);
        assert_eq!(progress.get("node-a", &[5; 16]), 50);
        assert_eq!(progress.get("node-b", &[5; 16]), 0);
    }

    #[test]
    fn a_spool_in_use_outlives_newer_ones_that_are_not() {
        let mut progress = Progress::default();

        for spool in 1..=20u8 {
            progress.set("node-a", [0; 16], u64::from(spool));
            progress.set("node-a", [spool; 16], 1);
        }
        progress.set("node-a", [0; 16], 7);

        assert_eq!(progress.get("node-a", &[0; 16]), 20);
        assert_eq!(progress.get("node-a", &[1; 16]), 0);
    }
}
