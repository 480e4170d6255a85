//! What confines this process: the limits of its own cgroup and of those above it that it can see, and the memory that is left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::guard::Refusal;

/// A limit of this or more is none: v1 writes "no limit" as the largest multiple of a page.
const NO_LIMIT: u64 = 1 << 60;
const MIB: u64 = 1 << 20;

/// The limits in force on this process; `None` where none is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Confines {
    /// The lowest limit on processes and threads.
    pub(super) pids: Option<u64>,
    /// The lowest limit on memory, bytes.
    pub(super) memory_bytes: Option<u64>,
    /// The file that counts against the pids limit.
    pids_current: Option<PathBuf>,
}

impl Confines {
    /// Looks at this process's cgroups.
    pub(super) fn own() -> Self {
        let read = |path: &Path| fs::read_to_string(path).ok();
        let (cgroup, mounts) = (read(Path::new("/proc/self/cgroup")), read(Path::new("/proc/self/mountinfo")));
        Self::of(&cgroup.unwrap_or_default(), &mounts.unwrap_or_default(), read)
    }

    fn of(cgroup: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Self {
        let lowest = |controller: &str, names: [&str; 2]| {
            let dirs = places(cgroup, mounts, controller);
            let files = dirs.iter().flat_map(|dir| names.map(|name| dir.join(name)));
            let limits = files.filter_map(|file| Some((read(&file)?.trim().parse().ok()?, file)));
            limits.filter(|&(limit, _)| limit < NO_LIMIT).min_by_key(|&(limit, _)| limit)
        };
        let pids: Option<(u64, PathBuf)> = lowest("pids", ["pids.max", "pids.max"]);
        let memory: Option<(u64, PathBuf)> = lowest("memory", ["memory.max", "memory.limit_in_bytes"]);
        Self {
            pids_current: pids.as_ref().map(|(_, file)| file.with_file_name("pids.current")),
            pids: pids.map(|(limit, _)| limit),
            memory_bytes: memory.map(|(limit, _)| limit),
        }
    }

    /// Processes and threads that count against the pids limit now.
    pub(super) fn pids_current(&self) -> Option<u64> {
        fs::read_to_string(self.pids_current.as_ref()?).ok()?.trim().parse().ok()
    }

    /// The pids limit, if it is low enough to be strained.
    ///
    /// # Errors
    /// When there is none, or one above `most`.
    pub(super) fn pids_limit(&self, most: u64) -> Result<u64, Refusal> {
        self.pids.filter(|&limit| limit <= most).ok_or(Refusal::NoPidsLimit(most))
    }

    /// The memory limit, if it is low enough to be strained.
    ///
    /// # Errors
    /// When there is none, or one above `most_bytes`.
    pub(super) fn memory_limit(&self, most_bytes: u64) -> Result<u64, Refusal> {
        self.memory_bytes.filter(|&limit| limit <= most_bytes).ok_or(Refusal::NoMemoryLimit(most_bytes / MIB))
    }

    /// Whether so much memory may be taken: at most half of what the machine has left.
    ///
    /// # Errors
    /// When it may not.
    pub(super) fn machine_has_room(wanted_bytes: u64) -> Result<(), Refusal> {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let half = available_bytes(&text).unwrap_or(0) / 2;
        room(wanted_bytes, half, "half of the memory that this machine has left")
    }

    /// Whether so much memory fits: into the cgroup's limit where there is one, and into half of what the machine has left.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn fits(&self, wanted_bytes: u64) -> Result<(), Refusal> {
        if let Some(limit) = self.memory_bytes {
            room(wanted_bytes, limit, "the memory limit of this process's cgroup")?;
        }
        Self::machine_has_room(wanted_bytes)
    }
}

