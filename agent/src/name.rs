//! What a cgroup's path says: which container it is, of which runtime, in which pod.

/// A container as its path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// 64 hexadecimal digits, or the last path element of a watched cgroup.
    pub container_id: String,
    /// "containerd", "cri-o", "docker", "podman", "cgroup" for a watched one, or empty where the name does not tell.
    pub runtime: &'static str,
    /// 36 characters, or a static pod's 32 digits; empty outside a pod.
    pub pod_uid: String,
    /// Path of the pod's cgroup; empty outside a pod.
    pub pod_path: String,
}

/// What one path element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// A container with this id.
    Container {
        /// 64 hexadecimal digits.
        id: &'a str,
        /// The runtime, as far as the name tells.
        runtime: &'static str,
    },
    /// A runtime's helper (conmon): never a container, nothing of interest below it.
    Helper,
    /// Anything else.
    Other,
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads one path element.
///
/// Forms: `<id>` (cgroupfs driver), `<prefix>-<id>` (CRI-O and Podman with cgroupfs), `<prefix>-<id>.scope` (systemd driver),
/// `<slice>:<prefix>:<id>` (containerd whose driver differs from the kubelet's).
#[must_use]
pub fn element(name: &str) -> Element<'_> {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    let start = stem.len().saturating_sub(64);
    let Some(id) = stem.get(start..).filter(|id| is_hex(id, 64)) else { return Element::Other };
    let prefix = stem[..start].trim_end_matches(['-', ':']);
    if prefix.len() == start && start > 0 {
        return Element::Other;
    }
    let prefix = prefix.rsplit(':').next().unwrap_or(prefix);
    if prefix.ends_with("conmon") {
        return Element::Helper;
    }
    let runtime = match prefix {
        "cri-containerd" | "containerd" | "nerdctl" => "containerd",
        "crio" => "cri-o",
        "docker" => "docker",
        "libpod" => "podman",
        _ => "",
    };
    Element::Container { id, runtime }
}

/// The pod uid that a path element names: `pod<uid>` or `…-pod<uid with underscores>.slice`.
#[must_use]
pub fn pod_uid(name: &str) -> Option<String> {
    // The mismatched form carries the slice before the first colon.
    let name = name.split(':').next().unwrap_or(name);
    let stem = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match stem.strip_prefix("pod") {
        Some(uid) => uid,
        None if name.len() != stem.len() => &stem[stem.rfind("-pod")? + 4..],
        None => return None,
    };
    if is_hex(uid, 32) {
        return Some(uid.to_owned());
    }
    let dashed = uid.replace('_', "-");
    let groups = dashed.split('-').map(str::len);
    (groups.eq([8, 4, 4, 4, 12]) && dashed.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())).then_some(dashed)
}

/// Reads a path below the cgroup root; `None` when its last element is no container.
#[must_use]
pub fn identify(path: &str) -> Option<Identity> {
    let last = path.rsplit('/').next()?;
    let Element::Container { id, runtime } = element(last) else { return None };
    let parent_is = |name: &str| path.rsplit('/').nth(1) == Some(name);
    let runtime = match runtime {
        "" if parent_is("docker") => "docker",
        "" if parent_is("libpod_parent") => "podman",
        runtime => runtime,
    };
    // The nearest pod above; with the mismatched form the element itself names it.
    let mut end = path.len();
    loop {
        let name = path[..end].rsplit('/').next().unwrap_or_default();
        if let Some(pod_uid) = pod_uid(name) {
            let pod_path = path[..end].to_owned();
            return Some(Identity { container_id: id.to_owned(), runtime, pod_uid, pod_path });
        }
        // A container above this one: what is above that is the other's pod.
        if end != path.len() && matches!(element(name), Element::Container { .. }) {
            break;
        }
        match path[..end].rfind('/') {
            Some(slash) => end = slash,
            None => break,
        }
    }
    Some(Identity { container_id: id.to_owned(), runtime, pod_uid: String::new(), pod_path: String::new() })
}

/// Whether a directory inside a container may hold further containers: a node in a container (KinD) or a runtime in one.
///
/// Everything else below a container is the container's own affair and is not walked, however large it is.
#[must_use]
pub fn may_nest(name: &str) -> bool {
    matches!(name, "kubelet" | "kubelet.slice" | "docker" | "libpod_parent" | "machine.slice" | "system.slice" | "besteffort" | "burstable")
        || name.starts_with("kubepods")
        || name.contains("-kubepods")
        || pod_uid(name).is_some()
        || !matches!(element(name), Element::Other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "2b05b6331c510991a9dc2c08463c7dc16bb747800719d4c84fdc3bb23c7e8821";
    const UID: &str = "a1fbc318-347b-4575-a8b3-010c05abc66b";

    fn check(path: &str, runtime: &str, pod_uid: &str) {
        let path = path.replace("UID_", &UID.replace('-', "_")).replace("UID", UID).replace("ID", ID);

        let identity = identify(&path).unwrap();

        assert_eq!((identity.container_id.as_str(), identity.runtime, identity.pod_uid.as_str()), (ID, runtime, pod_uid), "{path}");
        assert!(identity.pod_path.is_empty() == pod_uid.is_empty() && path.starts_with(&identity.pod_path));
    }

    #[test]
    fn every_runtime_and_driver_is_known() {
        check("kubepods/besteffort/podUID/ID", "", UID);
        check("kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/cri-containerd-ID.scope", "containerd", UID);
        check("kubepods.slice/kubepods-podUID_.slice/crio-ID.scope", "cri-o", UID);
        check("kubepods/burstable/podUID/crio-ID", "cri-o", UID);
        check("kubepods.slice/kubepods-podUID_.slice/docker-ID.scope", "docker", UID);
        check("system.slice/docker-ID.scope", "docker", "");
        check("docker/ID", "docker", "");
        check("machine.slice/libpod-ID.scope", "podman", "");
        check("libpod_parent/libpod-ID", "podman", "");
        check("system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID", "containerd", UID);
        check("kubepods/burstable/pod0123456789abcdef0123456789abcdef/ID", "", "0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn a_node_in_a_container_is_walked_into() {
        check("docker/ID/kubelet/kubepods/burstable/podUID/ID", "", UID);
        check(
            "system.slice/docker-ID.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope",
            "containerd",
            UID,
        );
        check("kubepods/burstable/podUID/ID/docker/ID", "docker", "");
    }

    #[test]
    fn helpers_and_other_cgroups_are_no_containers() {
        assert_eq!(element(&format!("crio-conmon-{ID}.scope")), Element::Helper);
        assert_eq!(element(&format!("libpod-conmon-{ID}.scope")), Element::Helper);
        assert_eq!(element("ssh.service"), Element::Other);
        assert_eq!(element(&ID.to_uppercase()), Element::Other);
        assert_eq!(element(&format!("x{ID}")), Element::Other);
        assert_eq!(pod_uid("podcast"), None);
        assert_eq!(pod_uid("kubepods-burstable.slice"), None);
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "\\PC{0,200}", prefix in "\\PC{0,20}", suffix in "\\PC{0,8}") {
            let _ = identify(&path);
            let _ = identify(&format!("{prefix}{ID}{suffix}"));
            let _ = pod_uid(&format!("{prefix}-pod{suffix}.slice"));
            let _ = may_nest(&path);
        }
    }
}
