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
/// An early look, of which there are several a tick, takes this part of a tick's processes.
const EARLY_PART: usize = 8;

/// What a look at a process told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It is in no container that is known.
    Nobodys,
    /// It is in this one, and its name was read.
    Named(u32),
    /// It is in this one, still on its way to what it will be.
    Unnamed(u32),
    /// It is in this one, whose pod has had its share of this look: its turn comes.
    Crowded(u32),
}

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number in the PID namespace of the proc mount.
    pub pid: u32,
    /// The container that it is in, by the caller's index.
    pub container: Option<u32>,
    looks: u8,
    /// The scan that found it.
    since: u32,
}

impl Known {
    /// Whether its name is taken as it is now.
    #[must_use]
    pub fn is_last_look(&self) -> bool {
        self.looks + 1 >= LOOKS
    }
}

/// Every process that is there.
#[derive(Debug)]
pub struct Processes {
    directory: OwnedFd,
    listing: Vec<u32>,
    known: Vec<Known>,
    next: Vec<Known>,
    gone: Vec<Known>,
    pending: Vec<u32>,
    unmapped: Vec<u32>,
    max_per_tick: usize,
    scans: u32,
}

impl Processes {
    /// Reads below a proc mount; at most so many processes are looked at in one tick.
    ///
    /// # Errors
    /// The kernel's, when the directory cannot be opened.
    pub fn new(proc: &str, max_per_tick: usize) -> Result<Self, Errno> {
        let directory = rustix::fs::openat(CWD, proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self {
            directory,
            listing: Vec::new(),
            known: Vec::new(),
            next: Vec::new(),
            gone: Vec::new(),
            pending: Vec::new(),
            unmapped: Vec::new(),
            max_per_tick,
            scans: 0,
        })
    }

    /// Lists the processes and calls `look` for those that are new or not settled: it says which container a process is in.
    /// Afterwards [`Self::gone`] has those that ended. An early look, before the tick, settles no process as nobody's.
    ///
    /// Those whose container is known already come first and all, to have their names read; `look` limits them by pod.
    ///
    /// # Errors
    /// The kernel's, when the directory cannot be read.
    pub fn scan(&mut self, metrics: &Metrics, early: bool, mut look: impl FnMut(&Known) -> Looked) -> Result<(), Errno> {
        self.list()?;
        self.scans = self.scans.wrapping_add(1);
        self.merge(metrics);
        let limit = if early { self.max_per_tick.div_ceil(EARLY_PART) } else { self.max_per_tick };
        self.choose(limit, metrics);
        for &place in &self.pending {
            let known = &mut self.known[place as usize];
            match look(known) {
                Looked::Nobodys => {
                    known.looks += u8::from(!early);
                    if known.looks >= STRANGER_LOOKS {
                        known.looks = LOOKS;
                    }
                }
                // Seen twice in its container: what it is called now stays.
                Looked::Named(container) if known.container == Some(container) => known.looks = LOOKS,
                Looked::Named(container) | Looked::Unnamed(container) => {
                    known.looks += 1;
                    known.container = Some(container);
                }
                Looked::Crowded(container) => known.container = Some(container),
            }
        }
        Ok(())
    }

    /// Chooses whom to look at. Of those whose container is not known there is a limit: beyond it, half are those that wait longest and half the
    /// newest. A crowd that stays delays others no longer than it takes to look at it once, and one that comes and goes is gone before it
    /// is looked at.
    fn choose(&mut self, limit: usize, metrics: &Metrics) {
        let Self { known, pending, unmapped, .. } = self;
        pending.clear();
        unmapped.clear();
        for (place, known) in (0..).zip(&*known).filter(|(_, known)| known.looks < LOOKS) {
            if known.container.is_some() { pending.push(place) } else { unmapped.push(place) }
        }
        // Whoever waits longest for a name has it first.
        pending.sort_by_key(|&place| known[place as usize].since);
        if unmapped.len() > limit {
            metrics.limited("processes_per_tick");
            // Those that came together are spread: neighbours by number often are of one pod.
            unmapped.sort_unstable_by_key(|&place| {
                let known = &known[place as usize];
                (known.since, known.pid.reverse_bits())
            });
            unmapped.drain(limit - limit / 2..unmapped.len() - limit / 2);
            unmapped.sort_unstable();
        }
        pending.append(unmapped);
    }

