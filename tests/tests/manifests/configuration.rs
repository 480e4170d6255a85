//! The configuration in a pod: the shipped files but for the keys named here, and what it names is where the manifests put it.

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;
use toml::Table;
use vedette_tests::checkout;

use super::{objects, rendering};

/// What an agent in a pod has otherwise than `agent/agent.toml`.
const AGENT_KEYS: [&str; 3] = ["grace_ms", "sensor.root", "uplink.endpoint"];
/// What an aggregator in a pod has otherwise than `aggregator/aggregator.toml`.
const AGGREGATOR_KEYS: [&str; 4] = ["auth.token_review", "kubernetes.enabled", "tls.ca_config_map", "tls.names"];
/// Beyond `grace_ms`: the last tick, and a connection attempt that is under way.
const AGENT_AFTER_GRACE_S: u64 = 5;

fn table(path: &str) -> Table {
    objects::text(path).parse().unwrap()
}

/// The values of a file by dotted key.
fn flat(table: &Table) -> BTreeMap<String, toml::Value> {
    let mut found = BTreeMap::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => found.extend(flat(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value))),
            value => _ = found.insert(key.clone(), value.clone()),
        }
    }
    found
}

/// The configuration that results: the shipped file, with the pod's keys instead of its own.
fn in_a_pod(shipped: &str, pod: &str, keys: &[&str]) -> BTreeMap<String, toml::Value> {
    let (mut values, differing) = (flat(&table(shipped)), flat(&table(pod)));
    assert_eq!(differing.keys().map(String::as_str).collect::<Vec<_>>(), keys, "{pod} differs from {shipped} in other keys than it should");
    for (key, value) in differing {
        let before = values.insert(key.clone(), value.clone()).unwrap_or_else(|| panic!("{key} of {pod} is not in {shipped}"));
        assert_eq!(before.type_str(), value.type_str(), "{key} of {pod}");
        assert_ne!(before, value, "{key} of {pod} is the default");
    }
    values
}

fn agent() -> BTreeMap<String, toml::Value> {
    in_a_pod("agent/agent.toml", "manifests/base/agent.toml", &AGENT_KEYS)
}

fn aggregator() -> BTreeMap<String, toml::Value> {
    in_a_pod("aggregator/aggregator.toml", "manifests/base/aggregator.toml", &AGGREGATOR_KEYS)
}

/// Where a container sees a volume, and the volume.
fn mounted<'a>(pod: &'a Value, volume: &str) -> (&'a str, &'a Value) {
    let mounts: Vec<_> = objects::list(&pod["containers"][0]["volumeMounts"]).filter(|mount| mount["name"] == volume).collect();
    assert_eq!(mounts.len(), 1, "mounts of {volume}");
    let found = objects::list(&pod["volumes"]).find(|found| found["name"] == volume).unwrap_or(&Value::Null);
    (mounts[0]["mountPath"].as_str().unwrap(), found)
}

/// Bytes of a quantity in Mi or Gi.
fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    let (number, unit) = text.split_at(text.len() - 2);
    number.parse::<u64>().unwrap()
        << if unit == "Mi" {
            20
        } else {
            assert_eq!(unit, "Gi");
            30
        }
}

