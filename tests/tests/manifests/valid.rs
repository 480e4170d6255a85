//! Every rendering is valid for the API, old and current, without a cluster.

use std::process::Command;

use serde_json::Value;
use vedette_tests::{checkout, prerequisite};

use super::{objects, rendering};

/// The oldest version that is promised, and where the validator that brings its schemas lies below the Python of `make prepare`.
const OLD: (&str, &str) = ("1.21", "old-schemas");
/// The newest whose schemas the current validator brings.
const CURRENT: (&str, &str) = ("1.37", "");
/// Kinds that a cluster has only with an operator: no schema of Kubernetes knows them.
const FOREIGN: [&str; 4] = ["PodMonitor", "PrometheusRule", "SecurityContextConstraints", "ServiceMonitor"];

/// Says what the schemas of a version have against a text; `None`: the test has been skipped and must return.
fn complaints(text: &str, (version, place): (&str, &str)) -> Option<String> {
    let home = checkout::cache().join("python").join(place);
    let validator = home.join("bin/kubernetes-validate");
    if !prerequisite::file(&validator, "make prepare") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("objects.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(validator);
    command.env("PYTHONPATH", home).args(["--strict", "--kubernetes-version", version]).arg(&file);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let checked = said.matches(" passed for resource ").count() == text.matches("apiVersion:").count();
    Some(if output.status.success() && checked { String::new() } else { format!("{version}: {said}") })
}

/// The objects that a cluster knows without an operator, and the others.
fn split(rendered: &str) -> (String, Vec<Value>) {
    let (foreign, own): (Vec<_>, Vec<_>) =
        objects::parse(rendered).into_iter().partition(|object| FOREIGN.contains(&object["kind"].as_str().unwrap()));
    assert!(!own.is_empty());
    (own.iter().map(|object| format!("---\n{}", serde_norway::to_string(object).unwrap())).collect(), foreign)
}

/// Fails unless an object has a value at each pointer.
fn requires(object: &Value, pointers: &[&str]) {
    for pointer in pointers {
        assert!(object.pointer(pointer).is_some_and(|value| !value.is_null()), "{} has no {pointer}", objects::title(object));
    }
}

/// What the operators' own definitions require, as far as it is used here.
fn check_foreign(object: &Value) {
    let kind = object["kind"].as_str().unwrap();
    match kind {
        "PodMonitor" | "ServiceMonitor" => {
            let endpoints = if kind == "PodMonitor" { "/spec/podMetricsEndpoints" } else { "/spec/endpoints" };
            assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
            requires(object, &["/metadata/namespace", "/spec/selector/matchLabels", &format!("{endpoints}/0/port")]);
            assert_eq!(object["metadata"]["labels"]["release"], "kube-prometheus-stack");
        }
        "PrometheusRule" => {
            assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
            requires(object, &["/metadata/namespace", "/spec/groups/0/name", "/spec/groups/0/rules/0/expr"]);
            assert_eq!(object["metadata"]["labels"]["release"], "kube-prometheus-stack");
        }
        _ => {
            assert_eq!(object["apiVersion"], "security.openshift.io/v1");
            let flags = ["HostDirVolumePlugin", "HostIPC", "HostNetwork", "HostPID", "HostPorts", "PrivilegedContainer"];
            for flag in flags {
                assert_eq!(object[format!("allow{flag}")], flag == "HostDirVolumePlugin", "{flag}");
            }
            assert_eq!((&object["readOnlyRootFilesystem"], &object["allowPrivilegeEscalation"]), (&Value::Bool(true), &Value::Bool(false)));
            requires(
                object,
                &["/runAsUser/uid", "/seLinuxContext/type", "/fsGroup/type", "/supplementalGroups/type", "/users/0", "/volumes/0"],
            );
            assert_eq!(object["requiredDropCapabilities"], serde_json::json!(["ALL"]));
            assert!(object["metadata"]["namespace"].is_null(), "it belongs to the cluster");
        }
    }
}

#[test]
fn every_rendering_is_valid_for_old_and_current_clusters() {
    let Some(python) = rendering::python() else { return };
    let (mut own, mut foreign) = (String::new(), Vec::new());
    for folder in rendering::FOLDERS {
        let (text, others) = split(&rendering::render(&python, folder));
        own.push_str(&text);
        foreign.extend(others);
    }
    // All at once: the validator takes seconds to read its schemas.
    for version in [OLD, CURRENT] {
        let Some(complaints) = complaints(&own, version) else { return };
        assert_eq!(complaints, "");
    }
    for object in &foreign {
        check_foreign(object);
    }
    let kinds: Vec<_> = foreign.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    // The laboratory's overlay has the monitors and the rules once more.
    let monitoring = ["PodMonitor", "ServiceMonitor", "PrometheusRule"];
    assert_eq!(kinds, [&["SecurityContextConstraints"][..], &monitoring, &monitoring].concat());
}

#[test]
fn what_is_wrong_is_noticed() {
    let valid = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n  a: b\n";
    let Some(said) = complaints(valid, OLD) else { return };
    assert_eq!(said, "");

    let misspelt = complaints(&valid.replace("data:", "date:"), OLD).unwrap();
    let mistyped = complaints(&valid.replace("a: b", "a: 1"), CURRENT).unwrap();

    assert!(misspelt.contains("date"), "{misspelt}");
    assert!(mistyped.contains("1"), "{mistyped}");
}

#[test]
fn a_selector_finds_what_is_monitored() {
    let Some(python) = rendering::python() else { return };
    let rendered = objects::parse(&rendering::render(&python, "overlays/monitoring"));
    let selector = |kind, name| objects::one(&rendered, kind, name)["spec"]["selector"]["matchLabels"].clone();

    let template = &objects::one(&rendered, "DaemonSet", "vedette-agent")["spec"]["template"];
    let service = objects::one(&rendered, "Service", "vedette-aggregator");

    let covers = |labels: &Value, selector: Value| selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value);
    assert!(covers(&template["metadata"]["labels"], selector("PodMonitor", "vedette-agent")));
    assert!(covers(&service["metadata"]["labels"], selector("ServiceMonitor", "vedette-aggregator")));
    let ports: Vec<_> = objects::list(&service["spec"]["ports"]).map(|port| port["name"].as_str().unwrap()).collect();
    assert_eq!(ports, ["grpc", "http"]);
    // The headless one must not be scraped too.
    let headless = objects::one(&rendered, "Service", "vedette-aggregator-headless");
    assert!(!covers(&headless["metadata"]["labels"], selector("ServiceMonitor", "vedette-aggregator")));
}