    /// Looks at a process no more.
    pub fn settle(&mut self, pid: u32) {
        if let Ok(place) = self.known.binary_search_by_key(&pid, |known| known.pid) {
            self.known[place].looks = LOOKS;
        }
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
        for known in self.known.iter_mut().filter(|known| known.container.is_none() && known.looks == LOOKS) {
            (known.looks, known.since) = (LOOKS - 1, self.scans);
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
                None if self.next.len() < MAX_KNOWN => self.next.push(Known { pid, container: None, looks: 0, since: self.scans }),
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
                .scan(&metrics, false, |known| {
                    looked.push(known.pid);
                    if known.pid == 30 { Looked::Named(9) } else { Looked::Nobodys }
                })
                .unwrap();
        }
        std::fs::remove_dir(proc.path().join("30")).unwrap();
        processes.scan(&metrics, false, |_| Looked::Nobodys).unwrap();

        looked.sort_unstable();
        assert_eq!(looked, [4, 4, 7, 7, 30, 30]);
        assert_eq!(processes.gone().iter().map(|known| (known.pid, known.container)).collect::<Vec<_>>(), [(30, Some(9))]);
        assert_eq!(processes.of(9).count(), 0);
    }

    /// Looks as the sensor does, with a share of twenty for the crowd's pod; gives what was named.
    fn scan(processes: &mut Processes, metrics: &Metrics, is_crowd: impl Fn(u32) -> bool) -> Vec<u32> {
        let (mut named, mut share) = (Vec::new(), 0);
        let look = |known: &Known| {
            if !is_crowd(known.pid) {
                named.push(known.pid);
                return Looked::Named(1);
            }
            share += 1;
            if share > 20 {
                return Looked::Crowded(0);
            }
            named.push(known.pid);
            Looked::Named(0)
        };
        processes.scan(metrics, false, look).unwrap();
        named
    }

    #[test]
    fn a_crowd_that_stays_delays_another_no_longer_than_it_takes_to_look_at_it_once() {
        let pids: Vec<u32> = (1..=1_000).collect();
        let proc = tree(&pids);
        let metrics = Metrics::default();
        let mut processes = Processes::new(proc.path().to_str().unwrap(), 100).unwrap();
        // 500 is another's, and came together with the crowd.
        let is_crowd = |pid| pid <= 1_000 && pid != 500;

        let mut named = vec![scan(&mut processes, &metrics, is_crowd)];
        std::fs::create_dir(proc.path().join("2000")).unwrap();
        named.push(scan(&mut processes, &metrics, is_crowd));
        assert!(named[1].contains(&2_000), "a newcomer is among the newest");
        while named.len() < 120 {
            named.push(scan(&mut processes, &metrics, is_crowd));
        }

        let first = |pid: u32| named.iter().position(|named| named.contains(&pid)).unwrap();
        assert!(first(500) < 10, "after {} looks", first(500));
        assert!(named.iter().all(|named| named.len() <= 20 + 2), "a pod has its share and no more");
        assert!((1..=1_000).all(|pid| first(pid) < 110), "and everyone of the crowd has its turn");
        assert!(metrics.limited.get_or_create(&crate::metrics::Reason { reason: "processes_per_tick" }).get() >= 9);
    }

    #[test]
    fn a_crowd_that_comes_and_goes_does_not_keep_one_that_stays_from_being_looked_at() {
        let proc = tree(&[5]);
        let metrics = Metrics::default();
        let mut processes = Processes::new(proc.path().to_str().unwrap(), 10).unwrap();
        let mut named = Vec::new();

        for round in 1..=20u32 {
            let crowd: Vec<u32> = (0..200).map(|number| 1_000 * round + number).collect();
            crowd.iter().for_each(|pid| std::fs::create_dir(proc.path().join(pid.to_string())).unwrap());
            named.extend(scan(&mut processes, &metrics, |pid| pid != 5 && pid % 1_000 != 100));
            // One that came with them stays.
            let gone = crowd.iter().filter(|pid| **pid % 1_000 != 100);
            gone.for_each(|pid| std::fs::remove_dir(proc.path().join(pid.to_string())).unwrap());
        }

        let stayed = (1..20u32).map(|round| 1_000 * round + 100);
        assert!(stayed.chain([5]).all(|pid| named.contains(&pid)), "{named:?}");
    }
}
