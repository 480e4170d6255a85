//! The run's own subtree in every cgroup hierarchy that a kubelet would use: v1 controllers where they are mounted, v2 for the rest.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// v1 controllers that a runtime puts containers into and the agent reads.
const V1: [&str; 5] = ["cpuacct", "cpu", "memory", "pids", "blkio"];
/// v2 controllers that stand for the same.
const V2: [&str; 4] = ["cpu", "memory", "pids", "io"];
/// CFS period, microseconds: the kernel's default, which the kubelet keeps.
pub(crate) const CFS_PERIOD_US: u64 = 100_000;
/// How long a cgroup may stay busy after its processes were killed.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);

/// Why a cgroup operation failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No usable hierarchy.
    #[error("no cgroup hierarchy with cpu and memory is mounted (looked in /proc/self/mounts)")]
    NoHierarchy,
    /// The name of the run's subtree is not a plain name.
    #[error("root cgroup {0:?} must be one path element of letters, digits, '-', '_' or '.', and start with a letter")]
    Name(String),
    /// A file operation.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Processes did not die.
    #[error("cgroup {0} is still busy after its processes were killed")]
    Busy(PathBuf),
}

/// Limits as a kubelet would set them; `None` leaves the kernel's default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// CPU limit in millicores.
    pub cpu_millicores: Option<u64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Limit on processes and threads.
    pub pids: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    v2: bool,
    /// Of a v1 mount, the controllers among [`V1`]; of v2, those to enable.
    controllers: Vec<String>,
}

/// The hierarchies and the name of the run's subtree in each.
#[derive(Clone, Debug)]
pub struct Cgroups {
    root: String,
    mounts: Vec<Mount>,
    /// Hierarchies that the range makes nothing in; a container runtime does.
    others: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds the hierarchies of this machine. Nothing is created yet.
    ///
    /// # Errors
    /// When `root` is not a plain name, or cpu and memory are in no hierarchy.
    pub fn find(root: &str) -> Result<Self, CgroupError> {
        let plain = root.len() <= 100
            && root.starts_with(|c: char| c.is_ascii_alphabetic())
            && root.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !plain {
            return Err(CgroupError::Name(root.to_owned()));
        }
        let table = Path::new("/proc/self/mounts");
        let text = fs::read_to_string(table).map_err(|source| file("read", table, source))?;
        let mounts = parse_mounts(&text, |point| fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default());
        let has = |wanted: &str| mounts.iter().any(|mount| mount.controllers.iter().any(|name| name == wanted));
        if !has("cpu") || !has("memory") {
            return Err(CgroupError::NoHierarchy);
        }
        let others = other_points(&text, &mounts);
        Ok(Self { root: root.to_owned(), mounts, others })
    }

    /// The subtree's name, one path element below every hierarchy's root.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The directories of a cgroup of this run, one per hierarchy. `path` is relative to the subtree; empty is the subtree itself.
    pub fn dirs(&self, path: &str) -> impl Iterator<Item = PathBuf> {
        self.mounts.iter().map(move |mount| mount.point.join(&self.root).join(path))
    }

    /// The same in every hierarchy, also where the range makes nothing itself; some may not exist.
    pub fn all_dirs(&self, path: &str) -> impl Iterator<Item = PathBuf> {
        self.dirs(path).chain(self.others.iter().map(move |point| point.join(&self.root).join(path)))
    }

