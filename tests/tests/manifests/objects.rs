//! Objects of Kubernetes as JSON values: read from files, found by kind and name, with the pods in them.

use std::fs;

use serde::Deserialize;
use serde_json::Value;
use vedette_tests::checkout;

/// Every object in a text of YAML documents.
pub fn parse(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|object| !object.is_null()).collect()
}

/// What `kubectl apply -f manifests/install.yaml` makes.
pub fn install() -> Vec<Value> {
    parse(&text("manifests/install.yaml"))
}

/// A file of the checkout.
pub fn text(path: &str) -> String {
    fs::read_to_string(checkout::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The objects of one kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// The one object of a kind with a name.
pub fn one<'a>(objects: &'a [Value], kind: &'a str, name: &str) -> &'a Value {
    let found: Vec<_> = of_kind(objects, kind).filter(|object| object["metadata"]["name"] == name).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0]
}

/// `Kind namespace/name` of an object.
pub fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    format!("{} {}/{}", text(&object["kind"]), text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

/// The pod that an object is, or makes; `None` where it makes none.
pub fn pod(object: &Value) -> Option<&Value> {
    let place = match object["kind"].as_str()? {
        "Pod" => "/spec",
        "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "StatefulSet" => "/spec/template/spec",
        "CronJob" => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    };
    Some(object.pointer(place).unwrap_or_else(|| panic!("{} has no {place}", title(object))))
}

/// The containers of a pod, init containers first.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|key| list(&pod[key]))
}

/// A list's members; nothing where there is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
