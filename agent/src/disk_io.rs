//! Which files of cgroup v1 tell a container's disk I/O, if any does.

use std::{collections::HashSet, path::Path};

use crate::{node::whole_disks, parse};

/// Pairs of bytes and operations, the best first. The throttle's files have every disk; BFQ's only those that it schedules.
const CANDIDATES: [[&str; 2]; 4] = [
    ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive"],
    ["blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced"],
    ["blkio.bfq.io_service_bytes_recursive", "blkio.bfq.io_serviced_recursive"],
    ["blkio.bfq.io_service_bytes", "blkio.bfq.io_serviced"],
];

/// The files of bytes and operations that have every disk of the node that was ever used; `None` where there are none.
///
/// Since Linux 6.10 the throttle's files count a disk only once a limit is set on it for some cgroup; until then they say `Total 0`
/// whatever is written. The root's file lists each disk that is counted, so the two can be told apart there. A container's own file does
/// not tell: it lists nothing either where the container did no I/O.
#[must_use]
pub fn counting_files(proc: &Path, blkio: &Path) -> Option<[&'static str; 2]> {
    let used = used_disks(&std::fs::read(proc.join("diskstats")).ok()?)?;
    CANDIDATES.into_iter().find(|[bytes, _]| {
        let counted = std::fs::read(blkio.join(bytes)).map(|text| counted_disks(&text)).unwrap_or_default();
        !counted.is_empty() && used.is_subset(&counted)
    })
}

/// The disks of a `diskstats` that were read or written, as `major:minor`.
fn used_disks(text: &[u8]) -> Option<HashSet<String>> {
    let used = whole_disks(text)?.into_iter().filter(|disk| disk.sectors_read > 0 || disk.sectors_written > 0);
    Some(used.map(|disk| format!("{}:{}", disk.major, disk.minor)).collect())
}

/// The disks that a blkio file has lines of, likewise.
fn counted_disks(text: &[u8]) -> HashSet<String> {
    let names = parse::lines(text).filter_map(|line| parse::words(line).next()).filter(|word| word.contains(&b':'));
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKSTATS: &str = "   7       0 loop0 9 0 37150 220 0 0 0 0 0 0 0\n   8       0 sda 9 0 90 1 9 0 90 1 0 1 1\n   8       1 sda1 9 0 90 1 9 0 90 1 0 1 1\n \
                             259       0 nvme0n1 1 0 8 1 0 0 0 0 0 1 1\n   8      16 sdb 0 0 0 0 0 0 0 0 0 0 0\n";
    const BOTH: &str = "259:0 Read 0\n259:0 Write 0\n8:0 Read 4096\n8:0 Write 0\nTotal 4096\n";
    const NONE: &str = "Total 0\n";

    fn check(files: &[(&str, &str)], diskstats: &str) -> Option<[&'static str; 2]> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("diskstats"), diskstats).unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        counting_files(root.path(), root.path())
    }

    #[test]
    fn the_first_files_that_have_every_used_disk_are_taken() {
        let [recursive, own, _, bfq] = CANDIDATES;
        assert_eq!(check(&[(recursive[0], BOTH), (own[0], BOTH)], DISKSTATS), Some(recursive));
        assert_eq!(check(&[(own[0], BOTH)], DISKSTATS), Some(own), "an older kernel");
        assert_eq!(check(&[(recursive[0], NONE), (own[0], NONE), (bfq[0], BOTH)], DISKSTATS), Some(bfq));
    }

    #[test]
    fn a_kernel_that_does_not_count_or_not_every_disk_has_none() {
        let [recursive, own, ..] = CANDIDATES;
        let one = "8:0 Read 4096\nTotal 4096\n";
        assert_eq!(check(&[(recursive[0], NONE), (own[0], NONE)], DISKSTATS), None);
        assert_eq!(check(&[(recursive[0], one), (own[0], one)], DISKSTATS), None);
        assert_eq!(check(&[(recursive[0], NONE)], ""), None, "no disk at all");
        assert_eq!(check(&[], DISKSTATS), None);
    }
}
