//! Sandboxes and containers that run: when they end, and their removal.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep},
};
use tonic::transport::Channel;
use tracing::{info, warn};

use super::{
    cni,
    cri::v1::{self, ContainerState, runtime_service_client::RuntimeServiceClient},
    refused,
};
use crate::{
    cgroups::Cgroups,
    now_unix_ms,
    runtime::{Ended, RuntimeError},
};

/// Between two looks at what the runtime says, or at a cgroup that is about to go.
const LOOK: Duration = Duration::from_millis(10);
/// How long a cgroup may stay after the runtime was told to remove the container.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// A container that was started.
pub struct Container {
    pub(in super::super) id: String,
    pub(in super::super) born_unix_ms: i64,
    cgroup: String,
    /// What it says; removed with it.
    log: PathBuf,
    /// Readable once the main process has ended. `None`: it was gone before it could be looked at.
    process: Option<AsyncFd<OwnedFd>>,
    cgroups: Cgroups,
    runtime: RuntimeServiceClient<Channel>,
}

impl Container {
    /// One that was started just now.
    pub(super) fn new(
        id: String,
        born_unix_ms: i64,
        cgroup: String,
        log: PathBuf,
        cgroups: &Cgroups,
        runtime: RuntimeServiceClient<Channel>,
    ) -> Self {
        let process = main_process(cgroups, &cgroup).and_then(end_of);
        Self { id, born_unix_ms, cgroup, log, process, cgroups: cgroups.clone(), runtime }
    }

    pub(in super::super) async fn wait(&mut self) -> bool {
        if let Some(process) = &self.process {
            let _ = process.readable().await;
        }
        loop {
            match self.status().await {
                Ok(status) if status.state() == ContainerState::ContainerExited => {
                    if status.exit_code != 0 {
                        let said = last_words(&self.log);
                        info!(container = self.id, reason = status.reason, code = status.exit_code, said, "a container failed");
                    }
                    return status.exit_code == 0;
                }
                Ok(_) => sleep(LOOK).await,
                Err(error) => {
                    warn!(%error, container = self.id, "cannot look at a container");
                    return false;
                }
            }
        }
    }

    pub(in super::super) async fn end(mut self) -> (Ended, Result<(), RuntimeError>) {
        let container_id = self.id.clone();
        let stopped = self.runtime.stop_container(v1::StopContainerRequest { container_id: container_id.clone(), timeout: 0 }).await;
        let stopped = stopped.map_err(|status| refused("stop a container", &status)).map(drop);
        let finished_unix_ms = self.status().await.map_or(0, |status| status.finished_at / 1_000_000);
        let gone = gone(&self.cgroups, &self.cgroup).await;
        let gone_unix_ms = now_unix_ms();
        let removed = self.runtime.remove_container(v1::RemoveContainerRequest { container_id }).await;
        let removed = removed.map_err(|status| refused("remove a container", &status)).map(drop);
        let _ = fs::remove_file(&self.log);
        let ended_unix_ms = if finished_unix_ms > 0 { finished_unix_ms } else { gone_unix_ms };
        (Ended { ended_unix_ms, gone_unix_ms }, stopped.and(gone).and(removed))
    }

    async fn status(&mut self) -> Result<v1::ContainerStatus, RuntimeError> {
        let request = v1::ContainerStatusRequest { container_id: self.id.clone() };
        let status = self.runtime.container_status(request).await.map_err(|status| refused("look at a container", &status))?;
        Ok(status.into_inner().status.unwrap_or_default())
    }
}

/// A sandbox that was started.
pub struct Sandbox {
    pub(in super::super) id: String,
    pub(in super::super) born_unix_ms: i64,
    pub(super) cgroup: String,
    /// What was laid out for the network plugin.
    pub(super) network: PathBuf,
    pub(super) cgroups: Cgroups,
    pub(super) runtime: RuntimeServiceClient<Channel>,
}

impl Sandbox {
    pub(in super::super) async fn end(mut self) -> (Ended, Result<(), RuntimeError>) {
        let pod_sandbox_id = self.id.clone();
        let stopped = self.runtime.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await;
        let stopped = stopped.map_err(|status| refused("stop a sandbox", &status)).map(drop);
        let ended_unix_ms = now_unix_ms();
        let gone = gone(&self.cgroups, &self.cgroup).await;
        let gone_unix_ms = now_unix_ms();
        let removed = self.runtime.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).await;
        let removed = removed.map_err(|status| refused("remove a sandbox", &status)).map(drop);
        let withdrawn = cni::withdraw(&self.network).map_err(|error| RuntimeError::File("remove the network in", self.network, error));
        (Ended { ended_unix_ms, gone_unix_ms }, stopped.and(gone).and(removed).and(withdrawn))
    }
}

/// The process of a container that is the first in its own PID namespace: what is started inside may be listed before it.
pub(super) fn main_process(cgroups: &Cgroups, cgroup: &str) -> Option<i32> {
    let first = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| is_first(&status));
    cgroups.processes(cgroup).into_iter().filter_map(|pid| i32::try_from(pid).ok()).find(first)
}

/// The last line of a log: time, stream, whether the line is whole, then what was said. Empty where there is none.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().and_then(|line| line.splitn(4, ' ').nth(3)).unwrap_or_default().to_owned()
}

/// A file that can be read once the process has ended. `None`: it has.
fn end_of(pid: i32) -> Option<AsyncFd<OwnedFd>> {
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
    // The deprecation is about files that others may close; this one is owned.
    #[expect(deprecated)]
    AsyncFd::with_interest(process, Interest::READABLE).ok()
}

/// Whether a process has the id 1 where it is innermost.
fn is_first(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.and_then(|ids| ids.split_whitespace().last()).is_some_and(|id| id == "1")
}

async fn gone(cgroups: &Cgroups, cgroup: &str) -> Result<(), RuntimeError> {
    let until = Instant::now() + REMOVAL_PATIENCE;
    while let Some(dir) = cgroups.dirs(cgroup).find(|dir| dir.exists()) {
        if Instant::now() > until {
            return Err(RuntimeError::Stays(dir));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_is_told_by_its_innermost_id() {
        assert!(is_first("Name:\tweb\nNSpid:\t4711\t88\t1\nNSpgid:\t1\n"));
        assert!(!is_first("Name:\tweb\nNSpid:\t4711\t88\t12\n"));
        assert!(!is_first("Name:\tweb\n"));
    }
}
