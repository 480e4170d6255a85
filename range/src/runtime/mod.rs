//! What runs the pods: processes that the range places itself, or a containerd of the run's own behind the CRI.
//!
//! How to choose one: `Runtime::start(backend, &cgroups, &home).await?`, once per run, right after [`Home::claim`] and before
//! anything is mounted below the home (disks of pods); the result goes into [`crate::pod::Site::runtime`]. [`Backend`] is a
//! `clap::ValueEnum` (`local`, `containerd`) and has its word in [`Backend::word`]. Nothing has to be stopped: at the end of a
//! run [`crate::clean::remove`] ends whatever still runs, as it does after a run that was killed.
//!
//! Call it on the thread that makes the disks and starts the pods: with containerd that thread gets a mount namespace of its
//! own, so that every mount of the run is gone with the run's last process, however it ended. What a pod's programs write to (its
//! disk, or plain directories below [`Home::dir`]) is named in [`crate::pod::PodSpec::dirs`]; containers see it under the same paths.
//!
//! A container of containerd has the host's `/usr`, `/lib`, `/bin` and so on read-only, a writable root that starts empty, and
//! nothing else of the host: what a behaviour keeps belongs below its work directory, or in the container's own `/tmp`.

pub mod containerd;
mod local;

use std::{io, path::PathBuf};

use tokio::process::Child;

use self::containerd::{Containerd, DaemonError};
use crate::{
    cgroups::{CgroupError, Cgroups, Limits},
    home::{Home, HomeError},
    network::PodNetwork,
    pod::Program,
};

pub use local::Local;

/// The choice on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// Processes in cgroups and network namespaces that the range makes itself
    #[default]
    Local,
    /// Pod sandboxes and containers of a containerd that the range starts itself
    Containerd,
}

impl Backend {
    /// Its word on the command line and in schedules.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Containerd => "containerd",
        }
    }
}

/// Why a runtime could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The run's directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A process could not be started.
    #[error("cannot start {0}: {1}")]
    Spawn(String, io::Error),
    /// A file operation.
    #[error("cannot {0} {1}: {2}")]
    File(&'static str, PathBuf, io::Error),
    /// containerd could not be started.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// containerd did not do it.
    #[error("containerd does not {0}: {1}")]
    Refused(&'static str, String),
    /// A container has no process to start another beside.
    #[error("container {0} does not run any more")]
    Gone(String),
    /// A container was removed and its cgroup was not.
    #[error("cgroup {0} is still there after its container was removed")]
    Stays(PathBuf),
}

/// What a runtime is told about a pod.
#[derive(Clone, Debug)]
pub struct PodPlace {
    /// Uid, 36 characters.
    pub uid: String,
    /// Its own name.
    pub name: String,
    /// Name of its container.
    pub container: String,
    /// Its cgroup below the run's subtree, made already.
    pub cgroup: String,
    /// Limits of the container.
    pub limits: Limits,
    /// Directories that the container sees under the same paths.
    pub dirs: Vec<PathBuf>,
    /// Its network, made already.
    pub network: PodNetwork,
}

impl PodPlace {
    /// Cgroup of one of its containers, below the run's subtree.
    #[must_use]
    pub fn life(&self, id: &str) -> String {
        format!("{}/{id}", self.cgroup)
    }
}

/// What runs the pods of one run.
pub enum Runtime {
    /// The range itself.
    Local(Local),
    /// A containerd of its own.
    Containerd(Box<Containerd>),
}

impl Runtime {
    /// Makes ready what the backend needs.
    ///
    /// # Errors
    /// When the backend cannot work on this machine.
    pub async fn start(backend: Backend, cgroups: &Cgroups, home: &Home) -> Result<Self, RuntimeError> {
        match backend {
            Backend::Local => Ok(Self::Local(Local::new(cgroups, home))),
            Backend::Containerd => Ok(Self::Containerd(Box::new(Containerd::start(cgroups, home).await?))),
        }
    }

    /// Starts a pod's sandbox.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn sandbox(&self, pod: &PodPlace) -> Result<Container, RuntimeError> {
        match self {
            Self::Local(local) => local.sandbox(pod).map(Container::Local),
            Self::Containerd(containerd) => containerd.sandbox(pod).await.map(Container::Sandbox),
        }
    }

    /// Starts a container in a sandbox; `attempt` is how many the pod had before.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn container(&self, pod: &PodPlace, sandbox: &str, attempt: u32, program: &Program) -> Result<Container, RuntimeError> {
        match self {
            Self::Local(local) => local.container(pod, program).map(Container::Local),
            Self::Containerd(containerd) => containerd.container(pod, sandbox, attempt, program).await.map(Container::Containerd),
        }
    }

    /// Starts a program inside a running container; dropping the child ends it.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn exec(&self, pod: &PodPlace, id: &str, program: &Program) -> Result<Child, RuntimeError> {
        match self {
            Self::Local(local) => local.exec(pod, id, program),
            Self::Containerd(containerd) => containerd.exec(pod, id, program),
        }
    }
}

/// When a container ended and was gone, Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its main process ended.
    pub ended_unix_ms: i64,
    /// Its cgroup was removed.
    pub gone_unix_ms: i64,
}

/// A container, or a sandbox, that was started.
pub enum Container {
    /// Either, of the range itself.
    Local(local::Container),
    /// A sandbox of containerd.
    Sandbox(containerd::Sandbox),
    /// A container of containerd.
    Containerd(containerd::Container),
}

impl Container {
    /// 64 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Local(container) => &container.id,
            Self::Sandbox(sandbox) => &sandbox.id,
            Self::Containerd(container) => &container.id,
        }
    }

    /// From when on its cgroup may exist, Unix milliseconds; a runtime makes it within a moment.
    #[must_use]
    pub const fn born_unix_ms(&self) -> i64 {
        match self {
            Self::Local(container) => container.born_unix_ms,
            Self::Sandbox(sandbox) => sandbox.born_unix_ms,
            Self::Containerd(container) => container.born_unix_ms,
        }
    }

    /// Waits until its main process ends by itself; whether it ended well. Nobody waits for a sandbox of containerd.
    pub async fn wait(&mut self) -> bool {
        match self {
            Self::Local(container) => container.wait().await,
            Self::Sandbox(_) => std::future::pending().await,
            Self::Containerd(container) => container.wait().await,
        }
    }

    /// Kills what still runs in it and removes it.
    ///
    /// # Errors
    /// When it cannot be removed; the times are known all the same.
    pub async fn end(self) -> (Ended, Result<(), RuntimeError>) {
        match self {
            Self::Local(container) => container.end().await,
            Self::Sandbox(sandbox) => sandbox.end().await,
            Self::Containerd(container) => container.end().await,
        }
    }
}
