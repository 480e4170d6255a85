//! Disks of pods: ext4 in a file, mounted through a loop device. A tmpfs would look like memory.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use tokio::process::Command;

/// Smallest disk that ext4 with a journal makes sense on.
pub const MIN_BYTES: u64 = 8 << 20;
/// Largest disk: the file is sparse, but a behaviour may fill it.
pub const MAX_BYTES: u64 = 1 << 30;

/// Why a disk could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file operation.
    #[error("cannot {0} {1}: {2}")]
    File(&'static str, PathBuf, io::Error),
    /// A program is not installed, or cannot be started.
    #[error("cannot start {0}: {1}; disks need mkfs.ext4 (e2fsprogs), mount and umount")]
    Missing(&'static str, io::Error),
    /// A program failed.
    #[error("{0} {1} failed: {2}")]
    Failed(&'static str, PathBuf, String),
}

/// Makes a file system of so many bytes in `image` and mounts it at `place`; both must not exist.
///
/// # Errors
/// When it cannot be made; what was made is removed by [`unmount_below`] and with the directories.
pub async fn make(image: &Path, place: &Path, bytes: u64) -> Result<(), DiskError> {
    let file = File::create_new(image).map_err(|error| DiskError::File("create", image.to_owned(), error))?;
    file.set_len(bytes.clamp(MIN_BYTES, MAX_BYTES)).map_err(|error| DiskError::File("size", image.to_owned(), error))?;
    drop(file);
    // Without lazy initialisation: the kernel would write for minutes in the background.
    let options = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    run("mkfs.ext4", &options, &[image]).await?;
    fs::create_dir_all(place).map_err(|error| DiskError::File("create", place.to_owned(), error))?;
    run("mount", &["-t", "ext4", "-o", "loop,nosuid,nodev"], &[image, place]).await
}

/// Unmounts one; what still uses it keeps it alive a little longer.
///
/// # Errors
/// When it cannot be unmounted.
pub async fn unmount(place: &Path) -> Result<(), DiskError> {
    match run("umount", &[], &[place]).await {
        Ok(()) => Ok(()),
        Err(DiskError::Failed(..)) => run("umount", &["-l"], &[place]).await,
        Err(error) => Err(error),
    }
}

/// Unmounts everything below a directory, the deepest first.
///
/// # Errors
/// When the mounts cannot be read or one cannot be unmounted.
pub async fn unmount_below(dir: &Path) -> Result<(), DiskError> {
    let table = Path::new("/proc/self/mounts");
    let text = fs::read_to_string(table).map_err(|error| DiskError::File("read", table.to_owned(), error))?;
    for place in mounts_below(&text, dir) {
        unmount(&place).await?;
    }
    Ok(())
}

/// Mount points below a directory, the last one mounted first.
#[must_use]
pub fn mounts_below(table: &str, dir: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(|point| PathBuf::from(point.replace("\\040", " ")));
    let mut below: Vec<_> = points.filter(|point| point.starts_with(dir) && point != dir).collect();
    below.reverse();
    below
}

async fn run(program: &'static str, options: &[&str], paths: &[&Path]) -> Result<(), DiskError> {
    let mut command = Command::new(program);
    // Administrators' programs, also where whoever started us has them not in the path.
    command.args(options).args(paths).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    let output = command.output().await.map_err(|error| DiskError::Missing(program, error))?;
    if output.status.success() {
        return Ok(());
    }
    let path = paths.last().map_or_else(PathBuf::new, |path| (*path).to_owned());
    Err(DiskError::Failed(program, path, String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_is_unmounted_and_the_deepest_first() {
        let table = "/dev/sda1 / ext4 rw 0 0\n\
            /dev/loop0 /var/lib/vedette-range/one/work/a ext4 rw 0 0\n\
            /dev/loop1 /var/lib/vedette-range/one/work/a/b\\040c ext4 rw 0 0\n\
            /dev/loop2 /var/lib/vedette-range/one-more/work/a ext4 rw 0 0\n";

        let below = mounts_below(table, Path::new("/var/lib/vedette-range/one"));

        assert_eq!(below, [Path::new("/var/lib/vedette-range/one/work/a/b c"), Path::new("/var/lib/vedette-range/one/work/a")]);
    }
}
