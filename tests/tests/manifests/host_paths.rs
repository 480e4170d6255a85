//! Every path of the host that a pod sees is read by the code, read-only, below the agent's `sensor.root`.

use super::objects;

/// Path of the host, and where the agent reads it: source file, and the text that does.
const READS: [(&str, &str, &str); 2] = [
    ("/proc", "agent/src/sensor/mod.rs", r#"config.root.join("proc")"#),
    ("/sys/fs/cgroup", "agent/src/hierarchy.rs", r#"root.join("sys/fs/cgroup")"#),
];

#[test]
fn every_host_path_is_one_that_the_agent_reads() {
    let objects = objects::install();
    let config: toml::Table = objects::text("manifests/base/agent.toml").parse().unwrap();
    let root = config["sensor"]["root"].as_str().unwrap();

    let mut seen = Vec::new();
    for object in &objects {
        let Some(pod) = objects::pod(object) else { continue };
        for volume in objects::list(&pod["volumes"]).filter(|volume| !volume["hostPath"].is_null()) {
            let path = volume["hostPath"]["path"].as_str().unwrap();
            let mounts: Vec<_> = objects::containers(pod)
                .flat_map(|container| objects::list(&container["volumeMounts"]))
                .filter(|mount| mount["name"] == volume["name"])
                .collect();
            assert_eq!(mounts.len(), 1, "{path}");
            assert_eq!(mounts[0]["mountPath"], format!("{root}{path}"));
            assert_eq!(mounts[0]["readOnly"], true, "{path}");
            seen.push((objects::title(object), path.to_owned()));
        }
    }

    let agent = "DaemonSet vedette-agent/vedette-agent";
    assert_eq!(seen, READS.map(|(path, ..)| (agent.to_owned(), path.to_owned())));
    for (path, file, text) in READS {
        assert!(objects::text(file).contains(text), "{path} is mounted, and {file} has no {text}");
    }
}
