//! Containers and pods come and go.

use std::collections::HashSet;

use vedette_proto::v1::{ContainerAdded, ContainerRemoved};

use super::{Container, MAX_CONTAINERS_PER_POD, MAX_PODS, Pod, REMEMBER_POD, RESCAN, Sensor};
use crate::{
    container::ContainerFiles,
    facts::Facts,
    files::KernelFile,
    network::Network,
    oddness::Oddness,
    sample::Sample,
    slots::Slots,
    tree::{Found, Place},
};

/// Most containers that wait to be announced in one tick, also when they are gone again: a storm of cgroups is cut, counted.
const MAX_UNANNOUNCED: usize = 4_096;

impl Sensor {
    /// Looks at the whole tree: adds what is new, ends what is gone.
    pub(super) fn rescan(&mut self, unix_ms: i64, at_start: bool) {
        self.next_rescan_us = (self.clock)() + RESCAN.as_micros() as u64;
        let mut found = Vec::new();
        self.tree.walk("", self.watcher.as_mut(), &self.metrics, &mut found);
        let there: HashSet<&str> = found.iter().map(|found| found.path.as_str()).collect();
        let gone: Vec<String> =
            self.by_path.keys().filter(|path| !there.contains(path.as_str()) && !self.tree.exists(path)).cloned().collect();
        for path in gone {
            self.path_gone(&path, unix_ms);
        }
        let mut came = false;
        for found in found {
            if !self.by_path.contains_key(&found.path) {
                came |= self.add(found, unix_ms, at_start, false);
            }
        }
        if came {
            self.processes.unsettle_strangers();
        }
    }

    /// A directory was made. Says whether a container came.
    pub(super) fn created(&mut self, path: &str, unix_ms: i64) -> bool {
        match self.tree.place(path) {
            Place::Ignored => false,
            Place::Container(found) => {
                // The same path again: the one before is gone, even if its removal was not seen.
                self.path_gone(path, unix_ms);
                self.add(*found, unix_ms, false, true)
            }
            Place::Parent => {
                let mut found = Vec::new();
                self.tree.walk(path, self.watcher.as_mut(), &self.metrics, &mut found);
                let mut came = false;
                for found in found {
                    if !self.by_path.contains_key(&found.path) {
                        came |= self.add(found, unix_ms, false, true);
                    }
                }
                came
            }
        }
    }

    /// Begins to track a container. `born` says that it was made while we looked: its counters began at zero after the tick before.
    fn add(&mut self, found: Found, unix_ms: i64, already_running: bool, born: bool) -> bool {
        if self.by_path.len() >= self.config.max_containers || self.unannounced.len() + self.added.len() >= MAX_UNANNOUNCED {
            self.metrics.limited("containers");
            return false;
        }
        let Some(pod_index) = self.pod_of(&found, born) else { return false };
        let last_tick_us = self.last_tick_us;
        let Some(pod) = self.pod_mut(pod_index) else { return false };
        if pod.containers.len() >= MAX_CONTAINERS_PER_POD {
            self.metrics.limited("containers_per_pod");
            return false;
        }
        pod.fresh = true;
        let slow_us = pod.slow_us.or(last_tick_us);
        let previous = if born && last_tick_us.is_some() { Sample::before_birth(last_tick_us, slow_us) } else { Sample::default() };
        let index = self.containers.iter().position(Option::is_none).unwrap_or(self.containers.len());
        if index == self.containers.len() {
            self.containers.push(None);
        }
        let reference = index as u32;
        if let Some(pod) = self.pod_mut(pod_index) {
            pod.containers.push(reference);
        }
        self.by_path.insert(found.path.clone(), reference);
        self.by_id.insert(found.identity.container_id.clone(), reference);
        let adopted = self.adopted.remove(&found.path).filter(|adopted| adopted.container_id == found.identity.container_id);
        let mut container = Container {
            found,
            reference: 0,
            pod: pod_index,
            slot: 0,
            first_seen_unix_ms: unix_ms,
            already_running,
            deferred: 0,
            sandbox: false,
            files: ContainerFiles::default(),
            limits: Default::default(),
            previous,
            main: None,
            main_stat: KernelFile::default(),
            facts: Facts::default(),
            told: Vec::new(),
            oddness: Oddness::default(),
        };
        match adopted {
            Some(adopted) => {
                container.reference = adopted.container_ref;
                container.slot = adopted.slot;
                container.limits = crate::container::limits(
                    &mut self.reader,
                    &self.hierarchies,
                    &container.found.path,
                    &container.found.identity.pod_path,
                );
                if let Some(pod) = self.pod_mut(pod_index) {
                    pod.slots.restore(adopted.slot, adopted.restarts, true);
                }
                let at = self.order.partition_point(|&other| {
                    self.containers[other as usize].as_ref().is_some_and(|other| other.reference < adopted.container_ref)
                });
                self.order.insert(at, reference);
            }
            None => self.unannounced.push(reference),
        }
        self.containers[index] = Some(container);
        self.choose_carrier(pod_index);
        true
    }

