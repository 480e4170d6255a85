//! What a kubelet makes of a pod of the manifests: settings for the container runtime. It knows what these pods use and refuses the rest.

// Only tests call this, and a manifest that says something else must fail them.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::Value;
use vedette_range::runtime::containerd::cri::{self, v1};

/// What a kubelet hides of a container's own /proc and /sys unless a pod asks for it.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
/// And what it makes read-only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// As for a burstable pod with a small request.
const OOM_SCORE_ADJ: i64 = 999;

/// A pod's volumes, laid out below a folder.
pub struct Volumes {
    places: BTreeMap<String, PathBuf>,
}

impl Volumes {
    /// Makes each volume: an emptyDir anew, a hostPath where it is, and for the others the files that are given under the volume's name.
    #[must_use]
    pub fn make(pod: &Value, folder: &Path, files: &[(&str, &str, &str)]) -> Self {
        let mut places = BTreeMap::new();
        for volume in pod["volumes"].as_array().unwrap() {
            let name = volume["name"].as_str().unwrap();
            let place = match volume["hostPath"]["path"].as_str() {
                Some(path) => PathBuf::from(path),
                None => folder.join(name),
            };
            if volume["hostPath"].is_null() {
                fs::create_dir_all(&place).unwrap();
                // As kubelets make them: anybody's to write, or anybody's to read.
                let mode = if volume["emptyDir"].is_null() { 0o755 } else { 0o777 };
                fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
            }
            for (_, file, text) in files.iter().filter(|(of, ..)| *of == name) {
                fs::write(place.join(file), text).unwrap();
                fs::set_permissions(place.join(file), fs::Permissions::from_mode(0o644)).unwrap();
            }
            places.insert(name.to_owned(), place);
        }
        assert!(files.iter().all(|(of, ..)| places.contains_key(*of)), "files for a volume that the pod does not have");
        Self { places }
    }

    /// Where a volume is outside of the container.
    #[must_use]
    pub fn place(&self, name: &str) -> &Path {
        &self.places[name]
    }
}

/// An object of a text of manifests; a name may go on with a hash.
#[must_use]
pub fn object(manifests: &str, kind: &str, name: &str) -> Value {
    use serde::Deserialize;
    let mut objects = serde_norway::Deserializer::from_str(manifests).map(|document| Value::deserialize(document).unwrap());
    objects.find(|object| object["kind"] == kind && object["metadata"]["name"].as_str().unwrap().starts_with(name)).unwrap()
}

/// Completes a sandbox: who runs it, and whom it asks for names.
#[must_use]
pub fn sandbox(pod: &Value, mut config: v1::PodSandboxConfig, name_server: &str, namespace: &str) -> v1::PodSandboxConfig {
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[key].is_null() || pod[key] == false, "{key} is not what this kubelet does");
    }
    let context = &pod["securityContext"];
    config.linux.as_mut().unwrap().security_context = Some(v1::LinuxSandboxSecurityContext {
        namespace_options: Some(cri::namespaces()),
        run_as_user: integer(&context["runAsUser"]),
        run_as_group: integer(&context["runAsGroup"]),
        supplemental_groups: context["fsGroup"].as_i64().into_iter().collect(),
        seccomp: seccomp(context),
    });
    config.dns_config = Some(v1::DnsConfig {
        servers: vec![name_server.to_owned()],
        searches: [&format!("{namespace}.svc.cluster.local"), "svc.cluster.local", "cluster.local"].map(str::to_owned).into(),
        options: vec!["ndots:5".to_owned()],
    });
    config.metadata.as_mut().unwrap().namespace = namespace.to_owned();
    config
}

/// A container, with the environment that the downward API gives on a node.
#[must_use]
pub fn container(pod: &Value, container: &Value, volumes: &Volumes, node: &str) -> v1::ContainerConfig {
    let name = container["name"].as_str().unwrap();
    let envs = list(&container["env"]).map(|variable| {
        assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName", "{variable}");
        v1::KeyValue { key: variable["name"].as_str().unwrap().to_owned(), value: node.to_owned() }
    });
    let mounts = list(&container["volumeMounts"]).map(|mount| v1::Mount {
        container_path: mount["mountPath"].as_str().unwrap().to_owned(),
        host_path: volumes.place(mount["name"].as_str().unwrap()).to_string_lossy().into_owned(),
        readonly: mount["readOnly"] == true,
    });
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: container["image"].as_str().unwrap().to_owned() }),
        command: texts(&container["command"]),
        args: texts(&container["args"]),
        envs: envs.collect(),
        mounts: mounts.collect(),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(&container["resources"])),
            security_context: Some(security(&pod["securityContext"], &container["securityContext"])),
        }),
        ..Default::default()
    }
}

fn security(pod: &Value, container: &Value) -> v1::LinuxContainerSecurityContext {
    assert!(container["privileged"].is_null() && container["capabilities"]["add"].is_null(), "{container}");
    assert_eq!(pod["runAsNonRoot"], true, "a kubelet would check it");
    v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability { add_capabilities: Vec::new(), drop_capabilities: texts(&container["capabilities"]["drop"]) }),
        namespace_options: Some(cri::namespaces()),
        run_as_user: integer(&pod["runAsUser"]),
        run_as_group: integer(&pod["runAsGroup"]),
        readonly_rootfs: container["readOnlyRootFilesystem"] == true,
        supplemental_groups: pod["fsGroup"].as_i64().into_iter().collect(),
        no_new_privs: container["allowPrivilegeEscalation"] == false,
        masked_paths: MASKED.map(str::to_owned).into(),
        readonly_paths: READ_ONLY.map(str::to_owned).into(),
        seccomp: seccomp(pod),
    }
}

fn resources(resources: &Value) -> v1::LinuxContainerResources {
    assert!(resources["limits"]["cpu"].is_null(), "a CPU limit is not what this kubelet does");
    let millicores = resources["requests"]["cpu"].as_str().unwrap().strip_suffix('m').unwrap().parse::<i64>().unwrap();
    let mebibytes = resources["limits"]["memory"].as_str().unwrap().strip_suffix("Mi").unwrap().parse::<i64>().unwrap();
    v1::LinuxContainerResources {
        cpu_shares: millicores * 1024 / 1000,
        memory_limit_in_bytes: mebibytes << 20,
        oom_score_adj: OOM_SCORE_ADJ,
        ..Default::default()
    }
}

fn seccomp(context: &Value) -> Option<v1::SecurityProfile> {
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    let profile_type = v1::security_profile::ProfileType::RuntimeDefault.into();
    Some(v1::SecurityProfile { profile_type, localhost_ref: String::new() })
}

fn integer(value: &Value) -> Option<v1::Int64Value> {
    value.as_i64().map(|value| v1::Int64Value { value })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).map(|text| text.as_str().unwrap().to_owned()).collect()
}
