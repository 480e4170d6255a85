//! The container runtime interface as the range uses it: generated client, and what a kubelet would say about a pod.

use std::{collections::HashMap, path::Path};

use super::image;
use crate::{
    cgroups::CFS_PERIOD_US,
    pod::{NAMESPACE, Program},
    runtime::PodPlace,
};

/// Messages and clients of `proto/cri.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Name that kubelets give to their API server as the source of a pod.
const SOURCE: &str = "api";
/// CPU requested where no limit says more, millicores.
const REQUEST_MILLICORES: u64 = 100;
/// Least weight that the kernel takes, as a kubelet knows it.
const MIN_SHARES: u64 = 2;
/// What a kubelet gives to a burstable container with a small memory request.
const OOM_SCORE_ADJ: i64 = 999;

/// A pod's sandbox as a kubelet would ask for it; `cgroups` is the run's subtree.
#[must_use]
pub fn sandbox(pod: &PodPlace, cgroups: &str, logs: &Path) -> v1::PodSandboxConfig {
    let mut labels = identity(pod);
    labels.insert("app".to_owned(), pod.container.clone());
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            namespace: NAMESPACE.to_owned(),
            attempt: 0,
        }),
        hostname: pod.name.clone(),
        log_directory: logs.join(format!("{NAMESPACE}_{}_{}", pod.name, pod.uid)).to_string_lossy().into_owned(),
        // No server: nothing of a run asks outside of it.
        dns_config: Some(v1::DnsConfig {
            servers: Vec::new(),
            searches: vec![format!("{NAMESPACE}.svc.cluster.local"), "svc.cluster.local".to_owned(), "cluster.local".to_owned()],
            options: vec!["ndots:5".to_owned()],
        }),
        labels,
        annotations: texts([("kubernetes.io/config.source", SOURCE.to_owned())]),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("/{cgroups}/{}", pod.cgroup),
            security_context: Some(v1::LinuxSandboxSecurityContext { namespace_options: Some(namespaces()), ..Default::default() }),
        }),
    }
}

/// A container as a kubelet would ask for it; `path` is the program's place in it, `attempt` how many there were before.
#[must_use]
pub fn container(pod: &PodPlace, program: &Program, path: &Path, attempt: u32, mounts: Vec<v1::Mount>) -> v1::ContainerConfig {
    let mut labels = identity(pod);
    labels.insert("io.kubernetes.container.name".to_owned(), pod.container.clone());
    let own = [path.to_string_lossy().into_owned(), "behave".to_owned()];
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: pod.container.clone(), attempt }),
        image: Some(v1::ImageSpec { image: image::NAME.to_owned() }),
        command: own.into_iter().chain(program.args.iter().cloned()).collect(),
        args: Vec::new(),
        envs: Vec::new(),
        mounts,
        labels,
        annotations: texts([
            ("io.kubernetes.container.restartCount", attempt.to_string()),
            ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log".to_owned()),
            ("io.kubernetes.container.terminationMessagePolicy", "File".to_owned()),
            ("io.kubernetes.pod.terminationGracePeriod", "30".to_owned()),
        ]),
        log_path: format!("{}/{attempt}.log", pod.container),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(pod)),
            security_context: Some(v1::LinuxContainerSecurityContext { namespace_options: Some(namespaces()), ..Default::default() }),
        }),
    }
}

fn resources(pod: &PodPlace) -> v1::LinuxContainerResources {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let millicores = pod.limits.cpu_millicores;
    v1::LinuxContainerResources {
        cpu_period: signed(CFS_PERIOD_US),
        cpu_quota: millicores.map_or(0, |millicores| signed(millicores * CFS_PERIOD_US / 1000)),
        cpu_shares: signed((millicores.unwrap_or(REQUEST_MILLICORES) * 1024 / 1000).max(MIN_SHARES)),
        memory_limit_in_bytes: pod.limits.memory_bytes.map_or(0, signed),
        oom_score_adj: OOM_SCORE_ADJ,
    }
}

/// As a kubelet has it unless a pod asks for more: network and IPC are the pod's, processes each container's.
#[must_use]
pub fn namespaces() -> v1::NamespaceOption {
    let (pod, container) = (v1::NamespaceMode::Pod.into(), v1::NamespaceMode::Container.into());
    v1::NamespaceOption { network: pod, pid: container, ipc: pod }
}

fn identity(pod: &PodPlace) -> HashMap<String, String> {
    texts([
        ("io.kubernetes.pod.name", pod.name.clone()),
        ("io.kubernetes.pod.namespace", NAMESPACE.to_owned()),
        ("io.kubernetes.pod.uid", pod.uid.clone()),
    ])
}

fn texts<const N: usize>(pairs: [(&str, String); N]) -> HashMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}
