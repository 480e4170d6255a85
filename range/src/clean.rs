//! Removes what a run left behind, and says what is left.

use std::path::PathBuf;

use crate::{
    cgroups::{CgroupError, Cgroups},
    disk::{self, DiskError},
    home::{HOMES, Home, HomeError},
    runtime::containerd,
};

/// Why a run could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// Its injector lives.
    #[error("run {name} is alive (process {pid}); stop it instead")]
    Alive {
        /// The run.
        name: String,
        /// Its injector.
        pid: u32,
    },
    /// It is not a run.
    #[error("no run named {0:?}: nothing of that name is in {HOMES}")]
    Unknown(String),
    /// Its cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its disks.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its directory.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// Removes one run that is over: kills its processes, removes its cgroups, disks and directory. Network namespaces go with the processes.
///
/// # Errors
/// When the run is alive, unknown, or cannot be removed.
pub async fn clean(name: &str) -> Result<(), CleanError> {
    let home = Home::of(name);
    // Before the directory, so that a name with slashes in it goes no further.
    let cgroups = Cgroups::find(name)?;
    if !home.exists() {
        return Err(CleanError::Unknown(name.to_owned()));
    }
    if let Some(pid) = home.living_owner() {
        return Err(CleanError::Alive { name: name.to_owned(), pid });
    }
    remove(&cgroups, &home).await
}

/// Removes everything of a run.
///
/// # Errors
/// When something cannot be removed.
pub async fn remove(cgroups: &Cgroups, home: &Home) -> Result<(), CleanError> {
    // Whoever makes cgroups, before they are removed.
    cgroups.remove(containerd::CGROUP).await?;
    cgroups.remove("").await?;
    // What was written there must not be taken for the directory's own files.
    disk::unmount_below(home.dir()).await?;
    // Last: as long as it exists, the name is known as a run's.
    home.remove()?;
    Ok(())
}

/// What of a run still exists.
///
/// # Errors
/// When the cgroup hierarchies cannot be found.
pub fn leftovers(name: &str) -> Result<Vec<PathBuf>, CleanError> {
    let mut left = Cgroups::find(name)?.leftovers();
    let home = Home::of(name);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    left.extend(disk::mounts_below(&mounts, home.dir()));
    if home.exists() {
        left.push(PathBuf::from(HOMES).join(name));
    }
    Ok(left)
}