fn room(wanted: u64, room: u64, whose: &'static str) -> Result<(), Refusal> {
    if wanted <= room {
        return Ok(());
    }
    Err(Refusal::NoRoom { wanted_mib: wanted.div_ceil(MIB), room_mib: room / MIB, whose })
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The directories of this process's cgroup and of every one above it, as far as they can be seen, in the hierarchies that may have the
/// controller. In a container the mount shows only a part of the hierarchy: what is above it stays unseen.
fn places(cgroup: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
        let (Some(root), Some(point)) = (left.next(), left.next()) else { continue };
        let (Some(kind), Some(_), Some(options)) = (right.next(), right.next(), right.next()) else { continue };
        let path = match kind {
            "cgroup2" => cgroup.lines().find_map(|line| line.strip_prefix("0::")),
            "cgroup" if options.split(',').any(|option| option == controller) => cgroup.lines().find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                controllers.split(',').any(|name| name == controller).then_some(path)
            }),
            _ => continue,
        };
        // A path outside of what is mounted is not ours to guess.
        let Some(below) = path.and_then(|path| Path::new(path).strip_prefix(root).ok()) else { continue };
        if below.components().any(|part| part == std::path::Component::ParentDir) {
            continue;
        }
        let point = PathBuf::from(point.replace("\\040", " "));
        places.extend(below.ancestors().map(|part| point.join(part)));
    }
    places
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn check(cgroup: &str, mounts: &str, files: &[(&str, &str)]) -> (Option<u64>, Option<u64>) {
        let files: HashMap<_, _> = files.iter().copied().collect();
        let found = Confines::of(cgroup, mounts, |path| files.get(path.to_str()?).map(|&text| text.to_owned()));
        (found.pids, found.memory_bytes)
    }

    const V1: &str = "30 20 0:1 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
        31 20 0:2 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
        32 20 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_lowest_limit_above_a_process_counts() {
        let found = check(
            "8:pids:/run/pod1/c1\n7:memory:/run/pod1/c1\n0::/run\n",
            V1,
            &[
                ("/sys/fs/cgroup/pids/run/pod1/c1/pids.max", "max\n"),
                ("/sys/fs/cgroup/pids/run/pod1/pids.max", "512\n"),
                ("/sys/fs/cgroup/pids/run/pids.max", "4000\n"),
                ("/sys/fs/cgroup/memory/run/pod1/c1/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );

        assert_eq!(found, (Some(512), None));
    }

    #[test]
    fn a_container_sees_its_own_part_only() {
        let mounts = "30 20 0:1 /kubepods/pod1/c1 /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n";
        let files = [("/sys/fs/cgroup/pids/pids.max", "100\n")];

        assert_eq!(check("8:pids:/kubepods/pod1/c1\n", mounts, &files).0, Some(100));
        assert_eq!(check("8:pids:/kubepods/pod2/c2\n", mounts, &files).0, None);
    }

    #[test]
    fn version_2_in_a_namespace_of_its_own_is_understood() {
        let mounts = "30 20 0:1 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw,nsdelegate\n";
        let files = [("/sys/fs/cgroup/pids.max", "64\n"), ("/sys/fs/cgroup/memory.max", "268435456\n")];

        assert_eq!(check("0::/\n", mounts, &files), (Some(64), Some(268_435_456)));
        assert_eq!(check("0::/../other\n", mounts, &files), (None, None));
        assert_eq!(check("0::/\n", mounts, &[("/sys/fs/cgroup/pids.max", "max\n")]), (None, None));
    }

    #[test]
    fn limits_that_are_none_or_too_high_are_refused() {
        let confines = Confines { pids: Some(9_000), memory_bytes: None, pids_current: None };

        assert_eq!(confines.pids_limit(4_096), Err(Refusal::NoPidsLimit(4_096)));
        assert_eq!(confines.memory_limit(512 * MIB), Err(Refusal::NoMemoryLimit(512)));
        assert_eq!(confines.pids_current(), None);
    }

    #[test]
    fn more_than_there_is_does_not_fit() {
        assert_eq!(available_bytes("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 * MIB));
        let own = Confines { memory_bytes: Some(64 * MIB), ..Confines::default() };
        assert!(matches!(own.fits(65 * MIB), Err(Refusal::NoRoom { wanted_mib: 65, room_mib: 64, .. })));
        assert!(Confines::machine_has_room(u64::MAX).is_err());
    }
}