    /// Creates a cgroup and what lies above it in every hierarchy.
    ///
    /// # Errors
    /// When a directory cannot be made or a controller cannot be enabled.
    pub fn create(&self, path: &str) -> Result<(), CgroupError> {
        for mount in &self.mounts {
            let mut dir = mount.point.clone();
            for element in std::iter::once(self.root.as_str()).chain(path.split('/').filter(|element| !element.is_empty())) {
                if mount.v2 {
                    enable(&dir, &mount.controllers)?;
                }
                dir.push(element);
                match fs::create_dir(&dir) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    Err(source) => return Err(file("create", &dir, source)),
                }
                // Old kernels default to flat memory accounting; a kubelet turns the hierarchy on before there are children.
                let hierarchy = dir.join("memory.use_hierarchy");
                if !mount.v2 && fs::read_to_string(&hierarchy).is_ok_and(|value| value.trim() == "0") {
                    write(&hierarchy, "1")?;
                }
            }
        }
        Ok(())
    }

    /// Sets limits on a cgroup.
    ///
    /// # Errors
    /// When a limit that was asked for cannot be written.
    pub fn limit(&self, path: &str, limits: Limits) -> Result<(), CgroupError> {
        for mount in &self.mounts {
            let dir = mount.point.join(&self.root).join(path);
            let has = |name: &str| mount.controllers.iter().any(|controller| controller == name);
            if let Some(millicores) = limits.cpu_millicores.filter(|_| has("cpu")) {
                let quota_us = millicores * CFS_PERIOD_US / 1000;
                if mount.v2 {
                    write(&dir.join("cpu.max"), &format!("{quota_us} {CFS_PERIOD_US}"))?;
                } else {
                    write(&dir.join("cpu.cfs_period_us"), &CFS_PERIOD_US.to_string())?;
                    write(&dir.join("cpu.cfs_quota_us"), &quota_us.to_string())?;
                }
            }
            if let Some(bytes) = limits.memory_bytes.filter(|_| has("memory")) {
                write(&dir.join(if mount.v2 { "memory.max" } else { "memory.limit_in_bytes" }), &bytes.to_string())?;
            }
            if let Some(pids) = limits.pids.filter(|_| has("pids")) {
                write(&dir.join("pids.max"), &pids.to_string())?;
            }
        }
        Ok(())
    }

    /// Processes in a cgroup itself, not below it.
    #[must_use]
    pub fn processes(&self, path: &str) -> Vec<u32> {
        let mut pids: Vec<u32> = self.dirs(path).flat_map(|dir| members(&dir)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills what is in a cgroup and below it, and removes it in every hierarchy. One that does not exist is no error.
    ///
    /// # Errors
    /// When processes do not die or a directory cannot be removed.
    pub async fn remove(&self, path: &str) -> Result<(), CgroupError> {
        for top in self.all_dirs(path) {
            let mut dirs = vec![top];
            let mut place = 0;
            while place < dirs.len() {
                let children = fs::read_dir(&dirs[place]).into_iter().flatten().flatten();
                let below: Vec<_> =
                    children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
                dirs.extend(below);
                place += 1;
            }
            for dir in dirs.iter().rev() {
                remove_one(dir).await?;
            }
        }
        Ok(())
    }

    /// Directories of this run that still exist.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        self.all_dirs("").filter(|dir| dir.exists()).collect()
    }
}

async fn remove_one(dir: &Path) -> Result<(), CgroupError> {
    let began = tokio::time::Instant::now();
    loop {
        for pid in members(dir) {
            // A process that is gone already is what is wanted.
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if began.elapsed() > REMOVAL_PATIENCE {
                    return Err(CgroupError::Busy(dir.to_owned()));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(source) => return Err(file("remove", dir, source)),
        }
    }
}

fn members(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process of another PID namespace: not ours to name, and never ours to kill.
    text.lines().filter_map(|line| line.trim().parse().ok()).filter(|&pid| pid != 0).collect()
}

fn enable(dir: &Path, controllers: &[String]) -> Result<(), CgroupError> {
    let control = dir.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).unwrap_or_default();
    for controller in controllers {
        if !enabled.split_whitespace().any(|name| name == controller) {
            write(&control, &format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn parse_mounts(table: &str, v2_controllers: impl Fn(&Path) -> String) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in table.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(point), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let point = PathBuf::from(point.replace("\\040", " "));
        let controllers: Vec<String> = match kind {
            "cgroup" => V1.iter().filter(|&&name| options.split(',').any(|option| option == name)).map(|&name| name.to_owned()).collect(),
            "cgroup2" => {
                let available = v2_controllers(&point);
                V2.iter().filter(|&&name| available.split_whitespace().any(|other| other == name)).map(|&name| name.to_owned()).collect()
            }
            _ => continue,
        };
        let twice = mounts.iter().any(|mount| mount.controllers == controllers && mount.v2 == (kind == "cgroup2"));
        if !controllers.is_empty() && !twice {
            mounts.push(Mount { point, v2: kind == "cgroup2", controllers });
        }
    }
    mounts
}

/// Mount points of the hierarchies that are not among these.
fn other_points(table: &str, mounts: &[Mount]) -> Vec<PathBuf> {
    let hierarchies = table.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(point.replace("\\040", " ")))
    });
    hierarchies.filter(|point| mounts.iter().all(|mount| mount.point != *point)).collect()
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(path, value).map_err(|source| file("write", path, source))
}

fn file(action: &'static str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
        cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
        cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";

    #[test]
    fn hybrid_takes_v1_where_v2_has_no_wanted_controller() {
        let mounts = parse_mounts(HYBRID, |_| "hugetlb".to_owned());

        let points: Vec<_> = mounts.iter().map(|mount| mount.point.to_string_lossy().into_owned()).collect();
        assert_eq!(points, ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"]);
        assert_eq!(mounts[0].controllers, ["cpuacct", "cpu"]);
        assert_eq!(other_points(HYBRID, &mounts), [Path::new("/sys/fs/cgroup/freezer"), Path::new("/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn unified_takes_v2() {
        let mounts = parse_mounts("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", |_| "cpuset cpu io memory hugetlb pids".to_owned());

        assert_eq!(mounts, [Mount { point: "/sys/fs/cgroup".into(), v2: true, controllers: V2.map(str::to_owned).to_vec() }]);
    }

    #[test]
    fn a_name_that_leaves_the_subtree_is_refused() {
        for name in ["", "..", "a/b", "/x", "-x"] {
            assert!(matches!(Cgroups::find(name), Err(CgroupError::Name(_))), "{name:?}");
        }
    }
}
