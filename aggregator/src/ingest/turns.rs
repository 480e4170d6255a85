//! Who may speak for a spool: the newest stream, once the batches of the one before it are finished.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedMutexGuard, watch};

use crate::{counters::Refusal, ingest::Refused};

/// A spool's earlier stream finishes its batches within a few group commits; longer than this means that history hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Spools of one node with a stream at once. An agent has one; one that was remade while its old stream lingers has two.
const MAX_SPOOLS: usize = 16;

type Spool = (String, [u8; 16]);

/// The spools with an open stream; as many as there are streams.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<Spool, Arc<Entry>>>);

#[derive(Debug)]
struct Entry {
    newest: watch::Sender<u64>,
    floor: Arc<tokio::sync::Mutex<()>>,
}

/// The right to speak for a spool; given back when dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    spool: Spool,
    stream: u64,
    newest: watch::Receiver<u64>,
    _floor: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Tells the spool's present stream to end, and waits until it has.
    ///
    /// # Errors
    /// A still newer stream came, or the earlier one does not finish.
    pub async fn take(&self, node: &str, spool_id: [u8; 16], stream: u64) -> Result<Turn<'_>, Refused> {
        let spool = (node.to_owned(), spool_id);
        let (mut turn, floor) = {
            let mut spools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !spools.contains_key(&spool) && spools.keys().filter(|(of, _)| of == node).count() >= MAX_SPOOLS {
                return Err(Refused::new(Refusal::Limit, format!("{MAX_SPOOLS} spools of this node have a stream already")));
            }
            let fresh = || Arc::new(Entry { newest: watch::Sender::new(stream), floor: Arc::default() });
            let entry = spools.entry(spool.clone()).or_insert_with(fresh);
            entry.newest.send_modify(|newest| *newest = stream.max(*newest));
            let turn = Turn { turns: self, spool, stream, newest: entry.newest.subscribe(), _floor: None };
            (turn, Arc::clone(&entry.floor))
        };
        let wait = || Refused::new(Refusal::Unavailable, "an earlier stream of this spool has not finished");
        turn._floor = Some(tokio::time::timeout(PATIENCE, floor.lock_owned()).await.map_err(|_| wait())?);
        if turn.is_over() { Err(superseded()) } else { Ok(turn) }
    }
}

impl Turn<'_> {
    /// Waits until a newer stream wants the turn.
    pub async fn over(&mut self) -> Refused {
        let stream = self.stream;
        // The sender lives as long as the entry, and the entry as long as a turn.
        let _ = self.newest.wait_for(|newest| *newest != stream).await;
        superseded()
    }

    fn is_over(&self) -> bool {
        *self.newest.borrow() != self.stream
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut spools = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_over() {
            spools.remove(&self.spool);
        }
    }
}

fn superseded() -> Refused {
    Refused::new(Refusal::Superseded, "a newer stream of the same spool took over")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_stream_waits_for_the_one_before_it() {
        let turns = Turns::default();
        let mut first = turns.take("n", [1; 16], 1).await.unwrap();

        let second = turns.take("n", [1; 16], 2);
        tokio::pin!(second);
        let before = futures::poll!(&mut second).is_pending();
        let told = first.over().await;
        drop(first);
        let after = second.await;

        assert!(before);
        assert_eq!(told.reason, Refusal::Superseded);
        assert!(after.is_ok());
    }

    #[tokio::test]
    async fn one_node_has_so_many_streams_and_leaves_room_for_others() {
        let turns = Turns::default();

        let mut held = Vec::new();
        for spool in 0..16 {
            held.push(turns.take("n", [spool; 16], u64::from(spool)).await.unwrap());
        }
        let beyond = turns.take("n", [16; 16], 16).await.err().unwrap();
        let other = turns.take("m", [16; 16], 17).await;

        assert_eq!(beyond.reason, Refusal::Limit);
        assert!(other.is_ok());
        held.pop();
        assert!(turns.take("n", [16; 16], 18).await.is_ok());
    }

    #[tokio::test]
    async fn spools_do_not_wait_for_each_other_and_leave_nothing_behind() {
        let turns = Turns::default();

        let one = turns.take("n", [1; 16], 1).await.unwrap();
        let other = turns.take("n", [2; 16], 2).await.unwrap();
        drop((one, other));

        assert!(turns.0.lock().unwrap().is_empty());
    }
}
