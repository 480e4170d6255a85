//! Processes to containers, and through which process a pod's network is read.

use vedette_proto::v1::ProcessSeen;

use super::{Container, Fact, Main, Sensor, SensorError};
use crate::{
    files::Reader,
    name::{self, Element},
    network::{self, Kind, process_file},
    parse::{
        self,
        process::{Comm, Status},
    },
    sample::Sample,
};

/// Distinct processes reported per container; more are counted.
const MAX_FACTS: usize = 32;
/// A pod found on the host's network so often stays there: told by content, one look may be wrong.
const HOST_LOOKS: u8 = 3;

impl Sensor {
    /// Between two ticks: finds the containers of new processes, notes who runs in them, and replaces first processes that ended.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn map_processes(&mut self, unix_ms: i64) -> Result<(), SensorError> {
        self.map(unix_ms, true)
    }

    pub(super) fn map(&mut self, unix_ms: i64, early: bool) -> Result<(), SensorError> {
        let Self { processes, reader, by_id, by_path, containers, proc, controller, metrics, .. } = self;
        let mut looked: Vec<(u32, u32, Status)> = Vec::new();
        processes
            .scan(metrics, early, |pid| {
                let text = reader.read_once("cgroup", |text| process_file(text, proc, pid, "cgroup")).data()?;
                let path = parse::process::cgroup_path(text, controller).and_then(|path| std::str::from_utf8(path).ok())?;
                let index = container_of(path, |id| by_id.get(id).copied(), |path| by_path.get(path).copied(), containers)?;
                let status =
                    reader.read_once("status", |text| process_file(text, proc, pid, "status")).data().and_then(parse::process::status);
                if let Some(status) = status {
                    looked.push((index, pid, status));
                }
                Some(index)
            })
            .map_err(|source| SensorError::Processes { path: proc.clone(), source })?;
        self.replace_ended();
        for (index, pid, status) in looked {
            self.saw(index, pid, status, unix_ms);
        }
        Ok(())
    }

    /// First processes that ended are replaced by the next of their container, networks read through one are closed.
    fn replace_ended(&mut self) {
        for place in 0..self.processes.gone().len() {
            let gone = self.processes.gone()[place];
            let Some(index) = gone.container else { continue };
            let Some(container) = self.container(index) else { continue };
            let pod = container.pod;
            if container.main.is_some_and(|main| main.pid == gone.pid) {
                let next = self.processes.of(index).next().and_then(|pid| {
                    let status = self.reader.read_once("status", |text| process_file(text, &self.proc, pid, "status")).data();
                    let comm = status.and_then(parse::process::status)?.comm;
                    Some(main(&mut self.reader, &self.proc, pid, comm))
                });
                if let Some(container) = self.containers.get_mut(index as usize).and_then(Option::as_mut) {
                    container.main = next;
                    self.reader.close(&mut container.main_stat);
                    container.previous.clear(vedette_proto::Column::ChildCpuUs);
                    container.previous.clear(vedette_proto::Column::ChildMinorFaults);
                }
            }
            if let Some(pod) = self.pods.get_mut(pod as usize).and_then(Option::as_mut)
                && pod.network.pid == Some(gone.pid)
            {
                pod.network.close(&mut self.reader);
                pod.network_settled = false;
                pod.host_looks = 0;
            }
        }
    }

    fn saw(&mut self, index: u32, pid: u32, status: Status, unix_ms: i64) {
        let Self { containers, pods, reader, proc, metrics, .. } = self;
        let Some(container) = containers.get_mut(index as usize).and_then(Option::as_mut) else { return };
        match &mut container.main {
            Some(main) if main.pid == pid => main.comm = status.comm,
            Some(_) => {}
            None => container.main = Some(main(reader, proc, pid, status.comm)),
        }
        let Some(pod) = pods.get_mut(container.pod as usize).and_then(Option::as_mut) else { return };
        if container.reference != 0 && container.main.is_some_and(|main| main.pid == pid) {
            pod.slots.named(container.slot, status.comm);
        }
        if status.comm.is_runtime_init() || container.facts.contains(&status) {
            return;
        }
        if container.facts.len() >= MAX_FACTS {
            metrics.limited("processes_per_container");
            return;
        }
        container.facts.push(status);
        let foreign = pod.network.namespace.is_some_and(|own| network::namespace(proc, pid).is_some_and(|namespace| namespace != own));
        container.unreported.push(Fact { status, unix_ms, foreign_network_namespace: foreign });
    }

    /// The facts of announced containers, those of ended ones included.
    pub(super) fn take_facts(&mut self) -> Vec<ProcessSeen> {
        for place in 0..self.order.len() {
            let index = self.order[place];
            if self.container(index).is_none_or(|container| container.unreported.is_empty()) {
                continue;
            }
            let Some(mut container) = self.containers[index as usize].take() else { continue };
            self.facts_of(&mut container);
            self.containers[index as usize] = Some(container);
        }
        std::mem::take(&mut self.facts)
    }

    /// Moves a container's facts to the batch.
    pub(super) fn facts_of(&mut self, container: &mut Container) {
        let reference = container.reference;
        self.facts.extend(container.unreported.drain(..).map(|fact| ProcessSeen {
            container_ref: reference,
            comm: fact.status.comm.text(),
            uid: fact.status.uid,
            cap_effective: fact.status.cap_effective,
            seccomp: fact.status.seccomp,
            unix_ms: fact.unix_ms,
            foreign_network_namespace: fact.foreign_network_namespace,
        }));
    }

    /// Finds, for every pod that has none, the process through which its network is read: the sandbox, else a member that has an
    /// interface besides lo.
    pub(super) fn choose_networks(&mut self) {
        let slow_every = u64::from(self.config.slow_every);
        for index in 0..self.pods.len() {
            let Some(pod) = &self.pods[index] else { continue };
            let again = (self.tick + index as u64).is_multiple_of(slow_every * 2);
            let doubtful = pod.network.kind == Kind::Host && pod.host_looks < HOST_LOOKS;
            let settled = pod.network_settled && !(again && doubtful);
            if pod.containers.is_empty() || settled || (pod.network.pid.is_some() && !again) {
                continue;
            }
            let members = pod.sandbox.into_iter().chain(pod.containers.iter().copied());
            let candidates: Vec<u32> = members.filter_map(|member| Some(self.container(member)?.main?.pid)).take(8).collect();
            let mut best: Option<(u32, network::Look)> = None;
            for pid in candidates {
                let Some(look) = network::look(&mut self.reader, &self.proc, pid) else { continue };
                let better = best.is_none_or(|(_, best)| !best.has_interface && look.has_interface && !look.host);
                if better {
                    best = Some((pid, look));
                }
                if look.has_interface {
                    break;
                }
            }
            let Some((pid, look)) = best else { continue };
            let Some(pod) = &mut self.pods[index] else { continue };
            let kind = if look.host { Kind::Host } else { Kind::Own };
            let same = pod.network.namespace.is_some() && pod.network.namespace == look.namespace;
            if pod.network.pid != Some(pid) || pod.network.kind != kind {
                pod.fresh = true;
                pod.network.close(&mut self.reader);
                if !same {
                    // Another namespace: its counters have nothing to do with those read before.
                    pod.sample = Sample::default();
                }
            }
            pod.network.pid = Some(pid);
            pod.network.kind = kind;
            pod.host_looks = if look.host { pod.host_looks.saturating_add(1) } else { 0 };
            pod.network.namespace = look.namespace;
            pod.network_settled = look.has_interface;
        }
    }
}

