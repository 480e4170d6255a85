//! A database: the key-value protocol over a write-ahead log. A write is answered once it is on disk (group commit, fdatasync); when the
//! log is long the table is written anew and the log begins again.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::{
    io::BufReader,
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{
    BehaviourError, journal,
    key_value::{Wish, found, kept, wish},
    listen,
    scratch::Scratch,
};

/// Keys held; the first by name goes when there are more. With the longest value of 16 KiB that is 64 MiB.
const MAX_KEYS: usize = 4_096;
/// Writes that share one fdatasync, and writes that wait; clients beyond that wait for a place.
const MAX_GROUP: usize = 64;
/// Longest log before the table is written anew, KiB, whatever is asked for.
const MAX_CHECKPOINT_KIB: u64 = 65_536;

/// Where the database listens and writes.
#[derive(clap::Args, Debug)]
pub struct DatabaseArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 5432)]
    port: u16,
    /// The workload's directory; the database keeps its files in `database` below it
    #[arg(long)]
    dir: PathBuf,
    /// Length of the log at which the table is written anew, KiB, at most 64 MiB
    #[arg(long, default_value_t = 4096)]
    checkpoint_kib: u64,
}

type Table = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

struct Pending {
    key: String,
    value: Vec<u8>,
    done: oneshot::Sender<()>,
}

/// Serves until killed or its disk fails.
pub(super) async fn run(args: DatabaseArgs) -> Result<(), BehaviourError> {
    let scratch = Scratch::kept(&args.dir, "database")?;
    let table = Table::default();
    let checkpoint_bytes = args.checkpoint_kib.clamp(1, MAX_CHECKPOINT_KIB) * 1024;
    let files =
        Files::open(scratch, &mut lock(&table), checkpoint_bytes).map_err(|error| BehaviourError::Io("recover the database", error))?;
    let listener = listen(args.address, args.port).await?;
    let (writes, receive) = mpsc::channel(MAX_GROUP);
    let (ended, end) = oneshot::channel();
    let committed = Arc::clone(&table);
    thread::spawn(move || drop(ended.send(commit(files, &committed, receive))));
    let serve = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (table, writes) = (Arc::clone(&table), writes.clone());
            tokio::spawn(async move {
                // A client that goes away is ordinary.
                let _ = converse(stream, &table, &writes).await;
            });
        }
    };
    tokio::select! {
        () = serve => Ok(()),
        outcome = end => outcome.unwrap_or(Ok(())).map_err(|error| BehaviourError::Io("commit", error)),
    }
}

async fn converse(stream: TcpStream, table: &Table, writes: &mpsc::Sender<Pending>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(wish) = wish(&mut stream).await? {
        match wish {
            Wish::Get(key) => {
                let value = lock(table).get(&key).cloned().unwrap_or_default();
                found(&mut stream, &value).await?;
            }
            Wish::Set(key, value) => {
                let (done, is_done) = oneshot::channel();
                writes.send(Pending { key, value, done }).await.map_err(io::Error::other)?;
                is_done.await.map_err(io::Error::other)?;
                kept(&mut stream).await?;
            }
        }
    }
    Ok(())
}

fn commit(mut files: Files, table: &Table, mut writes: mpsc::Receiver<Pending>) -> io::Result<()> {
    while let Some(first) = writes.blocking_recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP
            && let Ok(next) = writes.try_recv()
        {
            group.push(next);
        }
        let mut bytes = Vec::new();
        group.iter().for_each(|write| journal::append(&mut bytes, &write.key, &write.value));
        files.append(&bytes)?;
        {
            let mut table = lock(table);
            for write in group {
                insert(&mut table, write.key, write.value);
                // The client may be gone.
                let _ = write.done.send(());
            }
        }
        if files.log_bytes >= files.checkpoint_bytes {
            files.checkpoint(&lock(table))?;
        }
    }
    Ok(())
}

fn lock(table: &Table) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn insert(table: &mut BTreeMap<String, Vec<u8>>, key: String, value: Vec<u8>) {
    table.insert(key, value);
    if table.len() > MAX_KEYS {
        table.pop_first();
    }
}

/// `log` and `table` on disk; both hold journal records.
struct Files {
    scratch: Scratch,
    log: File,
    log_bytes: u64,
    checkpoint_bytes: u64,
}

impl Files {
    /// Reads what an earlier life left, and begins a new log after it.
    fn open(scratch: Scratch, table: &mut BTreeMap<String, Vec<u8>>, checkpoint_bytes: u64) -> io::Result<Self> {
        for name in ["table", "log"] {
            let bytes = match fs::read(scratch.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                read => read.unwrap_or_default(),
            };
            journal::records(&bytes).for_each(|(key, value)| insert(table, key.to_owned(), value.to_owned()));
        }
        let log = OpenOptions::new().create(true).truncate(false).write(true).open(scratch.join("log"))?;
        let mut files = Self { scratch, log, log_bytes: 0, checkpoint_bytes };
        files.checkpoint(table)?;
        Ok(files)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.write_all(bytes)?;
        self.log.sync_data()?;
        self.log_bytes += bytes.len() as u64;
        Ok(())
    }

    /// The table first, durable under its name, then the log: a crash between the two repeats writes, which is harmless.
    fn checkpoint(&mut self, table: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
        let new = self.scratch.join("table.new");
        let mut bytes = Vec::new();
        table.iter().for_each(|(key, value)| journal::append(&mut bytes, key, value));
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.scratch.join("table"))?;
        File::open(self.scratch.path())?.sync_all()?;
        self.log.set_len(0)?;
        self.log.seek(SeekFrom::Start(0))?;
        self.log.sync_data()?;
        self.log_bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vedette-database-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn open(dir: &std::path::Path) -> (Files, BTreeMap<String, Vec<u8>>) {
        let mut table = BTreeMap::new();
        let files = Files::open(Scratch::kept(dir, "database").unwrap(), &mut table, 1024).unwrap();
        (files, table)
    }

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        journal::append(&mut bytes, key, value);
        bytes
    }

    #[test]
    fn what_was_committed_is_there_after_a_crash() {
        let dir = dir("crash");
        let (mut files, _) = open(&dir);
        files.append(&record("a", b"1")).unwrap();
        files.append(&record("b", b"2")).unwrap();
        files.append(&record("a", b"3")[..8]).unwrap();
        drop(files);

        let (files, table) = open(&dir);

        assert_eq!(table, BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]));
        assert_eq!(fs::metadata(files.scratch.join("log")).unwrap().len(), 0);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_checkpoint_empties_the_log_and_keeps_the_table() {
        let dir = dir("checkpoint");
        let (mut files, mut table) = open(&dir);
        files.append(&record("a", b"1")).unwrap();
        table.insert("a".to_owned(), b"1".to_vec());

        files.checkpoint(&table).unwrap();
        files.append(&record("b", b"2")).unwrap();
        drop(files);

        assert_eq!(open(&dir).1.len(), 2);
        fs::remove_dir_all(&dir).unwrap();
    }
}