fn port(listen: &toml::Value) -> u64 {
    listen.as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn what_an_agent_is_configured_to_use_is_where_its_pod_has_it() {
    let (objects, config) = (objects::install(), agent());
    let pod = objects::pod(objects::one(&objects, "DaemonSet", "vedette-agent")).unwrap();
    let container = &pod["containers"][0];
    let (ca, ca_volume) = mounted(pod, "ca");
    let (token, token_volume) = mounted(pod, "token");
    let (spool, spool_volume) = mounted(pod, "spool");
    let (folder, config_volume) = mounted(pod, "config");
    let projected = &token_volume["projected"]["sources"][0]["serviceAccountToken"];
    let generated = config_volume["configMap"]["name"].as_str().unwrap();

    assert_eq!(config["uplink.ca_file"].as_str().unwrap(), format!("{ca}/ca.crt"));
    assert_eq!(ca_volume["configMap"]["name"], "vedette-ca");
    assert_eq!(config["uplink.token_file"].as_str().unwrap(), format!("{token}/{}", projected["path"].as_str().unwrap()));
    assert_eq!(projected["audience"], "vedette-aggregator");
    assert_eq!(config["outbox.dir"].as_str().unwrap(), spool);
    let spool_limit = config["outbox.max_bytes"].as_integer().unwrap().cast_unsigned();
    assert!(bytes(&spool_volume["emptyDir"]["sizeLimit"]) >= 2 * spool_limit, "the kubelet would evict");
    assert_eq!(container["args"], serde_json::json!([format!("--config={folder}/agent.toml")]));
    let text = objects::one(&objects, "ConfigMap", generated)["data"]["agent.toml"].as_str().unwrap();
    assert_eq!(text, objects::text("manifests/base/agent.toml"));
    let grace_s = config["grace_ms"].as_integer().unwrap().cast_unsigned() / 1000;
    assert!(grace_s + AGENT_AFTER_GRACE_S < pod["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert_eq!(container["ports"][0]["containerPort"].as_u64().unwrap(), port(&config["http.listen"]));
    // An empty name is taken from the environment; the downward API knows it.
    assert_eq!(config["node"].as_str(), Some(""));
    assert_eq!(container["env"][0]["name"], vedette_node_variable());
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
}

/// The variable's name as the agent has it.
fn vedette_node_variable() -> String {
    let source = objects::text("agent/src/config.rs");
    let line = source.lines().find(|line| line.starts_with("pub const NODE_VARIABLE")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn agents_find_the_aggregator_under_a_name_of_its_certificate() {
    let (objects, agent, aggregator) = (objects::install(), agent(), aggregator());
    let endpoint = agent["uplink.endpoint"].as_str().unwrap();

    let (name, port_number) = endpoint.strip_prefix("https://").unwrap().split_once(':').unwrap();

    let service = objects::one(&objects, "Service", name.split('.').next().unwrap());
    assert_eq!(
        name,
        format!("{}.{}.svc", service["metadata"]["name"].as_str().unwrap(), service["metadata"]["namespace"].as_str().unwrap())
    );
    let grpc = objects::list(&service["spec"]["ports"]).find(|port| port["name"] == "grpc").unwrap();
    assert_eq!(grpc["port"].to_string(), port_number);
    assert_eq!(grpc["port"].as_u64().unwrap(), port(&aggregator["grpc.listen"]));
    let names: Vec<_> = aggregator["tls.names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&name) && names.contains(&"localhost"), "{names:?}");
}

#[test]
fn what_an_aggregator_is_configured_to_use_is_where_its_pod_has_it() {
    let (objects, config) = (objects::install(), aggregator());
    let set = objects::one(&objects, "StatefulSet", "vedette-aggregator");
    let pod = objects::pod(set).unwrap();
    let container = &pod["containers"][0];
    let (data, _) = mounted(pod, "data");
    let (folder, config_volume) = mounted(pod, "config");

    assert_eq!(config["data_dir"].as_str().unwrap(), data);
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    assert_eq!(claim["metadata"]["name"], "data");
    let kept = config["history.retention_bytes"].as_integer().unwrap().cast_unsigned();
    assert!(bytes(&claim["spec"]["resources"]["requests"]["storage"]) > kept * 3 / 2, "the disk is full before retention begins");
    assert_eq!(container["args"], serde_json::json!([format!("--config={folder}/aggregator.toml")]));
    let generated = config_volume["configMap"]["name"].as_str().unwrap();
    let text = objects::one(&objects, "ConfigMap", generated)["data"]["aggregator.toml"].as_str().unwrap();
    assert_eq!(text, objects::text("manifests/base/aggregator.toml"));
    let ports: Vec<_> = objects::list(&container["ports"]).map(|port| port["containerPort"].as_u64().unwrap()).collect();
    assert_eq!(ports, [port(&config["grpc.listen"]), port(&config["http.listen"])]);
}

/// A file of an overlay without its first line is the base's without that, and then these lines.
fn adds(overlay: &str, base: &str) -> Table {
    let (overlay, base) = (objects::text(overlay), objects::text(base));
    let rest = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    let added = rest(&overlay).strip_prefix(&rest(&base)).unwrap_or_else(|| panic!("it is not the base's any more:\n{overlay}")).to_owned();
    added.parse().unwrap()
}

#[test]
fn with_prometheus_agents_ask_it_where_their_policy_lets_them() {
    let Some(python) = rendering::python() else { return };
    let rendered = objects::parse(&rendering::render(&python, "overlays/monitoring"));

    let added = flat(&adds("manifests/overlays/monitoring/agent.toml", "manifests/base/agent.toml"));

    assert_eq!(added.keys().collect::<Vec<_>>(), ["prometheus.url"]);
    let url = added["prometheus.url"].as_str().unwrap();
    let policy = objects::one(&rendered, "NetworkPolicy", "vedette-agent-metrics");
    let egress = &policy["spec"]["egress"][0];
    let namespace = egress["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].as_str().unwrap();
    assert_eq!(url, format!("http://kube-prometheus-stack-prometheus.{namespace}.svc:{}", egress["ports"][0]["port"]));
    let pod = objects::pod(objects::one(&rendered, "DaemonSet", "vedette-agent")).unwrap();
    let generated = mounted(pod, "config").1["configMap"]["name"].as_str().unwrap();
    let text = objects::one(&rendered, "ConfigMap", generated)["data"]["agent.toml"].as_str().unwrap();
    assert!(text.contains(url), "the pods mount another file");
}

#[test]
fn the_example_keeps_what_the_base_needs() {
    let Some(python) = rendering::python() else { return };
    let rendered = objects::parse(&rendering::render(&python, "overlays/example"));
    let set = objects::one(&rendered, "StatefulSet", "vedette-aggregator");

    let added = flat(&adds("manifests/overlays/example/aggregator.toml", "manifests/base/aggregator.toml"));

    let kept = added["history.retention_bytes"].as_integer().unwrap().cast_unsigned();
    let claim = &set["spec"]["volumeClaimTemplates"][0]["spec"];
    assert!(bytes(&claim["resources"]["requests"]["storage"]) > kept * 3 / 2, "the disk is full before retention begins");
    for object in [set, objects::one(&rendered, "DaemonSet", "vedette-agent")] {
        let image = objects::pod(object).unwrap()["containers"][0]["image"].as_str().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        assert_eq!(image, format!("registry.example/security/{name}:{}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_programs_take_these_files() {
    let run = |binary: &str, file: &str| {
        let mut command = Command::new(checkout::binary(binary));
        command.arg("--check").arg("--config").arg(checkout::root().join("manifests").join(file)).env("NO_COLOR", "1");
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };

    for file in ["base/aggregator.toml", "overlays/example/aggregator.toml"] {
        let (well, said) = run("vedette-aggregator", file);
        assert!(well, "{file}: {said}");
    }
    for file in ["base/agent.toml", "overlays/monitoring/agent.toml"] {
        let (_, complaint) = run("vedette-agent", file);
        // It gets as far as looking for the node, which is below /host only in a pod.
        assert!(complaint.contains("/host") && !complaint.contains("configuration"), "{file}: {complaint}");
    }
}
