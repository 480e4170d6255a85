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

/// The root of a kubelet's pods: `kubepods`, also below a configured cgroup root.
fn is_kubepods(name: &str) -> bool {
    matches!(name, "kubepods" | "kubepods.slice") || name.ends_with("-kubepods.slice")
}

/// Between the root and a pod that is not guaranteed its resources.
fn is_quality_of_service(name: &str) -> bool {
    matches!(name, "burstable" | "besteffort") || name.ends_with("kubepods-burstable.slice") || name.ends_with("kubepods-besteffort.slice")
}

/// Whether an element is a pod where a kubelet makes pods: directly below the root or a class. Anybody may call a cgroup so elsewhere.
fn is_pods_place(above: &[&str]) -> bool {
    match above {
        [.., root, class] if is_quality_of_service(class) => is_kubepods(root),
        [.., root] => is_kubepods(root),
        [] => false,
    }
}

/// Reads a path below the cgroup root; `None` when it is no container: its last element names none, or lies within a container.
///
/// What is above the first container of a path was made by the kubelet, the runtime or the system. What is below it can have been made by
/// whoever is in that container, under any name: it is never a container or a pod of its own.
#[must_use]
pub fn identify(path: &str) -> Option<Identity> {
    let elements: Vec<&str> = path.split('/').collect();
    let (last, above) = elements.split_last()?;
    let Element::Container { id, runtime } = element(last) else { return None };
    if above.iter().any(|name| !matches!(element(name), Element::Other)) {
        return None;
    }
    let runtime = match (runtime, above.last()) {
        ("", Some(&"docker")) => "docker",
        ("", Some(&"libpod_parent")) => "podman",
        (runtime, _) => runtime,
    };
    // Users make cgroups below their slice as they like; no kubelet does.
    let by_users = above.first() == Some(&"user.slice");
    let pod = match above.split_last() {
        Some((pod, above)) if !by_users && is_pods_place(above) => pod_uid(pod).map(|uid| (uid, path.len() - last.len() - 1)),
        _ => None,
    };
    // With the mismatched form the element itself names the pod.
    let pod = pod.or_else(|| Some((pod_uid(last).filter(|_| !by_users && last.contains(':'))?, path.len())));
    let (pod_uid, pod_path) = pod.map_or_else(Default::default, |(uid, end)| (uid, path[..end].to_owned()));
    Some(Identity { container_id: id.to_owned(), runtime, pod_uid, pod_path })
}

/// Whether a path lies within a container.
#[must_use]
pub fn is_nested(path: &str) -> bool {
    path.rsplit('/').skip(1).any(|name| matches!(element(name), Element::Container { .. }))
}

/// Whether a path lies directly within a pod, where only containers are.
#[must_use]
pub fn is_in_pod(path: &str) -> bool {
    let elements: Vec<&str> = path.split('/').collect();
    matches!(&elements[..], [above @ .., pod, _] if pod_uid(pod).is_some() && is_pods_place(above))
}

/// Whether a cgroup within a container calls itself what only a kubelet or a runtime makes outside of one: another runtime in the
/// container, or a pretence. Neither is looked into.
#[must_use]
pub fn claims(name: &str) -> bool {
    matches!(name, "kubelet" | "kubelet.slice" | "docker" | "libpod_parent")
        || name.contains("kubepods")
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
    fn what_is_within_a_container_is_no_container_and_no_pod() {
        let other = "b1fbc318-347b-4575-a8b3-010c05abc66b";
        let container = format!("kubepods/burstable/pod{UID}/{ID}");
        for below in ["docker/ID", "ID", "kubepods/besteffort/podOTHER/ID", "podOTHER/ID", "kubepods-podOTHER.slice:cri-containerd:ID"] {
            let path = format!("{container}/{}", below.replace("OTHER", other).replace("ID", &ID.replace('2', "3")));
            assert_eq!((identify(&path), is_nested(&path)), (None, true), "{path}");
        }
        assert!(!is_nested(&container));
        assert!(claims("docker") && claims("kubepods") && claims(ID) && claims(&format!("pod{UID}")) && !claims("init.scope"));
    }

    #[test]
    fn a_pod_is_one_only_where_a_kubelet_makes_pods() {
        check("lab/kubepods/podUID/ID", "", UID);
        check("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope", "containerd", UID);
        check("podUID/ID", "", "");
        check("lab/podUID/ID", "", "");
        check("kubepods/mine/podUID/ID", "", "");
        check("kubepods/burstable/mine/podUID/ID", "", "");
        check("user.slice/user-1000.slice/user@1000.service/kubepods/podUID/ID", "", "");
        check("user.slice/user-1000.slice/user@1000.service/kubepods-podUID_.slice:cri-containerd:ID", "containerd", "");
        assert!(is_in_pod(&format!("kubepods/pod{UID}/x")) && !is_in_pod(&format!("kubepods/pod{UID}")) && !is_in_pod("kubepods/x"));
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
            let _ = (is_nested(&path), is_in_pod(&path), claims(&path));
        }
    }
}
