//! Pods as real sandboxes and containers of a containerd that belongs to the run.

pub mod cni;
mod config;
pub mod cri;
mod daemon;
mod image;
mod life;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

use self::{cri::v1, daemon::Daemon};
use super::{PodPlace, RuntimeError};
use crate::{
    cgroups::{Cgroups, Limits},
    contain,
    home::Home,
    now_unix_ms,
    pod::Program,
};

pub use daemon::{CGROUP, DaemonError};
pub use life::{Container, Sandbox};

/// What a program from the host needs, in every container, read-only.
const HOST_DIRS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/// The same of `/etc`: how to find libraries, names and alternatives, and none of its secrets.
const HOST_ETC: [&str; 11] = [
    "alternatives",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "postgresql-common",
    "protocols",
    "services",
];
/// Bits of a run's network.
const PREFIX: u8 = 24;

/// Runs pods through the CRI.
pub struct Containerd {
    cgroups: Cgroups,
    home: Home,
    daemon: Daemon,
    mounts: Vec<v1::Mount>,
}

impl Containerd {
    /// Starts a containerd for one run.
    ///
    /// # Errors
    /// When it is not installed or does not work here.
    pub async fn start(cgroups: &Cgroups, home: &Home) -> Result<Self, RuntimeError> {
        contain::keep_mounts().map_err(DaemonError::Mounts)?;
        cgroups.create(CGROUP)?;
        let daemon = Daemon::start(cgroups, home).await?;
        let mut mounts: Vec<_> = HOST_DIRS.into_iter().map(PathBuf::from).collect();
        mounts.extend(HOST_ETC.iter().map(|name| Path::new("/etc").join(name)));
        // The links that give processes their names, and what they lead to.
        mounts.extend([home.bin(), home.executable().to_owned()]);
        let mounts = mounts.into_iter().filter(|path| path.exists()).map(|path| mount(&path, true)).collect();
        Ok(Self { cgroups: cgroups.clone(), home: home.clone(), daemon, mounts })
    }

    pub(super) async fn sandbox(&self, pod: &PodPlace) -> Result<Sandbox, RuntimeError> {
        let pods = &self.daemon.pods;
        cni::offer(pods, pod, PREFIX).map_err(|error| RuntimeError::File("lay out the network in", pods.join(&pod.name), error))?;
        let born_unix_ms = now_unix_ms();
        let request = v1::RunPodSandboxRequest { config: Some(self.sandbox_config(pod)) };
        let started = self.daemon.runtime.clone().run_pod_sandbox(request).await;
        let id = started.map_err(|status| refused("run a sandbox", &status))?.into_inner().pod_sandbox_id;
        let cgroup = pod.life(&id);
        Ok(Sandbox {
            id,
            born_unix_ms,
            cgroup,
            network: pods.join(&pod.name),
            cgroups: self.cgroups.clone(),
            runtime: self.daemon.runtime.clone(),
        })
    }

    pub(super) async fn container(
        &self,
        pod: &PodPlace,
        sandbox: &str,
        attempt: u32,
        program: &Program,
    ) -> Result<Container, RuntimeError> {
        let path = self.home.program(&program.comm)?;
        let mut mounts = self.mounts.clone();
        mounts.extend(pod.dirs.iter().map(|dir| mount(dir, false)));
        let (pod_config, config) = (self.sandbox_config(pod), cri::container(pod, program, &path, attempt, mounts));
        let log = Path::new(&pod_config.log_directory).join(&config.log_path);
        let request =
            v1::CreateContainerRequest { pod_sandbox_id: sandbox.to_owned(), config: Some(config), sandbox_config: Some(pod_config) };
        let mut runtime = self.daemon.runtime.clone();
        let created = runtime.create_container(request).await;
        let id = created.map_err(|status| refused("create a container", &status))?.into_inner().container_id;
        let born_unix_ms = now_unix_ms();
        let cgroup = pod.life(&id);
        // A pod's limit on processes cannot be seen from inside, and what strains it must know it before it begins.
        self.cgroups.create(&cgroup)?;
        self.cgroups.limit(&cgroup, Limits { pids: pod.limits.pids, ..Limits::default() })?;
        let started = runtime.start_container(v1::StartContainerRequest { container_id: id.clone() }).await;
        started.map_err(|status| refused("start a container", &status))?;
        Ok(Container::new(id, born_unix_ms, cgroup, log, &self.cgroups, runtime))
    }

    pub(super) fn exec(&self, pod: &PodPlace, id: &str, program: &Program) -> Result<Child, RuntimeError> {
        let cgroup = pod.life(id);
        let main = life::main_process(&self.cgroups, &cgroup).ok_or_else(|| RuntimeError::Gone(id.to_owned()))?;
        let path = self.home.program(&program.comm)?;
        let mut command = Command::new(&path);
        command.arg("inside").arg("--container").arg(main.to_string()).arg("--parent").arg(std::process::id().to_string());
        for dir in self.cgroups.all_dirs(&cgroup).filter(|dir| dir.exists()) {
            command.arg("--cgroup").arg(dir);
        }
        command.arg("--").arg(&path).arg("behave").args(&program.args);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().map_err(|error| RuntimeError::Spawn(program.comm.clone(), error))
    }

    fn sandbox_config(&self, pod: &PodPlace) -> v1::PodSandboxConfig {
        cri::sandbox(pod, self.cgroups.root(), &self.daemon.logs)
    }
}

/// A path of the host under the same path in the container.
fn mount(path: &Path, readonly: bool) -> v1::Mount {
    let path = path.to_string_lossy().into_owned();
    v1::Mount { container_path: path.clone(), host_path: path, readonly }
}

fn refused(action: &'static str, status: &tonic::Status) -> RuntimeError {
    RuntimeError::Refused(action, status.message().to_owned())
}
