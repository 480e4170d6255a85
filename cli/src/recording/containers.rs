//! What agents told of a container besides its observations, as a recording holds it. Absent is left out.

use serde::{Deserialize, Serialize};
use vedette_proto::v1::{Container, ContainerAdded, ContainerRemoved, Peer, PeersSeen, ProcessSeen, Workload};

/// One container id from its first to its last second.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Seen {
    /// Its node.
    pub node: String,
    /// Its pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Its id.
    pub container_id: String,
    /// Its cgroup.
    pub cgroup: String,
    /// As the agent told it by its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// Seen first, Unix milliseconds.
    pub first_seen_unix_ms: i64,
    /// Seen gone, Unix milliseconds. Absent means: not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_unix_ms: Option<i64>,
    /// Its pod lived on when it was gone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pod_remained: bool,
    /// Place in its pod.
    #[serde(default)]
    pub slot: u32,
    /// Containers before it in this place.
    #[serde(default)]
    pub restarts: u32,
    /// It ran before the agent did.
    #[serde(default, skip_serializing_if = "is_false")]
    pub already_running: bool,
    /// CPU limit, millicores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_millicores: Option<u64>,
    /// Memory limit, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Limit on processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// Name of the glob that watched it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub watch_name: String,
    /// Namespace of its workload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Kind of its owner.
    pub owner_kind: String,
    /// Name of its owner.
    pub owner_name: String,
    /// Its name in the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_name: String,
    /// Name of its pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_name: String,
    /// Process names, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// Looks at the far ends of its pod's connections, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Look>,
}

/// A process name with its privileges.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Process {
    /// When it was read, Unix milliseconds.
    pub unix_ms: i64,
    /// The kernel's comm.
    pub comm: String,
    /// Effective uid.
    pub uid: u32,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Seccomp mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<u32>,
    /// It is in another network namespace than its pod.
    #[serde(default, skip_serializing_if = "is_false")]
    pub foreign_network_namespace: bool,
    /// Processes left out since the one before; 0 means: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
}

/// One look at the far ends of a pod's connections.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Look {
    /// When, Unix milliseconds.
    pub unix_ms: i64,
    /// The most frequent ones.
    pub peers: Vec<FarEnd>,
    /// Connections to others.
    #[serde(default)]
    pub other_connections: u64,
}

/// One far end.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct FarEnd {
    /// IP address.
    pub address: String,
    /// The port that does not look ephemeral. 0 means: neither does not.
    pub port: u32,
    /// Connections in any state.
    pub connections: u64,
    /// Connections that wait for an answer.
    pub connecting: u64,
    /// It is a client.
    pub inbound: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Seen {
    /// As the aggregator tells of it.
    pub fn of(container: &Container) -> Self {
        let announced = container.announced.clone().unwrap_or_default();
        let workload = container.workload.clone().unwrap_or_default();
        Self {
            node: container.node.clone(),
            pod_uid: container.pod_uid.clone(),
            container_id: container.container_id.clone(),
            cgroup: container.cgroup.clone(),
            runtime: announced.runtime,
            first_seen_unix_ms: container.first_seen_unix_ms,
            gone_unix_ms: (container.gone_unix_ms > 0).then_some(container.gone_unix_ms),
            pod_remained: container.pod_remained,
            slot: announced.slot,
            restarts: container.restarts,
            already_running: announced.already_running,
            cpu_limit_millicores: announced.cpu_limit_millicores,
            memory_limit_bytes: announced.memory_limit_bytes,
            pids_limit: announced.pids_limit,
            watch_name: announced.watch_name,
            namespace: workload.namespace,
            owner_kind: workload.owner_kind,
            owner_name: workload.owner_name,
            container_name: workload.container_name,
            pod_name: container.pod_name.clone(),
            processes: container.processes.iter().map(Process::of).collect(),
            peers: container.peers.iter().map(Look::of).collect(),
        }
    }

    /// As an agent announced it, under a reference of the replay's own stream.
    pub fn added(&self, container_ref: u32) -> ContainerAdded {
        let workload = Workload {
            cluster: String::new(),
            namespace: self.namespace.clone(),
            owner_kind: self.owner_kind.clone(),
            owner_name: self.owner_name.clone(),
            container_name: self.container_name.clone(),
        };
        ContainerAdded {
            container_ref,
            pod_uid: self.pod_uid.clone(),
            container_id: self.container_id.clone(),
            cgroup: self.cgroup.clone(),
            runtime: self.runtime.clone(),
            first_seen_unix_ms: self.first_seen_unix_ms,
            slot: self.slot,
            restarts: self.restarts,
            already_running: self.already_running,
            cpu_limit_millicores: self.cpu_limit_millicores,
            memory_limit_bytes: self.memory_limit_bytes,
            pids_limit: self.pids_limit,
            watch_name: self.watch_name.clone(),
            recorded_workload: (!self.owner_kind.is_empty() && !self.owner_name.is_empty()).then_some(workload),
            recorded_pod_name: self.pod_name.clone(),
        }
    }

    /// As an agent told of its end.
    pub fn removed(&self, container_ref: u32) -> ContainerRemoved {
        ContainerRemoved { container_ref, unix_ms: self.gone_unix_ms.unwrap_or(0), pod_remains: self.pod_remained }
    }
}

impl Process {
    fn of(seen: &ProcessSeen) -> Self {
        Self {
            unix_ms: seen.unix_ms,
            comm: seen.comm.clone(),
            uid: seen.uid,
            cap_effective: seen.cap_effective,
            seccomp: seen.seccomp,
            foreign_network_namespace: seen.foreign_network_namespace,
            left_out: seen.left_out,
        }
    }

    /// As an agent told of it.
    pub fn seen(&self, container_ref: u32) -> ProcessSeen {
        ProcessSeen {
            container_ref,
            comm: self.comm.clone(),
            uid: self.uid,
            cap_effective: self.cap_effective,
            seccomp: self.seccomp,
            unix_ms: self.unix_ms,
            foreign_network_namespace: self.foreign_network_namespace,
            left_out: self.left_out,
        }
    }
}

impl Look {
    fn of(seen: &PeersSeen) -> Self {
        let far_end = |peer: &Peer| FarEnd {
            address: peer.address.clone(),
            port: peer.port,
            connections: peer.connections,
            connecting: peer.connecting,
            inbound: peer.inbound,
        };
        Self { unix_ms: seen.unix_ms, peers: seen.peers.iter().map(far_end).collect(), other_connections: seen.other_connections }
    }

    /// As an agent told of it.
    pub fn seen(&self, container_ref: u32) -> PeersSeen {
        let peer = |far_end: &FarEnd| Peer {
            address: far_end.address.clone(),
            port: far_end.port,
            connections: far_end.connections,
            connecting: far_end.connecting,
            inbound: far_end.inbound,
        };
        let peers = self.peers.iter().map(peer).collect();
        PeersSeen { container_ref, unix_ms: self.unix_ms, peers, other_connections: self.other_connections }
    }
}
