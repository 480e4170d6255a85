//! The data directory: made where there is none, of this version, used by one aggregator at a time.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What `VERSION` says: the layout of the directory itself. History and store have versions of their own.
const VERSION: &str = "vedette-aggregator 1";

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file or directory cannot be made or read.
    #[error("data directory {path}: {error}")]
    File {
        /// What was tried.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Another process has it open.
    #[error("data directory {path} is in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// Made by another version.
    #[error("data directory {path} is of version {found:?}, this program reads {VERSION:?}; nothing was changed")]
    Version {
        /// The directory.
        path: PathBuf,
        /// What its VERSION file says.
        found: String,
    },
}

/// The right to use the directory, until dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens it, or makes it for the owner only.
    ///
    /// # Errors
    /// [`DataDirError`]; a directory of another version is left as it is.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |error| DataDirError::File { path, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail(path))?;
        let version = path.join("VERSION");
        match std::fs::read_to_string(&version) {
            Ok(found) if found.trim() == VERSION => {}
            Ok(found) => return Err(DataDirError::Version { path: path.into(), found: found.trim().chars().take(64).collect() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::write(&version, format!("{VERSION}\n")).map_err(fail(&version))?
            }
            Err(error) => return Err(DataDirError::File { path: version, error }),
        }
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path).map_err(fail(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: path.into() }),
            Err(TryLockError::Error(error)) => Err(DataDirError::File { path: lock_path, error }),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();

        let first = DataDir::open(dir.path()).unwrap();
        let second = DataDir::open(dir.path());
        drop(first);
        let third = DataDir::open(dir.path());

        assert!(matches!(second, Err(DataDirError::InUse { .. })));
        assert!(third.is_ok());
    }

    #[test]
    fn another_version_is_left_untouched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("VERSION"), "vedette-aggregator 99\n").unwrap();

        let error = DataDir::open(dir.path()).unwrap_err().to_string();

        assert!(error.contains("99") && !error.contains('\n'), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
