//! Notices new and vanished cgroups at once, through inotify on the directories that can hold containers.

use std::{collections::HashMap, mem::MaybeUninit, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

/// Most directories watched; beyond, the rescan finds what happens in them. A watch costs about 1 kB of kernel memory.
const MAX_WATCHES: usize = 8_192;
/// Most events taken at once; more wait in the kernel's queue (16,384 by default), whose overflow is reported.
const MAX_EVENTS: usize = 1_024;

/// What happened to a cgroup, by its path below the cgroup root.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A directory was made.
    Created(String),
    /// A directory was removed.
    Removed(String),
    /// Events were lost: look at everything again.
    Overflow,
}

/// Watches directories of one hierarchy.
#[derive(Debug)]
pub struct Watcher {
    descriptor: OwnedFd,
    mount: String,
    paths: HashMap<i32, String>,
    watches: HashMap<String, i32>,
    events: Vec<Event>,
}

impl Watcher {
    /// Watches below a mount.
    ///
    /// # Errors
    /// The kernel's, when there are no more inotify instances for this user.
    pub fn new(mount: &str) -> Result<Self, Errno> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { descriptor, mount: mount.to_owned(), paths: HashMap::new(), watches: HashMap::new(), events: Vec::new() })
    }

    /// Watches a directory for what is made and removed in it. Says whether it is watched; `false` beyond the limits.
    pub fn watch(&mut self, path: &str) -> bool {
        if self.watches.contains_key(path) {
            return true;
        }
        if self.watches.len() >= MAX_WATCHES {
            return false;
        }
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let Ok(watch) = inotify::add_watch(&self.descriptor, format!("{}/{path}", self.mount).as_str(), flags) else { return false };
        self.paths.insert(watch, path.to_owned());
        self.watches.insert(path.to_owned(), watch);
        true
    }

    /// Waits for events, at most this long. Says whether there are any.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// The events that wait, without blocking.
    pub fn take(&mut self) -> Vec<Event> {
        let mut buffer = [MaybeUninit::uninit(); 8_192];
        let mut reader = inotify::Reader::new(&self.descriptor, &mut buffer);
        while self.events.len() < MAX_EVENTS {
            let Ok(event) = reader.next() else { break };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.events.push(Event::Overflow);
                continue;
            }
            if flags.contains(ReadFlags::IGNORED) {
                if let Some(path) = self.paths.remove(&event.wd()) {
                    self.watches.remove(&path);
                }
                continue;
            }
            let (Some(parent), Some(name), true) = (self.paths.get(&event.wd()), event.file_name(), flags.contains(ReadFlags::ISDIR))
            else {
                continue;
            };
            let Ok(name) = name.to_str() else { continue };
            let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
            if flags.contains(ReadFlags::CREATE) {
                self.events.push(Event::Created(path));
            } else if flags.contains(ReadFlags::DELETE) {
                self.events.push(Event::Removed(path));
            }
        }
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_lives_for_an_instant_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("pod")).unwrap();
        let mut watcher = Watcher::new(directory.path().to_str().unwrap()).unwrap();
        assert!(watcher.watch("") && watcher.watch("pod"));

        std::fs::create_dir(directory.path().join("pod/c1")).unwrap();
        std::fs::remove_dir(directory.path().join("pod/c1")).unwrap();
        std::fs::remove_dir(directory.path().join("pod")).unwrap();

        assert!(watcher.wait(Duration::from_secs(5)));
        let events = watcher.take();
        let expected = [Event::Created("pod/c1".into()), Event::Removed("pod/c1".into()), Event::Removed("pod".into())];
        assert_eq!(events, expected);
        assert!(!watcher.watches.contains_key("pod"), "a removed directory is no longer watched");
    }
}
