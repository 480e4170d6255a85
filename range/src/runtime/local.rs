//! Pods without a container runtime: cgroups of the range's own making, and processes that place themselves in them.

use std::process::Stdio;

use tokio::process::{Child, Command};

use super::{Ended, PodPlace, RuntimeError};
use crate::{
    cgroups::{Cgroups, Limits},
    home::Home,
    now_unix_ms,
    pod::{Program, random_hex},
};

/// Starts containers as processes of the range.
pub struct Local {
    cgroups: Cgroups,
    home: Home,
}

/// A container with its main process.
pub struct Container {
    pub(super) id: String,
    pub(super) born_unix_ms: i64,
    path: String,
    child: Child,
    cgroups: Cgroups,
}

impl Local {
    /// For the pods of one run.
    #[must_use]
    pub fn new(cgroups: &Cgroups, home: &Home) -> Self {
        Self { cgroups: cgroups.clone(), home: home.clone() }
    }

    pub(super) fn sandbox(&self, pod: &PodPlace) -> Result<Container, RuntimeError> {
        self.begin(pod, &Program { comm: "pause".to_owned(), args: vec!["pause".to_owned()] }, None)
    }

    pub(super) fn container(&self, pod: &PodPlace, program: &Program) -> Result<Container, RuntimeError> {
        self.begin(pod, program, Some(Limits { pids: None, ..pod.limits }))
    }

    pub(super) fn exec(&self, pod: &PodPlace, id: &str, program: &Program) -> Result<Child, RuntimeError> {
        let path = self.home.program(&program.comm)?;
        let mut command = Command::new(&path);
        command.arg("enter");
        for dir in self.cgroups.dirs(&pod.life(id)) {
            command.arg("--cgroup").arg(dir);
        }
        command.arg("--netns").arg(pod.network.path()).arg("--parent").arg(std::process::id().to_string());
        command.arg("--").arg(&path).arg("behave").args(&program.args);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().map_err(|error| RuntimeError::Spawn(program.comm.clone(), error))
    }

    fn begin(&self, pod: &PodPlace, program: &Program, limits: Option<Limits>) -> Result<Container, RuntimeError> {
        let id = random_hex(64);
        let path = pod.life(&id);
        let born_unix_ms = now_unix_ms();
        self.cgroups.create(&path)?;
        if let Some(limits) = limits {
            self.cgroups.limit(&path, limits)?;
        }
        let child = self.exec(pod, &id, program)?;
        Ok(Container { id, born_unix_ms, path, child, cgroups: self.cgroups.clone() })
    }
}

impl Container {
    pub(super) async fn wait(&mut self) -> bool {
        self.child.wait().await.is_ok_and(|status| status.success())
    }

    pub(super) async fn end(mut self) -> (Ended, Result<(), RuntimeError>) {
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
        let ended_unix_ms = now_unix_ms();
        let removed = self.cgroups.remove(&self.path).await;
        (Ended { ended_unix_ms, gone_unix_ms: now_unix_ms() }, removed.map_err(RuntimeError::from))
    }
}
