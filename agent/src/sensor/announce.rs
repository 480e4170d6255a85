//! Which containers are told of, under which reference, and which is the sandbox.

use vedette_proto::v1::ContainerAdded;

use super::Sensor;
use crate::container;

/// Ticks that a container may be held back while its first process has no name yet; its counters run on, so nothing of it is lost.
const MAX_DEFERRED: u8 = 1;

impl Sensor {
    /// Announces every container whose first process is known, or that has waited long enough.
    pub(super) fn announce_due(&mut self) {
        for index in std::mem::take(&mut self.unannounced) {
            let named = self.container(index).and_then(|container| container.main).is_some_and(|main| !main.comm.is_runtime_init());
            if self.looks_like_sandbox(index) {
                self.make_sandbox(index);
                continue;
            }
            let tick = self.tick;
            let Some(container) = self.container_mut(index) else { continue };
            // At the start there is no later: what runs has been running.
            if !named && container.deferred < MAX_DEFERRED && !(container.already_running && tick > 1) {
                container.deferred += 1;
                self.unannounced.push(index);
                continue;
            }
            self.announce(index);
        }
    }

    /// Gives a container its reference and its place.
    pub(super) fn announce(&mut self, index: u32) {
        let Some(container) = self.containers.get_mut(index as usize).and_then(Option::as_mut) else { return };
        let Some(pod) = self.pods.get_mut(container.pod as usize).and_then(Option::as_mut) else { return };
        let comm = container.main.map(|main| main.comm).filter(|comm| !comm.is_runtime_init());
        let taken = pod.slots.take(comm);
        if taken.restarts > 0 {
            self.metrics.restarts.inc();
        }
        pod.fresh = true;
        container.slot = taken.slot;
        container.reference = self.next_reference;
        container.limits =
            container::limits(&mut self.reader, &self.hierarchies, &container.found.path, &container.found.identity.pod_path);
        self.next_reference += 1;
        let identity = &container.found.identity;
        self.added.push(ContainerAdded {
            container_ref: container.reference,
            pod_uid: identity.pod_uid.clone(),
            container_id: identity.container_id.clone(),
            cgroup: container.found.path.clone(),
            runtime: identity.runtime.to_owned(),
            first_seen_unix_ms: container.first_seen_unix_ms,
            slot: taken.slot,
            restarts: taken.restarts,
            already_running: container.already_running,
            cpu_limit_millicores: container.limits.cpu_millicores,
            memory_limit_bytes: container.limits.memory_bytes,
            pids_limit: container.limits.pids,
            watch_name: container.found.watch_name.clone(),
            // Names are for whoever sees an API server; an agent knows none.
            ..ContainerAdded::default()
        });
        self.order.push(index);
        let pod = container.pod;
        self.choose_carrier(pod);
    }

    /// The sandbox of a pod holds its namespaces: called `pause` (with CRI-O also `pod`, as OpenShift's image has it), the first container of its pod, and only one per pod.
    pub(super) fn looks_like_sandbox(&self, index: u32) -> bool {
        let Some(container) = self.container(index) else { return false };
        let Some(pod) = self.pod(container.pod) else { return false };
        let named = |comm: &[u8]| comm == b"pause" || (comm == b"pod" && container.found.identity.runtime == "cri-o");
        let Some(main) = container.main.filter(|main| named(main.comm.bytes())) else { return false };
        if container.found.identity.pod_uid.is_empty() || !container.found.watch_name.is_empty() || pod.sandbox.is_some() {
            return false;
        }
        pod.containers
            .iter()
            .filter(|&&other| other != index)
            .filter_map(|&other| self.container(other)?.main)
            .all(|other| main.start_ticks <= other.start_ticks)
    }

    /// Takes a container for its pod's sandbox: no rows, its network is the pod's.
    pub(super) fn make_sandbox(&mut self, index: u32) {
        let Some(container) = self.container_mut(index) else { return };
        container.sandbox = true;
        let (pod, pid) = (container.pod, container.main.map(|main| main.pid));
        let Some(pod) = self.pods.get_mut(pod as usize).and_then(Option::as_mut) else { return };
        pod.sandbox = Some(index);
        pod.had_sandbox = true;
        // Read through the sandbox from now on: it lives as long as the pod.
        if pod.network.pid != pid {
            pod.network.close(&mut self.reader);
            pod.network_settled = false;
        }
    }
}
