//! Processes to containers, and through which process a pod's network is read.

use std::collections::HashMap;

use vedette_proto::v1::ProcessSeen;

use super::{Container, Main, Sensor, SensorError, Told};
use crate::{
    facts::{Fact, Seen},
    files::Reader,
    name::{self, Element},
    network::{self, Kind, process_file},
    parse::{
        self,
        process::{Comm, Status},
    },
    processes::Looked,
    sample::Sample,
};

/// Processes of one pod whose names are read in one look; those of the others are read later.
const MAX_PER_POD: u32 = 64;

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
        let mut looked: Vec<(u32, u32, Status, bool)> = Vec::new();
        let mut shares: HashMap<u32, u32> = HashMap::new();
        let mut crowded = false;
        processes
            .scan(metrics, early, |known| {
                let pid = known.pid;
                let at = |index: u32| containers.get(index as usize).and_then(Option::as_ref);
                let pod_of = |index: u32| at(index).map_or(u32::MAX, |container| container.pod);
                if let Some(index) = known.container
                    && shares.get(&pod_of(index)).is_some_and(|share| *share >= MAX_PER_POD)
                {
                    crowded = true;
                    return Looked::Crowded(index);
                }
                let find = |reader: &mut Reader| {
                    let text = reader.read_once("cgroup", |text| process_file(text, proc, pid, "cgroup")).data()?;
                    let path = parse::process::cgroup_path(text, controller).and_then(|path| std::str::from_utf8(path).ok())?;
                    container_of(path, |id| by_id.get(id).copied(), |path| by_path.get(path).copied(), containers)
                };
                // A runtime's child leaves the runtime's own cgroup, which may be watched; a container is not left.
                let sure = known.container.filter(|&index| at(index).is_some_and(|container| container.found.identity.runtime != "cgroup"));
                let Some(index) = sure.or_else(|| find(reader)) else { return Looked::Nobodys };
                let share = shares.entry(pod_of(index)).or_default();
                if *share >= MAX_PER_POD {
                    crowded = true;
                    return Looked::Crowded(index);
                }
                *share += 1;
                let status = reader.read_once("status", |text| process_file(text, proc, pid, "status")).data();
                let Some(status) = status.and_then(parse::process::status) else { return Looked::Named(index) };
                let unnamed = status.comm.is_runtime_init() && !known.is_last_look();
                looked.push((index, pid, status, unnamed));
                if unnamed { Looked::Unnamed(index) } else { Looked::Named(index) }
            })
            .map_err(|source| SensorError::Processes { path: proc.clone(), source })?;
        if crowded {
            metrics.limited("processes_per_pod");
        }
        self.replace_ended();
        for (index, pid, status, unnamed) in looked {
            self.saw(index, pid, status, unnamed, unix_ms);
        }
        Ok(())
    }

    /// First processes that ended are replaced by the next of their container, networks read through one are closed.
    fn replace_ended(&mut self) {
        for place in 0..self.processes.gone().len() {
            let gone = self.processes.gone()[place];
            let Some(index) = gone.container else { continue };
            let Some(container) = self.container_mut(index) else { continue };
            container.facts.ended(gone.pid);
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
            }
        }
    }

    /// Takes note of a process; of one that is `unnamed` only that it is there.
    fn saw(&mut self, index: u32, pid: u32, status: Status, unnamed: bool, unix_ms: i64) {
        let Self { containers, pods, reader, proc, metrics, clock, processes, .. } = self;
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
        if unnamed {
            return;
        }
        let own = pod.network.namespace.filter(|_| pod.network.pid.is_some());
        let foreign = own.is_some_and(|own| network::namespace(proc, pid).is_some_and(|namespace| namespace != own));
        let fact = Fact { status, foreign_network_namespace: foreign };
        match container.facts.saw(pid, fact, clock()) {
            Seen::New => container.told.push(Told { fact, unix_ms }),
            Seen::Known => {}
            Seen::LeftOut => {
                metrics.limited("process_facts");
                processes.settle(pid);
            }
        }
    }

    /// Gives processes that were left out their turn, and says how many were.
    fn tell_left_out(&mut self, index: u32, unix_ms: i64) {
        let now_us = (self.clock)();
        while let Some(pid) = self.container_mut(index).and_then(|container| container.facts.turn(now_us)) {
            let status = self
                .reader
                .read_once("status", |text| process_file(text, &self.proc, pid, "status"))
                .data()
                .and_then(parse::process::status);
            if let Some(status) = status {
                self.saw(index, pid, status, false, unix_ms);
            }
        }
        let Some(container) = self.container_mut(index) else { return };
        if container.told.is_empty()
            && let Some(fact) = container.facts.repeat(now_us)
        {
            container.told.push(Told { fact, unix_ms });
        }
    }

    /// The facts of announced containers, those of ended ones included.
    pub(super) fn take_facts(&mut self, unix_ms: i64) -> Vec<ProcessSeen> {
        for place in 0..self.order.len() {
            let index = self.order[place];
            self.tell_left_out(index, unix_ms);
            if self.container(index).is_none_or(|container| container.told.is_empty()) {
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
        let first = self.facts.len();
        self.facts.extend(container.told.drain(..).map(|Told { fact, unix_ms }| ProcessSeen {
            container_ref: reference,
            comm: fact.status.comm.text(),
            uid: fact.status.uid,
            cap_effective: fact.status.cap_effective,
            seccomp: fact.status.seccomp,
            unix_ms,
            foreign_network_namespace: fact.foreign_network_namespace,
            left_out: 0,
        }));
        if let Some(last) = self.facts[first..].last_mut() {
            last.left_out = container.facts.take_left_out();
        }
    }

    /// Finds, for every pod that has none, the process through which its network is read: the sandbox, else a member that has an
    /// interface besides lo.
    pub(super) fn choose_networks(&mut self) {
        let slow_every = u64::from(self.config.slow_every);
        for index in 0..self.pods.len() {
            let Some(pod) = &self.pods[index] else { continue };
            let again = (self.tick + index as u64).is_multiple_of(slow_every * 2);
            if pod.containers.is_empty() || pod.network_settled || (pod.network.pid.is_some() && !again) {
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
            let same = pod.network.namespace == Some(look.namespace);
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
            pod.network.namespace = Some(look.namespace);
            pod.network_settled = look.has_interface;
        }
    }
}

fn main(reader: &mut Reader, proc: &str, pid: u32, comm: Comm) -> Main {
    let stat = reader.read_once("stat", |text| process_file(text, proc, pid, "stat")).data().and_then(parse::process::stat);
    // Without a start it is taken for the last to start: never a sandbox.
    Main { pid, comm, start_ticks: stat.map_or(u64::MAX, |stat| stat.start_ticks) }
}

/// The container that a process with this cgroup path is in: the outermost one, since what lies within it has names of its choosing. From another
/// cgroup namespace a path begins with `/../`, and only its end can be compared.
fn container_of(
    path: &str,
    by_id: impl Fn(&str) -> Option<u32>,
    by_path: impl Fn(&str) -> Option<u32>,
    containers: &[Option<Container>],
) -> Option<u32> {
    let relative = path.starts_with("/..");
    let path = path.trim_start_matches("/..").trim_matches('/');
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for theirs in ends.map(|end| &path[..end]) {
        let last = theirs.rsplit('/').next().unwrap_or(theirs);
        if let Element::Container { id, .. } = name::element(last)
            && let Some(index) = by_id(id)
            && let Some(ours) = containers.get(index as usize).and_then(Option::as_ref).map(|container| container.found.path.as_str())
            && same_place(ours, theirs)
        {
            return Some(index);
        }
    }
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(index) = by_path(rest) {
            return Some(index);
        }
        if relative {
            let ends = |container: &Container| container.found.identity.runtime == "cgroup" && is_end(&container.found.path, rest);
            if let Some(index) = containers.iter().position(|container| container.as_ref().is_some_and(ends)) {
                return Some(index as u32);
            }
        }
        rest = &rest[..rest.rfind('/').unwrap_or(0)];
    }
    None
}

/// Whether a path ends with another, at the border of an element.
fn is_end(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// Which part of a path is seen depends on where the tree is mounted and from where it is looked at: one must be the other's end. What a process's own
/// path has more is above the mount, where no container is; a container before ours would be the one that the process is in.
fn same_place(ours: &str, theirs: &str) -> bool {
    is_end(ours, theirs) || (is_end(theirs, ours) && !name::is_nested(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str =
        "kubepods/burstable/poda1fbc318-347b-4575-a8b3-010c05abc66b/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str =
        "kubepods/besteffort/podb1fbc318-347b-4575-a8b3-010c05abc66b/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn one_path_must_be_the_end_of_the_other() {
        let short = &A["kubepods/".len()..];
        assert!(same_place(A, A) && same_place(A, short) && same_place(short, A));
        assert!(!same_place(A, &A["kubep".len()..]), "not within an element");
        assert!(!same_place(A, B));
    }

    #[test]
    fn a_path_within_a_container_is_never_anothers_whatever_it_is_called() {
        let nested = format!("{A}/{B}");
        assert!(!same_place(B, &nested));
        assert!(!same_place(B, &nested["kubepods/".len()..]));
        assert!(!same_place(B, &format!("{A}/{}", B.rsplit('/').next().unwrap())));
    }
}