fn main(reader: &mut Reader, proc: &str, pid: u32, comm: Comm) -> Main {
    let stat = reader.read_once("stat", |text| process_file(text, proc, pid, "stat")).data().and_then(parse::process::stat);
    // Without a start it is taken for the last to start: never a sandbox.
    Main { pid, comm, start_ticks: stat.map_or(u64::MAX, |stat| stat.start_ticks) }
}

/// The container that a cgroup path belongs to: by the id in its deepest element that is one we know, else by path. From another cgroup
/// namespace a path begins with `/../` and only its end can be compared.
fn container_of(
    path: &str,
    by_id: impl Fn(&str) -> Option<u32>,
    by_path: impl Fn(&str) -> Option<u32>,
    containers: &[Option<Container>],
) -> Option<u32> {
    let mut rest = path.trim_matches('/');
    while !rest.is_empty() {
        let last = rest.rsplit('/').next().unwrap_or(rest);
        if let Element::Container { id, .. } = name::element(last)
            && let Some(index) = by_id(id)
        {
            // One end must agree: which part of the path is seen depends on where the tree is mounted and from where it is looked at.
            let ours = containers.get(index as usize).and_then(Option::as_ref).map_or("", |container| container.found.path.as_str());
            let theirs = rest.trim_start_matches("../");
            if ours.ends_with(theirs) || theirs.ends_with(ours) {
                return Some(index);
            }
        }
        rest = &rest[..rest.rfind('/').unwrap_or(0)];
    }
    let relative = path.starts_with("/..");
    let mut rest = path.trim_start_matches("/..").trim_matches('/');
    while !rest.is_empty() {
        if let Some(index) = by_path(rest) {
            return Some(index);
        }
        if relative {
            let ends = |container: &Container| {
                container.found.identity.runtime == "cgroup"
                    && container.found.path.strip_suffix(rest).is_some_and(|before| before.is_empty() || before.ends_with('/'))
            };
            if let Some(index) = containers.iter().position(|container| container.as_ref().is_some_and(ends)) {
                return Some(index as u32);
            }
        }
        rest = &rest[..rest.rfind('/').unwrap_or(0)];
    }
    None
}
