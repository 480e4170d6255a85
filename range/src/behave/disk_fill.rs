//! Fills a disk: writes files, byte by byte, until a ceiling or until the disk is full, and holds them.
//!
//! Only a disk that is there to be filled: a file system of its own, such as a run's loop-mounted file, and a small one. What it wrote it
//! removes when its time is over; when it is killed, the disk is unmounted by whoever made it.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, fstatvfs, openat, stat, unlinkat};

use super::{
    BehaviourError,
    course::{Course, CourseArgs, Tempo},
};
use crate::guard::Refusal;

/// Largest file system that is filled: a disk that somebody lives on is larger.
const MAX_DISK_MIB: u64 = 8_192;
/// Most written, whatever is asked for; on a disk that is shared, less.
const MAX_MIB: u64 = 4_096;
const MAX_SHARED_MIB: u64 = 512;
/// Most written per second, whatever is asked for.
const MAX_MIB_PER_SECOND: f64 = 256.0;
/// Size of a file; then the next one begins.
const FILE_MIB: u64 = 64;
/// Written at a time, bytes.
const PIECE: usize = 64 << 10;
const PIECES_PER_MIB: u64 = (1 << 20) / PIECE as u64;
const MIB: u64 = 1 << 20;

/// What is filled, how fast, up to where.
#[derive(clap::Args, Debug)]
pub struct DiskFillArgs {
    /// Directory that gets the files; it must be a disk of its own of at most 8 GiB
    #[arg(long)]
    dir: PathBuf,
    /// MiB per second, at most 256
    #[arg(long, default_value_t = 16.0)]
    mib_per_second: f64,
    /// Where it stops, at most 4 GiB, if the disk is not full before
    #[arg(long, default_value_t = 4_096)]
    most_mib: u64,
    /// Waits for the disk after every so many MiB, so that what is written is written by this container; 0 leaves it to the kernel
    #[arg(long, default_value_t = 16)]
    sync_mib: u64,
    /// Take a directory on the disk that everything is on: then at most 512 MiB, and only half of what is free
    #[arg(long)]
    shared_disk: bool,
    #[command(flatten)]
    course: CourseArgs,
}

/// Fills in the given dose, and holds what it wrote until its time is over.
pub(super) fn run(args: &DiskFillArgs) -> Result<(), BehaviourError> {
    let (dir, most_mib) = place(args)?;
    let mut written = Written { dir, files: Vec::new() };
    let course = args.course.begin();
    let outcome = written.fill(args, most_mib * PIECES_PER_MIB, &course);
    course.sleep_here(course.left());
    outcome.map_err(|error| BehaviourError::Io("fill the disk", error))
}

/// Opens the directory, if it is one that may be filled, and says how many MiB.
fn place(args: &DiskFillArgs) -> Result<(OwnedFd, u64), BehaviourError> {
    let refuse = |why: String| BehaviourError::Refused(Refusal::SharedDisk(args.dir.clone(), why));
    let most_mib = args.most_mib.min(MAX_MIB);
    // A link could be turned to another disk at any time; a descriptor cannot.
    let dir = openat(CWD, &args.dir, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| refuse(format!("cannot be opened as a directory, not through a link: {}", std::io::Error::from(errno))))?;
    let io = |errno: rustix::io::Errno| BehaviourError::Io("look at the disk", errno.into());
    let (own, root, disk) = (fstat(&dir).map_err(io)?, stat(Path::new("/")).map_err(io)?, fstatvfs(&dir).map_err(io)?);
    if args.shared_disk {
        let free_mib = disk.f_bavail.saturating_mul(disk.f_frsize) / MIB;
        return Ok((dir, most_mib.min(MAX_SHARED_MIB).min(free_mib / 2)));
    }
    if own.st_dev == root.st_dev {
        return Err(refuse("is on the disk that / is on, not on one of its own".to_owned()));
    }
    let size_mib = disk.f_blocks.saturating_mul(disk.f_frsize) / MIB;
    if size_mib > MAX_DISK_MIB {
        return Err(refuse(format!("is on a disk of {size_mib} MiB; only one of at most {MAX_DISK_MIB} MiB is there to be filled")));
    }
    Ok((dir, most_mib))
}

/// What was written; removed when dropped.
struct Written {
    dir: OwnedFd,
    files: Vec<String>,
}

impl Written {
    fn fill(&mut self, args: &DiskFillArgs, most_pieces: u64, course: &Course) -> std::io::Result<()> {
        // A rate that is no number writes next to nothing.
        let mib_per_second = if args.mib_per_second > 0.0 { args.mib_per_second.min(MAX_MIB_PER_SECOND) } else { 0.0 };
        let mut tempo = Tempo::new(*course, mib_per_second * PIECES_PER_MIB as f64);
        let (mut pieces, mut left, mut file) = (0, most_pieces, None);
        let mut bytes = vec![0; PIECE];
        while left > 0 {
            let Some(due) = tempo.due_here() else { break };
            for _ in 0..u64::from(due).min(left) {
                rand::fill(&mut bytes[..]);
                let target = match &mut file {
                    Some(file) if pieces % (FILE_MIB * PIECES_PER_MIB) != 0 => file,
                    _ => file.insert(self.next_file()?),
                };
                match target.write_all(&bytes) {
                    Ok(()) => {}
                    // Full: that is the end of it.
                    Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Ok(()),
                    Err(error) => return Err(error),
                }
                (pieces, left) = (pieces + 1, left - 1);
                if args.sync_mib > 0 && pieces % args.sync_mib.saturating_mul(PIECES_PER_MIB) == 0 {
                    target.sync_data()?;
                }
            }
        }
        Ok(())
    }

    fn next_file(&mut self) -> std::io::Result<File> {
        let name = format!("core.{}.{}", std::process::id(), self.files.len());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.dir.as_fd(), &name, flags, Mode::from_raw_mode(0o600))?;
        self.files.push(name);
        Ok(File::from(file))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for name in &self.files {
            // Whoever removed it before did what is wanted.
            let _ = unlinkat(self.dir.as_fd(), name, AtFlags::empty());
        }
    }
}
