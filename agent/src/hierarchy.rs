//! Where the cgroup files are: one unified hierarchy (v2), or one per controller (v1 and hybrid).

use std::path::{Path, PathBuf};

use crate::disk_io;

/// Where the files of a cgroup are found below `<root>/sys/fs/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchies {
    /// cgroup v2.
    Unified {
        /// The mount.
        mount: String,
    },
    /// cgroup v1, also when a v2 mount without controllers stands beside it.
    PerController(Controllers),
}

/// The mounts of cgroup v1; a controller that is not mounted has none, and its columns stay absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Controllers {
    /// cpuacct: the accounting.
    pub cpuacct: Option<String>,
    /// cpu: the limit.
    pub cpu: Option<String>,
    /// memory.
    pub memory: Option<String>,
    /// pids.
    pub pids: Option<String>,
    /// blkio.
    pub blkio: Option<String>,
    /// Its files of bytes and operations, where the kernel counts them for cgroups.
    pub disk_io: Option<[&'static str; 2]>,
    /// systemd's own, which has no controller but every cgroup.
    pub systemd: Option<String>,
}

/// Why no cgroup tree can be read.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// The directory cannot be read.
    #[error("cannot read cgroup root {path}: {source}")]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing in it.
    #[error("no cgroup tree at {path}: neither cgroup.controllers nor a v1 controller is there")]
    Empty {
        /// The directory.
        path: PathBuf,
    },
}

impl Hierarchies {
    /// Looks at `<root>/sys/fs/cgroup`.
    ///
    /// # Errors
    /// [`HierarchyError`] names the directory.
    pub fn find(root: &Path) -> Result<Self, HierarchyError> {
        let base = root.join("sys/fs/cgroup");
        let entries = std::fs::read_dir(&base).map_err(|source| HierarchyError::Unreadable { path: base.clone(), source })?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        if base.join("cgroup.controllers").exists() {
            return Ok(Self::Unified { mount: text(base) });
        }
        let mut found = Controllers::default();
        let mut entries: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries.into_iter().filter(|path| path.is_dir()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Co-mounted controllers share a directory ("cpu,cpuacct"), often with a link per controller beside it.
            for controller in name.split(',') {
                let place = match controller {
                    "cpuacct" => &mut found.cpuacct,
                    "cpu" => &mut found.cpu,
                    "memory" => &mut found.memory,
                    "pids" => &mut found.pids,
                    "blkio" => &mut found.blkio,
                    "systemd" => &mut found.systemd,
                    _ => continue,
                };
                place.get_or_insert_with(|| text(path.clone()));
            }
        }
        if found == Controllers::default() {
            return Err(HierarchyError::Empty { path: base });
        }
        found.disk_io = found.blkio.as_ref().and_then(|blkio| disk_io::counting_files(&root.join("proc"), Path::new(blkio)));
        Ok(Self::PerController(found))
    }

    /// The mount in which containers are discovered, and the name by which `/proc/PID/cgroup` lists it (empty for v2).
    #[must_use]
    pub fn primary(&self) -> (&str, &'static str) {
        match self {
            Self::Unified { mount } => (mount, ""),
            Self::PerController(found) => [
                (&found.cpuacct, "cpuacct"),
                (&found.memory, "memory"),
                (&found.pids, "pids"),
                (&found.cpu, "cpu"),
                (&found.blkio, "blkio"),
                (&found.systemd, "systemd"),
            ]
            .into_iter()
            .find_map(|(mount, name)| Some((mount.as_deref()?, name)))
            .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(directories: &[&str], files: &[&str]) -> Result<Hierarchies, HierarchyError> {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            std::fs::create_dir_all(root.path().join("sys/fs/cgroup").join(directory)).unwrap();
        }
        for file in files {
            std::fs::write(root.path().join("sys/fs/cgroup").join(file), "").unwrap();
        }

        Hierarchies::find(root.path())
    }

    #[test]
    fn both_versions_and_the_hybrid_are_told_apart() {
        let unified = check(&["kubepods.slice"], &["cgroup.controllers"]).unwrap();
        let hybrid = check(&["unified", "cpu,cpuacct", "memory", "systemd"], &[]).unwrap();

        assert!(matches!(unified, Hierarchies::Unified { .. }));
        assert_eq!(unified.primary().1, "");
        let Hierarchies::PerController(found) = &hybrid else { panic!("{hybrid:?}") };
        assert!(found.cpu.is_some() && found.cpu == found.cpuacct && found.pids.is_none());
        assert_eq!(hybrid.primary().1, "cpuacct");
    }

    #[test]
    fn nothing_there_is_an_error_that_names_the_directory() {
        let empty = check(&[""], &[]).unwrap_err().to_string();
        let missing = Hierarchies::find(Path::new("/nowhere")).unwrap_err().to_string();

        assert!(empty.starts_with("no cgroup tree at /"), "{empty}");
        assert!(missing.starts_with("cannot read cgroup root /nowhere/sys/fs/cgroup: "), "{missing}");
    }
}
