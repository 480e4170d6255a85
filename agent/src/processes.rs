//! Which process belongs to which container: `/proc/PID/cgroup` of new processes only, never `cgroup.procs`, which is empty or 0 from
//! another PID namespace.

use std::{mem::MaybeUninit, os::fd::OwnedFd};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, SeekFrom},
    io::Errno,
};

use crate::{metrics::Metrics, parse};

/// Looks at a process before it is settled: a runtime moves its child into the container's cgroup, and a shell becomes something else.
const LOOKS: u8 = 3;
/// Looks, in as many ticks, at a process that is in no container: a runtime moves its child much sooner.
const STRANGER_LOOKS: u8 = 2;
/// Most processes remembered; more are counted and left out.
const MAX_KNOWN: usize = 65_536;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number in the PID namespace of the proc mount.
    pub pid: u32,
    /// The container that it is in, by the caller's index.
    pub container: Option<u32>,
    looks: u8,
}

/// Every process that is there.
#[derive(Debug)]
pub struct Processes {
    directory: OwnedFd,
    listing: Vec<u32>,
    known: Vec<Known>,
    next: Vec<Known>,
    gone: Vec<Known>,
    max_per_tick: usize,
    turn: usize,
}

impl Processes {
    /// Reads below a proc mount; at most so many processes are looked at in one tick.
    ///
    /// # Errors
    /// The kernel's, when the directory cannot be opened.
    pub fn new(proc: &str, max_per_tick: usize) -> Result<Self, Errno> {
        let directory = rustix::fs::openat(CWD, proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory, listing: Vec::new(), known: Vec::new(), next: Vec::new(), gone: Vec::new(), max_per_tick, turn: 0 })
    }

    /// Lists the processes and calls `look` for those that are new or not settled: it says which container a process is in.
    /// Afterwards [`Self::gone`] has those that ended. An early look, before the tick, settles no process as nobody's.
    ///
    /// # Errors
    /// The kernel's, when the directory cannot be read.
    pub fn scan(&mut self, metrics: &Metrics, early: bool, mut look: impl FnMut(u32) -> Option<u32>) -> Result<(), Errno> {
        self.list()?;
        self.merge(metrics);
        let pending = self.known.iter().filter(|known| known.looks < LOOKS).count();
        // Beyond the limit an even spread is looked at, so that one pod's thousands do not starve the rest.
        let stride = pending.div_ceil(self.max_per_tick).max(1);
        if stride > 1 {
            metrics.limited("processes_per_tick");
        }
        self.turn += 1;
        let unsettled = self.known.iter_mut().filter(|known| known.looks < LOOKS).skip(self.turn % stride).step_by(stride);
        for known in unsettled {
            let container = look(known.pid);
            known.looks += u8::from(!early || container.is_some());
            let stranger = container.is_none() && known.container.is_none() && known.looks >= STRANGER_LOOKS;
            if stranger || (container.is_some() && known.container == container) {
                // Seen twice in its container: what it is called now stays.
                known.looks = LOOKS;
            }
            known.container = container.or(known.container);
        }
        Ok(())
    }

    /// The processes that ended since the scan before.
    #[must_use]
    pub fn gone(&self) -> &[Known] {
        &self.gone
    }

    /// The processes of a container, by ascending number.
    pub fn of(&self, container: u32) -> impl Iterator<Item = u32> + '_ {
        self.known.iter().filter(move |known| known.container == Some(container)).map(|known| known.pid)
    }

    /// A container appeared whose processes may have been settled as nobody's: looks at those again.
    pub fn unsettle_strangers(&mut self) {
        for known in self.known.iter_mut().filter(|known| known.container.is_none()) {
            known.looks = known.looks.min(LOOKS - 1);
        }
    }

    /// A container is gone: its index may be used again.
    pub fn forget(&mut self, container: u32) {
        for known in self.known.iter_mut().filter(|known| known.container == Some(container)) {
            known.container = None;
        }
    }

    fn list(&mut self) -> Result<(), Errno> {
        self.listing.clear();
        rustix::fs::seek(&self.directory, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(&self.directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.iter().all(u8::is_ascii_digit)
                && let Some(pid) = parse::number(name).and_then(|pid| u32::try_from(pid).ok())
            {
                self.listing.push(pid);
            }
        }
        // The kernel lists by ascending number; a captured tree need not.
        if !self.listing.is_sorted() {
            self.listing.sort_unstable();
        }
        Ok(())
    }

    fn merge(&mut self, metrics: &Metrics) {
        self.next.clear();
        self.gone.clear();
        let mut old = self.known.iter().copied().peekable();
        for &pid in &self.listing {
            while let Some(ended) = old.next_if(|known| known.pid < pid) {
                self.gone.push(ended);
            }
            match old.next_if(|known| known.pid == pid) {
                Some(known) => self.next.push(known),
                None if self.next.len() < MAX_KNOWN => self.next.push(Known { pid, container: None, looks: 0 }),
                None => metrics.limited("processes"),
            }
        }
        self.gone.extend(old);
        std::mem::swap(&mut self.known, &mut self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(pids: &[u32]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for pid in pids {
            std::fs::create_dir(directory.path().join(pid.to_string())).unwrap();
        }
        std::fs::create_dir(directory.path().join("sys")).unwrap();
        directory
    }

    #[test]
    fn a_process_is_looked_at_until_it_is_settled_and_reported_when_gone() {
        let proc = tree(&[7, 30, 4]);
        let metrics = Metrics::default();
        let mut processes = Processes::new(proc.path().to_str().unwrap(), 100).unwrap();
        let mut looked = Vec::new();

        for _ in 0..5 {
            processes
                .scan(&metrics, false, |pid| {
                    looked.push(pid);
                    (pid == 30).then_some(9)
                })
                .unwrap();
        }
        std::fs::remove_dir(proc.path().join("30")).unwrap();
        processes.scan(&metrics, false, |_| None).unwrap();

        looked.sort_unstable();
        assert_eq!(looked, [4, 4, 7, 7, 30, 30]);
        assert_eq!(processes.gone().iter().map(|known| (known.pid, known.container)).collect::<Vec<_>>(), [(30, Some(9))]);
        assert_eq!(processes.of(9).count(), 0);
    }

    #[test]
    fn a_crowd_is_looked_at_in_even_portions() {
        let pids: Vec<u32> = (1..=1_000).collect();
        let proc = tree(&pids);
        let metrics = Metrics::default();
        let mut processes = Processes::new(proc.path().to_str().unwrap(), 100).unwrap();
        let mut looked = Vec::new();

        processes
            .scan(&metrics, false, |pid| {
                looked.push(pid);
                None
            })
            .unwrap();

        assert_eq!(looked.len(), 100);
        assert!(looked.windows(2).all(|pair| pair[1] - pair[0] == 10));
        assert_eq!(metrics.limited.get_or_create(&crate::metrics::Reason { reason: "processes_per_tick" }).get(), 1);
    }
}
