//! The run's own directory: links that give processes their names, room for the batch job's output, and who owns the run.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where runs keep their directories; only root may write there, so nobody can plant links in it.
pub const HOMES: &str = "/var/lib/vedette-range";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another run has the same name and is alive.
    #[error("a run named {name} is alive (process {pid}); stop it first, or use another --root-cgroup")]
    Alive {
        /// The run.
        name: String,
        /// Its injector.
        pid: u32,
    },
    /// A file operation.
    #[error("cannot {0} {1}: {2}")]
    File(&'static str, PathBuf, io::Error),
}

/// Who owns a run: the injector, told from a later process with the same id by its start.
#[derive(Debug, Deserialize, Serialize)]
struct Owner {
    pid: u32,
    start_ticks: u64,
}

/// A run's directory.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
    executable: PathBuf,
}

impl Home {
    /// Makes the directory and writes down that this process owns it. `executable` is the `vedette-range` that pods run.
    ///
    /// # Errors
    /// When a living run has the name, or the directory cannot be made.
    pub fn claim(name: &str, executable: &Path) -> Result<Self, HomeError> {
        let home = Self { dir: Path::new(HOMES).join(name), executable: executable.to_owned() };
        if let Some(pid) = home.living_owner() {
            return Err(HomeError::Alive { name: name.to_owned(), pid });
        }
        home.remove()?;
        for part in ["bin", "work/shared", "disks"] {
            let path = home.dir.join(part);
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(|error| HomeError::File("create", path, error))?;
        }
        let owner = Owner { pid: std::process::id(), start_ticks: start_ticks(std::process::id()).unwrap_or(0) };
        let path = home.owner_file();
        let text = serde_json::to_string(&owner).unwrap_or_default();
        fs::write(&path, text).map_err(|error| HomeError::File("write", path, error))?;
        Ok(home)
    }

    /// The directory of a run that may be over.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self { dir: Path::new(HOMES).join(name), executable: PathBuf::new() }
    }

    /// Names of runs that left a directory.
    #[must_use]
    pub fn names() -> Vec<String> {
        let entries = fs::read_dir(HOMES).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The injector, if it is still the process that claimed the directory.
    #[must_use]
    pub fn living_owner(&self) -> Option<u32> {
        let owner: Owner = serde_json::from_str(&fs::read_to_string(self.owner_file()).ok()?).ok()?;
        (start_ticks(owner.pid) == Some(owner.start_ticks)).then_some(owner.pid)
    }

    /// The executable under another name: the kernel takes a process's name from the path it was started by.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn program(&self, name: &str) -> Result<PathBuf, HomeError> {
        let link = self.bin().join(name);
        if !link.is_symlink() {
            symlink(&self.executable, &link).map_err(|error| HomeError::File("create", link.clone(), error))?;
        }
        Ok(link)
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The links that [`Self::program`] makes.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// The `vedette-range` that pods run.
    #[must_use]
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// Room for output of the workloads.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// A pod's own directory: room for what its programs write, or where its disk is mounted.
    #[must_use]
    pub fn work_of(&self, pod: &str) -> PathBuf {
        self.work().join(pod)
    }

    /// The directory that all pods share; no pod has this name.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.work_of("shared")
    }

    /// The file that holds a pod's disk.
    #[must_use]
    pub fn disk(&self, pod: &str) -> PathBuf {
        self.dir.join("disks").join(format!("{pod}.img"))
    }

    /// Removes the directory; one that does not exist is no error.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove(&self) -> Result<(), HomeError> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HomeError::File("remove", self.dir.clone(), error)),
            _ => Ok(()),
        }
    }

    /// Whether anything is left.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir.exists()
    }

    fn owner_file(&self) -> PathBuf {
        self.dir.join("owner.json")
    }
}

/// Start of a process in clock ticks since boot; the name in `stat` may hold spaces and parentheses.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
