//! Kernel files kept open and read into one buffer.
//!
//! An open cgroup file answers ENODEV once its cgroup is gone, and an open `/proc/PID/stat` ESRCH once the process is: the
//! clean signals, safe against a name or a number used again.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
};

use crate::metrics::Metrics;

/// A missing or unreadable file is tried again on each of the first ticks (a runtime makes its hierarchies one by one), then this rarely.
const RETRY_TICKS: u64 = 60;
const EAGER_TRIES: u8 = 3;
/// `seq_file` fills at most a page at a time and leaves less than a record: a shorter answer is the whole file.
const WHOLE_BELOW: usize = 3_072;
/// Largest file that is read: `net/arp` and `net/packet` of an odd pod can be long, and counting stops here.
const BUFFER: usize = 64 << 10;

/// One kernel file of a container, pod or node.
#[derive(Debug, Default)]
pub struct KernelFile {
    state: State,
    tries: u8,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unopened,
    Open(OwnedFd),
    Absent {
        until_tick: u64,
    },
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a> {
    /// The content.
    Data(&'a [u8]),
    /// What the file belongs to has ended.
    Ended,
    /// There is no such file, or it may not be read: counted.
    Absent,
}

impl<'a> Read<'a> {
    /// The content, if there is any.
    #[must_use]
    pub fn data(self) -> Option<&'a [u8]> {
        match self {
            Self::Data(data) => Some(data),
            Self::Ended | Self::Absent => None,
        }
    }
}

/// Reads kernel files: owns the buffer, the count of open files and the tick.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    path: String,
    open: usize,
    max_open: usize,
    tick: u64,
    metrics: Metrics,
}

impl Reader {
    /// A reader that keeps at most `max_open` files open; beyond, files are opened for each read.
    #[must_use]
    pub fn new(max_open: usize, metrics: Metrics) -> Self {
        Self { buffer: vec![0; BUFFER], path: String::with_capacity(512), open: 0, max_open, tick: 0, metrics }
    }

    /// A new tick begins.
    pub fn next_tick(&mut self) {
        self.tick += 1;
        self.metrics.open_files.set(self.open as i64);
    }

    /// The counters that reads go to.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Reads a file that stays open. `place` writes its path, and is called only to open it; `name` is for the counter.
    pub fn read(&mut self, file: &mut KernelFile, name: &'static str, place: impl FnOnce(&mut String)) -> Read<'_> {
        match &file.state {
            State::Absent { until_tick } if self.tick < *until_tick => return Read::Absent,
            State::Open(descriptor) => {
                return match read_whole(descriptor, &mut self.buffer) {
                    Ok(length) => Read::Data(&self.buffer[..length]),
                    Err(errno) => {
                        self.close(file);
                        self.failed(errno, name)
                    }
                };
            }
            State::Absent { .. } | State::Unopened => {}
        }
        self.path.clear();
        place(&mut self.path);
        match open(&self.path).and_then(|descriptor| Ok((read_whole(&descriptor, &mut self.buffer)?, descriptor))) {
            Ok((length, descriptor)) => {
                file.tries = 0;
                if self.open < self.max_open {
                    self.open += 1;
                    file.state = State::Open(descriptor);
                } else {
                    self.metrics.limited("open_files");
                    file.state = State::Unopened;
                }
                Read::Data(&self.buffer[..length])
            }
            Err(errno) => {
                file.tries = file.tries.saturating_add(1);
                let wait = if file.tries <= EAGER_TRIES { 1 } else { RETRY_TICKS };
                file.state = State::Absent { until_tick: self.tick + wait };
                self.failed(errno, name)
            }
        }
    }

    /// Reads a file once, without keeping it open. A file that is not there is `Absent` and counted.
    pub fn read_once(&mut self, name: &'static str, place: impl FnOnce(&mut String)) -> Read<'_> {
        self.path.clear();
        place(&mut self.path);
        match open(&self.path).and_then(|descriptor| read_whole(&descriptor, &mut self.buffer)) {
            Ok(length) => Read::Data(&self.buffer[..length]),
            Err(errno) => self.failed(errno, name),
        }
    }

    /// Closes a file; it may be opened again.
    pub fn close(&mut self, file: &mut KernelFile) {
        if let State::Open(_) = std::mem::take(&mut file.state) {
            self.open -= 1;
        }
        file.tries = 0;
    }

    fn failed(&self, errno: Errno, name: &'static str) -> Read<'static> {
        let reason = match errno {
            // Normal churn: what the file belonged to ended while we read.
            Errno::NODEV | Errno::SRCH => return Read::Ended,
            Errno::NOENT => "missing",
            Errno::ACCESS | Errno::PERM => "denied",
            Errno::MFILE | Errno::NFILE => "limit",
            _ => "other",
        };
        self.metrics.unreadable(name, reason);
        Read::Absent
    }
}

fn open(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Reads from the beginning until the end or until the buffer is full.
fn read_whole(descriptor: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    loop {
        let (read, _) = match rustix::io::pread(descriptor, &mut buffer[length..], length as u64) {
            Err(Errno::INTR) => continue,
            other => (other?, ()),
        };
        length += read;
        if read < WHOLE_BELOW || length == buffer.len() {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_read_from_its_beginning_each_time() {
        let mut reader = Reader::new(10, Metrics::default());
        let mut file = KernelFile::default();

        let first = reader.read(&mut file, "stat", |path| path.push_str("/proc/self/stat")).data().unwrap().len();
        let second = reader.read(&mut file, "stat", |_| panic!("opened twice")).data().unwrap().len();

        assert!(first > 50 && second > 50);
        assert_eq!(reader.open, 1);
        reader.close(&mut file);
        assert_eq!(reader.open, 0);
    }

    #[test]
    fn a_file_longer_than_a_page_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long");
        std::fs::write(&path, vec![b'x'; 20_000]).unwrap();
        let mut reader = Reader::new(10, Metrics::default());

        let read = reader.read_once("long", |text| text.push_str(path.to_str().unwrap()));

        assert_eq!(read.data().map(<[u8]>::len), Some(20_000));
    }

    #[test]
    fn a_missing_file_is_counted_and_asked_for_rarely() {
        let metrics = Metrics::default();
        let mut reader = Reader::new(10, metrics.clone());
        let mut file = KernelFile::default();

        for _ in 0..50 {
            reader.next_tick();
            assert_eq!(reader.read(&mut file, "pids.events", |path| path.push_str("/nowhere/pids.events")), Read::Absent);
        }

        let label = crate::metrics::UnreadableFile { file: "pids.events", reason: "missing" };
        assert_eq!(metrics.unreadable.get_or_create(&label).get(), u64::from(EAGER_TRIES) + 1);
    }

    #[test]
    fn beyond_the_limit_files_are_read_without_being_kept() {
        let mut reader = Reader::new(0, Metrics::default());
        let mut file = KernelFile::default();

        assert!(reader.read(&mut file, "stat", |path| path.push_str("/proc/self/stat")).data().is_some());
        assert!(reader.read(&mut file, "stat", |path| path.push_str("/proc/self/stat")).data().is_some());
        assert_eq!(reader.open, 0);
    }
}
