//! A log shipper: follows a file that another program writes, through rotations, and sends its lines in batches that the store acknowledges.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    net::SocketAddrV4,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{BehaviourError, Bounds, store::Depositor};
use crate::guard::Guard;

/// Most bytes per second, whatever the file has.
const MAX_RATE: usize = 10_000_000;
/// Longest batch, bytes.
const MAX_BATCH: usize = 1024 * 1024;
const LOOK: Duration = Duration::from_millis(100);
/// Pause after a store that did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// What to follow, and where to send it.
#[derive(clap::Args, Debug)]
pub struct LogShipperArgs {
    #[command(flatten)]
    bounds: Bounds,
    /// The file to follow; it need not exist yet
    #[arg(long)]
    file: PathBuf,
    /// The store
    #[arg(long)]
    target: SocketAddrV4,
    /// A batch is sent when it has this many lines
    #[arg(long, default_value_t = 200)]
    batch_lines: usize,
    /// A batch is sent when its first line is this old, milliseconds
    #[arg(long, default_value_t = 1000)]
    flush_ms: u64,
}

/// Ships until killed.
pub(super) async fn run(args: LogShipperArgs) -> Result<(), BehaviourError> {
    let guard = args.bounds.guard()?;
    guard.check(args.target)?;
    let (mut tail, mut store) = (Tail::default(), None);
    let mut number = 0u64;
    loop {
        let batch = next_batch(&mut tail, &args).await;
        let began = Instant::now();
        number += 1;
        // The same batch until the store has it: nothing is lost while the file is there.
        while let Err(error) = ship(&guard, &mut store, &args, number, &batch).await {
            eprintln!("{}: batch {number} is not taken: {error}", args.target);
            store = None;
            tokio::time::sleep(RETRY).await;
        }
        let least = Duration::from_secs_f64(batch.len() as f64 / MAX_RATE as f64);
        tokio::time::sleep(least.saturating_sub(began.elapsed())).await;
    }
}

async fn next_batch(tail: &mut Tail, args: &LogShipperArgs) -> Vec<u8> {
    let mut since = None;
    loop {
        // A file that is being rotated away is looked for again.
        let _ = tail.read(&args.file);
        let (lines, end) = tail.lines(args.batch_lines.clamp(1, 10_000));
        if lines > 0 {
            let since = *since.get_or_insert_with(Instant::now);
            if lines >= args.batch_lines || end >= MAX_BATCH / 2 || since.elapsed() >= Duration::from_millis(args.flush_ms) {
                return tail.pending.drain(..end).collect();
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ship(guard: &Guard, store: &mut Option<Depositor>, args: &LogShipperArgs, number: u64, batch: &[u8]) -> io::Result<()> {
    let open = match store {
        Some(open) => open,
        None => store.insert(Depositor::connect(guard, args.target).await?),
    };
    open.put(&format!("log/{number}"), batch).await.map(drop)
}

/// The end of a file that grows and is replaced.
#[derive(Default)]
struct Tail {
    file: Option<File>,
    inode: u64,
    read_bytes: u64,
    /// Read and not yet sent, at most [`MAX_BATCH`].
    pending: Vec<u8>,
}

impl Tail {
    /// Reads what is new; goes on to the file that has the name now once the old one is read to its end.
    fn read(&mut self, path: &Path) -> io::Result<()> {
        if self.file.is_none() {
            let file = File::open(path)?;
            (self.inode, self.read_bytes) = (file.metadata()?.ino(), 0);
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let room = MAX_BATCH.saturating_sub(self.pending.len()) as u64;
        let read = file.by_ref().take(room).read_to_end(&mut self.pending)? as u64;
        self.read_bytes += read;
        if read < room {
            let now = fs::metadata(path)?;
            if now.ino() != self.inode {
                // What was written to the old file after the read above and before it was renamed.
                let room = room - read;
                let read = file.by_ref().take(room).read_to_end(&mut self.pending)? as u64;
                if read < room {
                    self.file = None;
                }
            } else if now.len() < self.read_bytes {
                self.read_bytes = file.seek(SeekFrom::Start(0))?;
            }
        }
        Ok(())
    }

    /// Whole lines pending, at most so many, and where they end.
    fn lines(&self, most: usize) -> (usize, usize) {
        let ends = self.pending.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place + 1);
        let (mut lines, mut end) = (0, 0);
        for place in ends.take(most) {
            (lines, end) = (lines + 1, place);
        }
        // A line that fills the room is cut.
        if lines == 0 && self.pending.len() >= MAX_BATCH { (1, MAX_BATCH) } else { (lines, end) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_tail_follows_a_file_through_rotation_and_loses_nothing() {
        let dir = std::env::temp_dir().join(format!("vedette-tail-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        let mut tail = Tail::default();
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        tail.read(&path).unwrap();
        assert_eq!(tail.lines(10), (1, 4));

        file.write_all(b"o\n").unwrap();
        fs::rename(&path, dir.join("log.1")).unwrap();
        fs::write(&path, b"three\n").unwrap();
        tail.read(&path).unwrap();
        tail.read(&path).unwrap();

        assert_eq!(tail.pending, b"one\ntwo\nthree\n");
        assert_eq!(tail.lines(2), (2, 8));
        fs::remove_dir_all(&dir).unwrap();
    }
}
