//! The door: open, append, read, maintain, close.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use datafusion::prelude::SessionContext;
use tokio::sync::{Notify, mpsc, oneshot};
use vedette_proto::v1::Selector;

use crate::{
    Config, HistoryError, StoredBatch, dir,
    state::State,
    table,
    wal::{
        record::Draft,
        replay,
        writer::{Command, QUEUE, Writer},
    },
};

/// Rows that retention must spare.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Protected {
    /// From here, Unix ms, inclusive.
    pub start_unix_ms: i64,
    /// Up to here, Unix ms, exclusive; `i64::MAX` for no end.
    pub end_unix_ms: i64,
    /// Whose rows: every field that is set must match; all empty means everybody's. A container id may be a prefix.
    pub selector: Selector,
}

/// How the history stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Observations stored, sealed or not.
    pub rows: u64,
    /// Bytes of sealed files.
    pub bytes: u64,
    /// Bytes of the log not yet sealed.
    pub wal_bytes: u64,
    /// Observations not yet sealed.
    pub wal_rows: u64,
    /// Log segments not yet sealed.
    pub segments: u64,
    /// Sealed files.
    pub files: u64,
    /// Time of the oldest observation, Unix ms.
    pub oldest_unix_ms: Option<i64>,
    /// Batches that had been stored before, since the start.
    pub duplicate_batches: u64,
    /// Batches that could not be stored, since the start.
    pub failed_batches: u64,
    /// fdatasync calls of the log since the start.
    pub syncs: u64,
    /// What is wrong, one line each. Empty when nothing is.
    pub problems: Vec<String>,
}

/// The history of one aggregator. A clone shares it.
#[derive(Clone)]
pub struct History {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub config: Config,
    pub state: Arc<State>,
    commands: mpsc::Sender<Command>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<dir::Lock>>,
}

/// The promise that a batch becomes durable.
pub struct Receipt(oneshot::Receiver<Result<(), HistoryError>>);

impl Receipt {
    /// Waits until the batch is durable.
    ///
    /// # Errors
    /// Why it is not; it was not acknowledged.
    pub async fn durable(self) -> Result<(), HistoryError> {
        self.0.await.unwrap_or(Err(HistoryError::Closed))
    }
}

impl History {
    /// Opens the directory, making it where there is none, and reads back what the log holds.
    ///
    /// # Errors
    /// Another version, another process, a file that cannot be read: each names it, and nothing is touched.
    pub async fn open(config: Config) -> Result<Self, HistoryError> {
        let lock = dir::claim(&config.dir)?;
        let state = Arc::new(State::default());
        let wal_dir = dir::wal(&config.dir);
        let mut next_id = 1;
        for (id, path) in dir::segments(&wal_dir)? {
            let replayed = replay::replay(&path, id, &mut state.progress_mut())?;
            if replayed.torn > 0 {
                tracing::warn!(path = %path.display(), bytes = replayed.torn, "cut a torn tail");
            }
            state.parts_mut().segments.push(Arc::new(replayed.segment));
            next_id = id + 1;
        }
        let (commands, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(
            wal_dir.clone(),
            Arc::clone(&state),
            Duration::from_millis(config.commit_interval_ms),
            config.seal_rows,
            next_id,
            Arc::new(Notify::new()),
        );
        let thread = std::thread::Builder::new()
            .name("history-log".into())
            .spawn(move || writer.run(queue))
            .map_err(|error| HistoryError::file("start the writer of", Path::new(&wal_dir), &error))?;
        let (writer, lock) = (Mutex::new(Some(thread)), Mutex::new(Some(lock)));
        Ok(Self { inner: Arc::new(Inner { config, state, commands, writer, lock }) })
    }

    /// The highest durable sequence of a spool; 0 means none. Remembered for the 4 newest spools of 20,000 nodes.
    #[must_use]
    pub fn acknowledged(&self, node: &str, spool_id: &[u8; 16]) -> u64 {
        self.inner.state.progress().get(node, spool_id)
    }

    /// Stores a batch; returns once it is durable. A batch whose sequence is not above [`Self::acknowledged`] is already
    /// stored and changes nothing. Batches of one spool must be handed over in order; [`Self::submit`] lets them overlap.
    ///
    /// # Errors
    /// The batch contradicts itself, or could not be written: it is not acknowledged and may be sent again.
    pub async fn append(&self, batch: StoredBatch) -> Result<(), HistoryError> {
        self.submit(batch).await?.durable().await
    }

    /// Puts a batch in the writer's queue (1,024 batches; waits while it is full), which fixes its order.
    ///
    /// # Errors
    /// The batch contradicts itself, or the history is closed.
    pub async fn submit(&self, batch: StoredBatch) -> Result<Receipt, HistoryError> {
        let draft = Draft::new(batch)?;
        let (reply, receipt) = oneshot::channel();
        self.inner.commands.send(Command::Append(draft, reply)).await.map_err(|_| HistoryError::Closed)?;
        Ok(Receipt(receipt))
    }

    /// Makes the tables `observations` and `gaps` known to a session.
    ///
    /// # Errors
    /// A table of that name exists.
    pub fn register(&self, session: &SessionContext) -> Result<(), HistoryError> {
        table::register(session, &self.inner.state)
    }

    /// How it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = &self.inner.state;
        let counters = &state.counters;
        let mut stats = Stats {
            duplicate_batches: counters.duplicates.load(Ordering::Relaxed),
            failed_batches: counters.failed.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            problems: state.problems(),
            ..Stats::default()
        };
        let parts = state.parts();
        stats.files = parts.files.len() as u64;
        stats.segments = parts.segments.len() as u64;
        let mut oldest = parts.files.iter().map(|file| file.min_unix_ms).min();
        stats.bytes = parts.files.iter().map(|file| file.bytes).sum();
        stats.rows = parts.files.iter().map(|file| file.rows).sum();
        for segment in &parts.segments {
            let index = segment.index();
            stats.wal_rows += index.rows;
            stats.wal_bytes += index.end;
            let first = index.entries.iter().map(|entry| entry.unix_ms).min();
            oldest = oldest.into_iter().chain(first).min();
        }
        stats.rows += stats.wal_rows;
        stats.oldest_unix_ms = oldest;
        stats
    }

    /// Seals what is due, merges small files, lets go what is too old or too much. Call it every minute or so.
    ///
    /// # Errors
    /// What could not be written or removed; the rest was still done, and the next call tries again.
    pub async fn maintain(&self, now_unix_ms: i64, protected: &[Protected]) -> Result<(), HistoryError> {
        let _ = (now_unix_ms, protected);
        Ok(())
    }

    /// Stops the writer once what was queued is durable, and lets the directory go. The log is not sealed: the next start reads it.
    ///
    /// # Errors
    /// None today; the door leaves room for them.
    pub async fn close(self) -> Result<(), HistoryError> {
        let (done, stopped) = oneshot::channel();
        if self.inner.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
        let thread = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}
