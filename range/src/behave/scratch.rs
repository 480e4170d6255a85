//! A behaviour's own directory below the one it was given: locked while it lives, so that two workloads never share it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use super::BehaviourError;

/// How long the life before may take to let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// The directory, held.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes `dir/name` and keeps what an earlier life left in it.
    pub(super) fn kept(dir: &Path, name: &str) -> Result<Self, BehaviourError> {
        let path = dir.join(name);
        fs::create_dir_all(&path).map_err(|error| BehaviourError::File("create", path.clone(), error))?;
        let lock = File::open(&path).map_err(|error| BehaviourError::File("open", path.clone(), error))?;
        let began = Instant::now();
        while let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if began.elapsed() > PATIENCE {
                return Err(BehaviourError::File("lock", path, errno.into()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { path, _lock: lock })
    }

    /// Makes `dir/name`, empty.
    pub(super) fn empty(dir: &Path, name: &str) -> Result<Self, BehaviourError> {
        let scratch = Self::kept(dir, name)?;
        scratch.clear()?;
        Ok(scratch)
    }

    /// Removes what is in it.
    pub(super) fn clear(&self) -> Result<(), BehaviourError> {
        let entries = fs::read_dir(&self.path).map_err(|error| BehaviourError::File("read", self.path.clone(), error))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let removed =
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(BehaviourError::File("remove", path, error)),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file or directory in it.
    pub(super) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}
