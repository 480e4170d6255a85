//! The configuration of a run's own containerd: nothing of the system's is read or written.

use std::path::Path;

use toml::Value;

use super::image;

/// The places of one run's containerd, all below the run's directory.
pub struct Places<'a> {
    /// Content, snapshots, metadata.
    pub root: &'a Path,
    /// Socket of the CRI.
    pub socket: &'a Path,
    /// Network plugins.
    pub cni_bin: &'a Path,
    /// Network configuration.
    pub cni_conf: &'a Path,
}

/// The file, in containerd's format, version 2.
///
/// - `state` is below `/run`, which is the containerd's own ([`crate::contain`]): shims put their sockets there whatever is configured.
/// - Plugins are off that are not used, or that would write elsewhere.
/// - `restrict_oom_score_adj`: without `CAP_SYS_RESOURCE` nothing may be made less likely to be killed than its parent.
/// - The streaming server listens in a network namespace that has no link up; a name or loopback would not resolve there.
/// - `native` works on every file system, and the image holds next to nothing to copy.
#[must_use]
pub fn text(places: &Places<'_>) -> String {
    let quoted = |text: &str| Value::String(text.to_owned()).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    format!(
        r#"version = 2
root = {root}
state = "/run/containerd"
disabled_plugins = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {image}
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
stream_server_address = "0.0.0.0"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {cni_bin}
conf_dir = {cni_conf}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#,
        root = path(places.root),
        socket = path(places.socket),
        image = quoted(image::NAME),
        cni_bin = path(places.cni_bin),
        cni_conf = path(places.cni_conf),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_stay_strings() {
        let odd = Path::new("/var/a \"b\"\\c");
        let places = Places { root: odd, socket: odd, cni_bin: odd, cni_conf: odd };

        let config: toml::Table = text(&places).parse().unwrap();

        let cri = &config["plugins"]["io.containerd.grpc.v1.cri"];
        assert_eq!(config["grpc"]["address"].as_str(), odd.to_str());
        assert_eq!(cri["cni"]["conf_dir"].as_str(), odd.to_str());
        assert_eq!(cri["sandbox_image"].as_str(), Some(image::NAME));
        assert_eq!(cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"].as_bool(), Some(false));
    }
}
