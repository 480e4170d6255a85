//! The door: open, append, read, maintain, close.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use datafusion::prelude::SessionContext;
use object_store::ObjectStore;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    Config, HistoryError, Protected, StoredBatch, compact, dir,
    files::StoredFile,
    footers::Footers,
    manifest::Manifest,
    retain, seal,
    state::State,
    table,
    wal::{
        record::Draft,
        replay,
        writer::{Command, QUEUE, Writer},
    },
};

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
    pub manifest: Manifest,
    pub next_file: Arc<AtomicI64>,
    store: Arc<dyn ObjectStore>,
    /// Shared by all sessions.
    footers: Arc<Footers>,
    /// One at a time seals, merges or expires.
    pub work: tokio::sync::Mutex<()>,
    /// Files that went from the table; a reader that began before may still want them.
    graveyard: Mutex<Vec<(Instant, Arc<StoredFile>)>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    sealer: Mutex<Option<tokio::task::JoinHandle<()>>>,
    lock: Mutex<Option<dir::Lock>>,
}

/// How long a file outlives its entry for readers that hold neither it nor their plan.
const GRACE: Duration = Duration::from_secs(120);

impl Inner {
    /// Swaps files for others: manifest first, then memory. The old ones go from disk once nobody reads them.
    pub(crate) async fn replace(&self, old: &[Arc<StoredFile>], new: Vec<StoredFile>) -> Result<(), HistoryError> {
        let ids: Vec<i64> = old.iter().map(|file| file.id).collect();
        if let Err(error) = self.manifest.replace(&ids, &new).await {
            let known = self.manifest.files(&self.config.dir).await;
            match known {
                // It was committed after all.
                Ok(known) if !old.iter().any(|old| known.iter().any(|file| file.id == old.id)) => {}
                Ok(_) => {
                    new.iter().for_each(StoredFile::doom);
                    return Err(error);
                }
                // Nobody can say: the files stay until the next start knows.
                Err(_) => return Err(error),
            }
        }
        {
            let mut parts = self.state.parts_mut();
            parts.files.retain(|file| !ids.contains(&file.id));
            parts.files.extend(new.into_iter().map(Arc::new));
        }
        let mut graveyard = self.graveyard.lock().unwrap_or_else(PoisonError::into_inner);
        for file in old {
            file.doom();
            graveyard.push((Instant::now(), Arc::clone(file)));
        }
        Ok(())
    }

    /// Seals every segment that is no longer written.
    async fn seal_closed(&self) -> Result<(), HistoryError> {
        let _one = self.work.lock().await;
        let closed: Vec<_> = {
            let parts = self.state.parts();
            parts.segments.iter().filter(|segment| Some(segment.id) != parts.active).cloned().collect()
        };
        for segment in &closed {
            let sealed = seal::seal(&self.config.dir, &self.state, &self.manifest, &self.next_file, segment).await;
            self.state.set_problem("sealing", sealed.as_ref().err().map(ToString::to_string));
            sealed?;
        }
        Ok(())
    }

