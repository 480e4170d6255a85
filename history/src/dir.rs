//! The directory: its version, its lock, where things are in it.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{HistoryError, files::StoredFile};

/// Version of the layout: log frames, manifest, Parquet schema.
pub(crate) const VERSION: u32 = 1;

/// Held while the directory is open.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

pub(crate) fn wal(dir: &Path) -> PathBuf {
    dir.join("wal")
}

/// Takes the directory for this process, making it where it is not there. Nothing in it is touched before its version is known.
pub(crate) fn claim(dir: &Path) -> Result<Lock, HistoryError> {
    let fail = |action, path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| HistoryError::file(action, &path, &error)
    };
    fs::create_dir_all(dir).map_err(fail("create", dir))?;
    let version_path = dir.join("VERSION");
    match fs::read_to_string(&version_path) {
        Ok(text) if text.trim() == VERSION.to_string() => {}
        Ok(text) => {
            let found = text.trim().chars().take(32).collect::<String>().escape_debug().to_string();
            return Err(HistoryError::Version { dir: dir.display().to_string(), found, expected: VERSION });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut others = fs::read_dir(dir).map_err(fail("list", dir))?;
            // A start that died between lock and version leaves the lock and a half-made version file.
            let foreign = others.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lock" && entry.file_name() != "VERSION.tmp"));
            if foreign {
                return Err(HistoryError::NotHistory { dir: dir.display().to_string() });
            }
        }
        Err(error) => return Err(HistoryError::file("read", &version_path, &error)),
    }
    let lock_path = dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path).map_err(fail("create", &lock_path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(HistoryError::InUse { dir: dir.display().to_string() }),
        Err(TryLockError::Error(error)) => return Err(HistoryError::file("lock", &lock_path, &error)),
    }
    if !version_path.exists() {
        let temporary = dir.join("VERSION.tmp");
        fs::write(&temporary, format!("{VERSION}\n")).map_err(fail("write", &temporary))?;
        fs::rename(&temporary, &version_path).map_err(fail("create", &version_path))?;
    }
    let wal = wal(dir);
    fs::create_dir_all(&wal).map_err(fail("create", &wal))?;
    Ok(Lock { _file: file })
}

/// The segment files, by id.
pub(crate) fn segments(wal: &Path) -> Result<Vec<(u64, PathBuf)>, HistoryError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(wal).map_err(|error| HistoryError::file("list", wal, &error))? {
        let path = entry.map_err(|error| HistoryError::file("list", wal, &error))?.path();
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".wal")?.parse().ok());
        if let Some(id) = id {
            found.push((id, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes files of observations that the manifest does not know: what a start, a seal or a merge left when it was cut short.
pub(crate) fn remove_unknown(dir: &Path, known: &[Arc<StoredFile>]) -> Result<(), HistoryError> {
    let known: HashSet<&Path> = known.iter().map(|file| file.path.as_path()).collect();
    let mut folders = vec![dir.join("observations")];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(HistoryError::file("list", &folder, &error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| HistoryError::file("list", &folder, &error))?.path();
            let ours = path.extension().is_some_and(|extension| extension == "parquet" || extension == "tmp");
            if path.is_dir() {
                folders.push(path);
            } else if ours && !known.contains(path.as_path()) {
                fs::remove_file(&path).map_err(|error| HistoryError::file("remove", &path, &error))?;
            }
        }
    }
    Ok(())
}
