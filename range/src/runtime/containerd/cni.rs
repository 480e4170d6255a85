//! A network plugin (CNI) that gives a sandbox the network namespace which the range has made for its pod already: addresses,
//! bridge and guard are the same whatever runs the pods.
//!
//! containerd makes a namespace of its own and tells the plugin its path; the plugin puts the range's in its place. For each pod
//! the range leaves two files in one folder: the namespace under the pod's name, and with `.json` the result to report.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde::Deserialize;
use serde_json::json;

use crate::{network::PodNetwork, runtime::PodPlace};

/// Version of the specification that is spoken.
const VERSION: &str = "0.4.0";
/// Name of the plugin, and of the other one that containerd insists on: the pod's loopback is up already.
const PLUGINS: [&str; 2] = ["vedette-range", "loopback"];

/// What the plugin is told on standard input.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    cni_version: String,
    /// Folder of the namespaces. `None`: this is the loopback.
    pods: Option<PathBuf>,
}

/// Writes configuration and plugins that call `executable`.
///
/// # Errors
/// When a file cannot be written.
pub fn install(bin: &Path, conf: &Path, pods: &Path, executable: &Path) -> io::Result<()> {
    for dir in [bin, conf, pods] {
        fs::create_dir_all(dir)?;
    }
    let list = json!({"cniVersion": VERSION, "name": "range", "plugins": [{"type": PLUGINS[0], "pods": pods}]});
    fs::write(conf.join("range.conflist"), list.to_string())?;
    // Plugins are called without arguments.
    let quoted = executable.to_string_lossy().replace('\'', r"'\''");
    for name in PLUGINS {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\nexec '{quoted}' cni\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Lays a pod's namespace out for the plugin.
///
/// # Errors
/// When a file cannot be written or the namespace cannot be mounted.
pub fn offer(pods: &Path, pod: &PodPlace, prefix: u8) -> io::Result<()> {
    let PodNetwork { address, .. } = pod.network;
    let result = json!({
        "cniVersion": VERSION,
        "interfaces": [{"name": "eth0", "sandbox": "pod"}],
        "ips": [{"version": "4", "interface": 0, "address": format!("{address}/{prefix}")}],
    });
    let place = pods.join(&pod.name);
    fs::write(place.with_extension("json"), result.to_string())?;
    fs::write(&place, "")?;
    Ok(mount_bind(pod.network.path(), &place)?)
}

/// Takes back what lies at a place.
///
/// # Errors
/// When it cannot be unmounted or removed.
pub fn withdraw(place: &Path) -> io::Result<()> {
    unmount(place, UnmountFlags::DETACH)?;
    fs::remove_file(place)?;
    fs::remove_file(place.with_extension("json"))
}

/// Answers one call; the answer goes to standard output, also where it says why not.
///
/// # Errors
/// The answer that says why not.
pub fn plugin(input: impl io::Read, variables: &HashMap<String, String>) -> Result<String, String> {
    let refuse = |error: String| json!({"cniVersion": VERSION, "code": 100, "msg": error}).to_string();
    let config: Config = serde_json::from_reader(input).map_err(|error| refuse(format!("network configuration: {error}")))?;
    let variable = |name: &str| variables.get(name).ok_or_else(|| refuse(format!("{name} is not set")));
    match (variable("CNI_COMMAND")?.as_str(), config.pods) {
        ("VERSION", _) => Ok(json!({"cniVersion": VERSION, "supportedVersions": ["0.3.0", "0.3.1", VERSION]}).to_string()),
        ("ADD", None) => Ok(json!({"cniVersion": config.cni_version}).to_string()),
        ("ADD", Some(pods)) => {
            let arguments = variable("CNI_ARGS")?.split(';').find_map(|pair| pair.strip_prefix("K8S_POD_NAME="));
            let pod = arguments.filter(|pod| !pod.contains('/')).ok_or_else(|| refuse("CNI_ARGS names no pod".to_owned()))?;
            let place = variable("CNI_NETNS")?;
            give(&pods, pod, Path::new(place)).map_err(|error| refuse(format!("pod {pod}: {error}")))
        }
        // The range removes what it made.
        _ => Ok(String::new()),
    }
}

fn give(pods: &Path, pod: &str, place: &Path) -> io::Result<String> {
    let result = fs::read_to_string(pods.join(format!("{pod}.json")))?;
    unmount(place, UnmountFlags::DETACH)?;
    mount_bind(pods.join(pod), place)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(config: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        plugin(config.as_bytes(), &variables)
    }

    #[test]
    fn the_loopback_is_up_already() {
        let answer = call(r#"{"cniVersion":"0.3.1","name":"lo","type":"loopback"}"#, &[("CNI_COMMAND", "ADD")]);

        assert_eq!(answer, Ok(r#"{"cniVersion":"0.3.1"}"#.to_owned()));
    }

    #[test]
    fn a_pod_that_the_range_did_not_make_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"cniVersion": VERSION, "name": "range", "type": PLUGINS[0], "pods": dir.path()}).to_string();
        let refused = |args: &str| {
            let variables = [("CNI_COMMAND", "ADD"), ("CNI_NETNS", "/nowhere"), ("CNI_ARGS", args)];
            let answer: serde_json::Value = serde_json::from_str(&call(&config, &variables).unwrap_err()).unwrap();
            answer["msg"].as_str().unwrap().to_owned()
        };

        assert_eq!(refused("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=../x"), "CNI_ARGS names no pod");
        assert!(refused("IgnoreUnknown=1;K8S_POD_NAME=other").starts_with("pod other: "));
    }

    #[test]
    fn a_removal_leaves_everything_to_the_range() {
        assert_eq!(call(r#"{"cniVersion":"0.4.0","pods":"/x"}"#, &[("CNI_COMMAND", "DEL")]), Ok(String::new()));
    }
}