    fn pod_of(&mut self, found: &Found, born: bool) -> Option<u32> {
        let key = if found.identity.pod_uid.is_empty() { format!("path:{}", found.path) } else { found.identity.pod_uid.clone() };
        if let Some(&index) = self.pod_by_key.get(&key) {
            return Some(index);
        }
        if self.pod_by_key.len() >= MAX_PODS {
            self.metrics.limited("pods");
            return None;
        }
        let index = self.pods.iter().position(Option::is_none).unwrap_or(self.pods.len());
        if index == self.pods.len() {
            self.pods.push(None);
        }
        self.pods[index] = Some(Pod {
            key: key.clone(),
            path: found.identity.pod_path.clone(),
            containers: Vec::new(),
            slots: Slots::default(),
            sandbox: None,
            had_sandbox: false,
            sandbox_alone: false,
            carrier: None,
            network: Network::default(),
            network_settled: false,
            sample: Sample::default(),
            oom: KernelFile::default(),
            oom_seen: born.then_some(0),
            oom_pending: 0,
            slow_us: None,
            fresh: true,
            promoted_until_us: 0,
            peers_read_us: None,
            empty_since_us: 0,
        });
        self.pod_by_key.insert(key, index as u32);
        Some(index as u32)
    }

    /// A directory is gone: with it the container that it was.
    pub(super) fn path_gone(&mut self, path: &str, unix_ms: i64) {
        if let Some(&index) = self.by_path.get(path) {
            self.end(index, unix_ms);
        }
    }

    /// A container is gone. One that was never announced is announced now: it came and went within a tick.
    pub(super) fn end(&mut self, index: u32, unix_ms: i64) {
        let Some(container) = self.container(index) else { return };
        if container.reference == 0 && !container.sandbox {
            if self.looks_like_sandbox(index) {
                self.make_sandbox(index);
            } else {
                self.announce(index);
            }
        }
        self.unannounced.retain(|&other| other != index);
        self.order.retain(|&other| other != index);
        let now_us = (self.clock)();
        let Some(mut container) = self.containers.get_mut(index as usize).and_then(Option::take) else { return };
        self.by_path.remove(&container.found.path);
        if self.by_id.get(&container.found.identity.container_id) == Some(&index) {
            self.by_id.remove(&container.found.identity.container_id);
        }
        self.processes.forget(index);
        container.files.close(&mut self.reader);
        self.reader.close(&mut container.main_stat);
        if container.reference != 0 {
            self.facts_of(&mut container);
            let removed = ContainerRemoved { container_ref: container.reference, unix_ms, pod_remains: false };
            self.removed.push((removed, Some(container.pod)));
        }
        let main_pid = container.main.map(|main| main.pid);
        let Some(pod) = self.pods.get_mut(container.pod as usize).and_then(Option::as_mut) else { return };
        pod.containers.retain(|&other| other != index);
        // What the network shows next may still be this container's.
        pod.sandbox_alone = false;
        if container.reference != 0 {
            pod.slots.vacate(container.slot);
        }
        if pod.sandbox == Some(index) {
            pod.sandbox = None;
        }
        // Open files of a dead pod would keep its namespace alive.
        if pod.containers.is_empty() || (pod.network.pid.is_some() && pod.network.pid == main_pid) {
            pod.network.close(&mut self.reader);
        }
        if pod.containers.is_empty() {
            pod.empty_since_us = now_us;
            self.reader.close(&mut pod.oom);
        }
        self.choose_carrier(container.pod);
    }

    /// The pod's columns go with its first living container: the one in the lowest place.
    pub(super) fn choose_carrier(&mut self, pod_index: u32) {
        let Some(pod) = self.pod(pod_index) else { return };
        let announced = pod
            .containers
            .iter()
            .filter_map(|&index| Some((index, self.container(index)?)))
            .filter(|(_, container)| container.reference != 0);
        let carrier = announced.min_by_key(|(_, container)| container.slot).map(|(index, _)| index);
        if let Some(pod) = self.pod_mut(pod_index) {
            pod.carrier = carrier;
        }
    }

    /// What an earlier run announced and is not there any more.
    pub(super) fn remove_unadopted(&mut self, unix_ms: i64) {
        let mut gone: Vec<ContainerAdded> = std::mem::take(&mut self.adopted).into_values().collect();
        gone.sort_by_key(|added| added.container_ref);
        for added in gone {
            let pod = self.pod_by_key.get(&added.pod_uid).copied().filter(|_| !added.pod_uid.is_empty());
            if let Some(pod) = pod.and_then(|pod| self.pod_mut(pod)) {
                pod.slots.restore(added.slot, added.restarts, false);
            }
            self.removed.push((ContainerRemoved { container_ref: added.container_ref, unix_ms, pod_remains: false }, pod));
        }
    }

    /// Whether a pod is still there: by its sandbox where it has one, which goes before the pod's cgroup does.
    pub(super) fn pod_remains(&self, index: u32) -> bool {
        self.pod(index)
            .is_some_and(|pod| if pod.had_sandbox { pod.sandbox.is_some() } else { !pod.path.is_empty() && self.tree.exists(&pod.path) })
    }

    /// Forgets pods that have been without containers for long.
    pub(super) fn forget_pods(&mut self) {
        if !self.tick.is_multiple_of(60) {
            return;
        }
        let now_us = (self.clock)();
        for place in &mut self.pods {
            if let Some(pod) = place
                && pod.containers.is_empty()
                && now_us.saturating_sub(pod.empty_since_us) > REMEMBER_POD.as_micros() as u64
            {
                self.pod_by_key.remove(&pod.key);
                *place = None;
            }
        }
    }
}