    fn bury(&self) {
        let mut graveyard = self.graveyard.lock().unwrap_or_else(PoisonError::into_inner);
        graveyard.retain(|(since, _)| since.elapsed() < GRACE);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(sealer) = self.sealer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            sealer.abort();
        }
    }
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
        let manifest = Manifest::open(&config.dir).await?;
        let state = Arc::new(State::default());
        let files: Vec<_> = manifest.files(&config.dir).await?.into_iter().map(Arc::new).collect();
        let next_file = files.iter().map(|file| file.id).max().unwrap_or(0) + 1;
        dir::remove_unknown(&config.dir, &files)?;
        for (node, spool_id, sequence) in manifest.progress().await? {
            state.progress_mut().set(&node, spool_id, sequence);
        }
        {
            let gaps = manifest.gaps().await?;
            let mut parts = state.parts_mut();
            parts.files = files;
            parts.gaps = gaps;
        }
        let next_segment = read_log(&config, &state, &manifest.sealed().await?)?;
        let store = object_store::local::LocalFileSystem::new_with_prefix(&config.dir)
            .map_err(|error| HistoryError::file("open", &config.dir, &std::io::Error::other(error)))?;
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let (commands, queue) = mpsc::channel(QUEUE);
        let full = Arc::new(Notify::new());
        let wal_dir = dir::wal(&config.dir);
        let commit_interval = Duration::from_millis(config.commit_interval_ms);
        let writer = Writer::new(wal_dir.clone(), Arc::clone(&state), commit_interval, config.seal_rows, next_segment, Arc::clone(&full));
        let thread = std::thread::Builder::new()
            .name("history-log".into())
            .spawn(move || writer.run(queue))
            .map_err(|error| HistoryError::file("start the writer of", &wal_dir, &error))?;
        let inner = Arc::new(Inner {
            config,
            state,
            commands,
            manifest,
            next_file: Arc::new(AtomicI64::new(next_file)),
            footers: Arc::new(Footers::new(&store)),
            store,
            work: tokio::sync::Mutex::default(),
            graveyard: Mutex::default(),
            writer: Mutex::new(Some(thread)),
            sealer: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        });
        let weak = Arc::downgrade(&inner);
        let sealer = tokio::spawn(async move {
            loop {
                full.notified().await;
                let Some(inner) = weak.upgrade() else { return };
                // Stated as a problem; the next full segment or maintenance tries again.
                let _ = inner.seal_closed().await;
            }
        });
        *inner.sealer.lock().unwrap_or_else(PoisonError::into_inner) = Some(sealer);
        Ok(Self { inner })
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
        self.inner.commands.send(Command::Append(Box::new(draft), reply)).await.map_err(|_| HistoryError::Closed)?;
        Ok(Receipt(receipt))
    }

    /// Makes the tables `observations` and `gaps` known to a session.
    ///
    /// # Errors
    /// A table of that name exists.
    pub fn register(&self, session: &SessionContext) -> Result<(), HistoryError> {
        table::register(session, &self.inner.state, &self.inner.store, &self.inner.footers)
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
        let inner = &self.inner;
        inner.bury();
        let due = {
            let parts = inner.state.parts();
            let active = parts.segments.iter().find(|segment| Some(segment.id) == parts.active);
            active.is_some_and(|segment| segment.born.elapsed().as_secs() >= inner.config.seal_after_seconds)
        };
        if due {
            let (done, rotated) = oneshot::channel();
            inner.commands.send(Command::Rotate(done)).await.map_err(|_| HistoryError::Closed)?;
            let _ = rotated.await;
        }
        let sealed = inner.seal_closed().await;
        let compacted = compact::compact(self, now_unix_ms).await;
        inner.state.set_problem("merging", compacted.as_ref().err().map(ToString::to_string));
        let _one = inner.work.lock().await;
        let retained = retain::retain(inner, now_unix_ms, protected).await;
        if let Err(error) = &retained {
            inner.state.set_problem("retention", Some(error.to_string()));
        }
        sealed.and(compacted).and(retained)
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
        if let Some(sealer) = self.inner.sealer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            sealer.abort();
        }
        // Whatever is being sealed or merged is finished first.
        let _one = self.inner.work.lock().await;
        self.inner.manifest.close().await;
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

/// Reads the log back; segments whose rows are in files already go. Returns the next segment's id.
fn read_log(config: &Config, state: &State, sealed: &[u64]) -> Result<u64, HistoryError> {
    let wal_dir = dir::wal(&config.dir);
    let mut next_id = sealed.iter().max().map_or(1, |last| last + 1);
    let found = dir::segments(&wal_dir)?;
    let last = found.last().map(|&(id, _)| id);
    for (id, path) in found {
        if sealed.contains(&id) {
            std::fs::remove_file(&path).map_err(|error| HistoryError::file("remove", &path, &error))?;
            continue;
        }
        let replayed = replay::replay(&path, id, Some(id) == last, &mut state.progress_mut())?;
        if replayed.torn > 0 {
            tracing::warn!(path = %path.display(), bytes = replayed.torn, "cut what does not check off the log");
        }
        state.parts_mut().segments.push(Arc::new(replayed.segment));
        next_id = next_id.max(id + 1);
    }
    Ok(next_id)
}
