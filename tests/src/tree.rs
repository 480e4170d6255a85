//! A node made of files: what an agent reads of one, without the kernel that would make it. No root, any number of containers, any boot.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A node's `/proc` and `/sys/fs/cgroup` (v2) below a folder.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Makes one with so many containers, each in a pod of its own.
    ///
    /// # Errors
    /// The file system's.
    pub fn make(root: &Path, containers: u32, boot_id: &str) -> io::Result<Self> {
        let tree = Self { root: root.to_owned() };
        tree.write("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n")?;
        tree.write("proc/stat", "cpu  100 0 100 1000 0 0 0 0 0 0\nprocesses 100\n")?;
        tree.write("proc/loadavg", "0.10 0.10 0.10 1/100 100\n")?;
        tree.write("proc/meminfo", "MemTotal: 1000000 kB\nMemFree: 500000 kB\nMemAvailable: 600000 kB\n")?;
        for number in 0..containers {
            let pod = format!("pod{number:08x}-347b-4575-a8b3-010c05abc66b");
            let container = format!("sys/fs/cgroup/kubepods/burstable/{pod}/{number:064x}");
            tree.write(&format!("{container}/cpu.stat"), "usage_usec 1000\nuser_usec 600\nsystem_usec 400\n")?;
            tree.write(&format!("{container}/memory.current"), "8192\n")?;
        }
        tree.boot(boot_id)?;
        Ok(tree)
    }

    /// The node starts anew.
    ///
    /// # Errors
    /// The file system's.
    pub fn boot(&self, boot_id: &str) -> io::Result<()> {
        self.write("proc/sys/kernel/random/boot_id", &format!("{boot_id}\n"))
    }

    /// Where it is: an agent's `sensor.root`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        fs::write(path, text)
    }
}
