//! Compaction as a log-structured store does it: sorted segments are written fast, merged into one, and removed. The disk fills quickly
//! and is given back; a disk fill does not give back.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{BehaviourError, scratch::Scratch};

/// A record: 8 bytes of key, then a value.
const RECORD_BYTES: usize = 128;
/// Fastest writing, MiB per second, whatever is asked for.
const MAX_RATE_MIB: u64 = 64;
/// Largest segment, MiB.
const MAX_SEGMENT_MIB: u64 = 32;
/// Most segments before a merge; with the merge's output twice that lies on the disk, at most 512 MiB.
const MAX_SEGMENTS: u64 = 8;
/// Written between two looks at the clock.
const STEP_RECORDS: usize = 2_048;

/// How much is written, how fast.
#[derive(clap::Args, Debug)]
pub struct CompactionArgs {
    /// The workload's directory; segments go to `compaction` below it
    #[arg(long)]
    dir: PathBuf,
    /// Length of a segment, MiB, at most 32
    #[arg(long, default_value_t = 8)]
    segment_mib: u64,
    /// Segments before a merge, 2 to 8
    #[arg(long, default_value_t = 4)]
    segments: u64,
    /// MiB written per second, at most 64
    #[arg(long, default_value_t = 16)]
    rate_mib: u64,
    /// Rest after a merge, milliseconds
    #[arg(long, default_value_t = 5000)]
    rest_ms: u64,
    /// Ends by itself after this long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Writes and merges until its time is over.
pub(super) fn run(args: &CompactionArgs) -> Result<(), BehaviourError> {
    let scratch = Scratch::empty(&args.dir, "compaction")?;
    let failed = |error| BehaviourError::File("write segments in", scratch.path().to_owned(), error);
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let records = usize::try_from(args.segment_mib.clamp(1, MAX_SEGMENT_MIB)).unwrap_or(1) * 1024 * 1024 / RECORD_BYTES;
    let mut throttle = Throttle::new(args.rate_mib.clamp(1, MAX_RATE_MIB) * 1024 * 1024, until);
    while Instant::now() < until {
        let mut segments = Vec::new();
        for number in 0..args.segments.clamp(2, MAX_SEGMENTS) {
            let path = scratch.join(format!("{number}.segment"));
            segment(&path, records, &mut throttle).map_err(failed)?;
            segments.push(path);
        }
        merge(&segments, &scratch.join("merged"), &mut throttle).map_err(failed)?;
        segments.iter().try_for_each(fs::remove_file).map_err(failed)?;
        thread::sleep(Duration::from_millis(args.rest_ms).min(until.saturating_duration_since(Instant::now())));
    }
    scratch.clear()
}

/// Keeps writing at a rate; ends it when the time is over.
struct Throttle {
    bytes_per_second: u64,
    until: Instant,
    next: Instant,
}

impl Throttle {
    fn new(bytes_per_second: u64, until: Instant) -> Self {
        Self { bytes_per_second, until, next: Instant::now() }
    }

    /// Accounts for these bytes; `false` when the time is over.
    fn wrote(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        self.next = self.next.max(now) + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        thread::sleep(self.next.saturating_duration_since(now));
        now < self.until
    }
}

/// Sorted random keys of a space twice as large as a segment, so that segments overlap and a merge is smaller than their sum.
fn segment(path: &Path, records: usize, throttle: &mut Throttle) -> io::Result<()> {
    let mut keys: Vec<u64> = (0..records).map(|_| rand::random_range(0..records as u64 * 2)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut file = BufWriter::new(File::create(path)?);
    for step in keys.chunks(STEP_RECORDS) {
        for key in step {
            let mut record = [b'.'; RECORD_BYTES];
            record[..8].copy_from_slice(&key.to_be_bytes());
            file.write_all(&record)?;
        }
        if !throttle.wrote(step.len() * RECORD_BYTES) {
            break;
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()
}

/// One sorted file of several; of a key in more than one, the last segment's record.
fn merge(segments: &[PathBuf], merged: &Path, throttle: &mut Throttle) -> io::Result<()> {
    let mut sources = Vec::new();
    for path in segments {
        let mut source = BufReader::new(File::open(path)?);
        let head = record(&mut source)?;
        sources.push((source, head));
    }
    let mut file = BufWriter::new(File::create(merged)?);
    let mut written = 0usize;
    while let Some(least) = sources.iter().filter_map(|(_, head)| Some(head.as_ref()?[..8].to_vec())).min() {
        let mut newest = None;
        for (source, head) in &mut sources {
            if head.as_ref().is_some_and(|head| head[..8] == least) {
                newest = head.take();
                *head = record(source)?;
            }
        }
        if let Some(newest) = newest {
            file.write_all(&newest)?;
        }
        written += 1;
        if written.is_multiple_of(STEP_RECORDS) && !throttle.wrote(STEP_RECORDS * RECORD_BYTES) {
            break;
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()
}

fn record(source: &mut impl Read) -> io::Result<Option<[u8; RECORD_BYTES]>> {
    let mut record = [0; RECORD_BYTES];
    match source.read_exact(&mut record) {
        Ok(()) => Ok(Some(record)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_is_sorted_and_has_each_key_once() {
        let dir = std::env::temp_dir().join(format!("vedette-merge-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut throttle = Throttle::new(1 << 30, Instant::now() + Duration::from_secs(60));
        let segments: Vec<_> = (0..3).map(|number| dir.join(number.to_string())).collect();
        segments.iter().for_each(|path| segment(path, 1_000, &mut throttle).unwrap());

        merge(&segments, &dir.join("merged"), &mut throttle).unwrap();

        let keys = |path: &Path| fs::read(path).unwrap().chunks(RECORD_BYTES).map(|record| record[..8].to_vec()).collect::<Vec<_>>();
        let merged = keys(&dir.join("merged"));
        let mut all: Vec<_> = segments.iter().flat_map(|path| keys(path)).collect();
        let before = all.len();
        all.sort();
        all.dedup();
        assert_eq!(merged, all);
        assert!(merged.len() < before, "segments overlap");
        fs::remove_dir_all(&dir).unwrap();
    }
}
