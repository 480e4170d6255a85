//! The laboratory: attacks are confined, end by themselves, and send only to the range's own block and to its own sink.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::{Value, json};
use vedette_range::guard::BLOCK;
use vedette_tests::checkout;

use super::{objects, pod_security, rendering};

/// The original's five, as `plans/seed-session.yaml` has them.
const ATTACKS: [&str; 5] = ["crash-loop", "dos", "exfiltration", "mining", "scan"];
/// Longest life of an attack's pod, seconds.
const LONGEST: u64 = 330;

fn attacks(rendered: &[Value]) -> Vec<&Value> {
    objects::of_kind(rendered, "Pod").filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "attack").collect()
}

fn args(pod: &Value) -> Vec<&str> {
    objects::list(&pod["spec"]["containers"][0]["args"]).map(|arg| arg.as_str().unwrap()).collect()
}

fn render(folder: &str) -> Option<Vec<Value>> {
    Some(objects::parse(&rendering::render(&rendering::python()?, folder)))
}

#[test]
fn attacks_are_confined_and_end_by_themselves() {
    for folder in ["lab/attacks", "lab/seed"] {
        let Some(rendered) = render(folder) else { return };

        let attacks = attacks(&rendered);

        let names: BTreeSet<_> = attacks.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, BTreeSet::from(ATTACKS), "{folder}");
        for pod in attacks {
            let name = objects::title(pod);
            assert_eq!(pod_security::violations(&pod["spec"]), Vec::<String>::new(), "{name}");
            assert_eq!(pod["metadata"]["namespace"], "vedette-lab", "{name}");
            assert_eq!(pod["metadata"]["labels"]["vedette-attack"], pod["metadata"]["name"], "{name}");
            assert!(pod["spec"]["activeDeadlineSeconds"].as_u64().is_some_and(|seconds| seconds <= LONGEST), "{name}");
            for limit in ["cpu", "memory"] {
                assert!(pod["spec"]["containers"][0]["resources"]["limits"][limit].is_string(), "{name}: {limit}");
            }
        }
    }
}

#[test]
fn everything_of_ours_in_the_laboratory_is_restricted() {
    let Some(rendered) = render("lab") else { return };

    let ours: Vec<_> = rendered.iter().filter(|object| object["metadata"]["namespace"] == "vedette-lab").collect();

    let pods: Vec<_> = ours.iter().filter_map(|object| objects::pod(object)).collect();
    assert_eq!(pods.len(), 4, "sink, web and two loads");
    assert_eq!(pods.iter().flat_map(|pod| pod_security::violations(pod)).collect::<Vec<_>>(), Vec::<String>::new());
    let namespace = objects::one(&rendered, "Namespace", "vedette-lab");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(objects::of_kind(&rendered, "ResourceQuota").count(), 1);
    let policy = objects::one(&rendered, "NetworkPolicy", "lab");
    let destinations: Vec<_> = objects::list(&policy["spec"]["egress"]).flat_map(|rule| objects::list(&rule["to"])).cloned().collect();
    assert_eq!(
        destinations,
        [
            json!({"namespaceSelector": {"matchLabels": {"app.kubernetes.io/part-of": "vedette-lab"}}}),
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}),
            json!({"ipBlock": {"cidr": "169.254.0.0/16"}}),
        ],
        "nothing outside of the cluster"
    );
    let policies = objects::of_kind(&rendered, "NetworkPolicy").filter(|policy| policy["metadata"]["namespace"] == "vedette-lab");
    assert_eq!(policies.map(|policy| policy["metadata"]["name"].as_str().unwrap()).collect::<Vec<_>>(), ["default-deny", "lab"]);
}

#[test]
fn targets_are_the_services_of_the_laboratory() {
    let (Some(ground), Some(rendered)) = (render("lab"), render("lab/attacks")) else { return };
    let services: BTreeMap<_, _> = objects::of_kind(&ground, "Service")
        .filter_map(|service| {
            let address = service["spec"]["clusterIP"].as_str()?;
            Some((format!("{address}:{}", service["spec"]["ports"][0]["port"]), service["metadata"]["name"].as_str().unwrap()))
        })
        .collect();

    let mut targets = BTreeMap::new();
    for pod in attacks(&rendered) {
        for target in args(pod).iter().filter_map(|arg| arg.strip_prefix("--target=")) {
            targets.insert(pod["metadata"]["name"].as_str().unwrap(), services[target]);
        }
    }

    assert_eq!(targets, BTreeMap::from([("dos", "web"), ("exfiltration", "sink")]));
    let block: vedette_range::guard::Net = BLOCK.parse().unwrap();
    for address in services.keys() {
        assert!(block.contains(address.split(':').next().unwrap().parse().unwrap()), "{address} is not in {BLOCK}: the guard refuses it");
    }
}

/// Runs an attack's program as its pod would, but here: an hour is a second.
fn run(pod: &Value) -> (Option<i32>, String) {
    let args = args(pod).into_iter().map(|arg| match arg.strip_prefix("--seconds=") {
        Some(_) => "--seconds=1".to_owned(),
        None => arg.replace("$(POD_IP)", "10.213.5.9"),
    });
    let output = Command::new(checkout::binary("vedette-range")).args(args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_range_takes_the_arguments_and_sends_nothing_outside_of_its_block() {
    let Some(rendered) = render("lab/attacks") else { return };
    for pod in attacks(&rendered) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let sends = args(pod).iter().any(|arg| arg.starts_with("--allow="));

        let (code, said) = run(pod);

        assert_eq!(sends, ["dos", "exfiltration", "scan"].contains(&name), "{name}");
        let expected = match name {
            "mining" => (Some(0), ""),
            "crash-loop" => (Some(1), ""),
            _ => (Some(1), "Error: refused: this process is in no pod of 10.213.5.0/24: it would send from "),
        };
        assert!(code == expected.0 && said.starts_with(expected.1), "{name}: {code:?} {said}");
    }
}

#[test]
fn the_seed_profile_uses_other_images_and_the_same_sink() {
    let Some(rendered) = render("lab/seed") else { return };

    let attacks = attacks(&rendered);

    let images: BTreeSet<_> = attacks.iter().map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap()).collect();
    assert!(images.iter().all(|image| !image.starts_with("vedette-")), "{images:?}");
    let upload = attacks.iter().find(|pod| pod["metadata"]["name"] == "exfiltration").unwrap();
    assert!(args(upload).last().unwrap().ends_with("| nc sink.vedette-lab.svc 9000"), "{:?}", args(upload));
    let hosts: Vec<_> = attacks.iter().flat_map(|pod| args(pod)).flat_map(|arg| arg.split([' ', '/', ':'])).collect();
    assert!(hosts.iter().all(|word| !word.contains(".com") && !word.contains(".org")), "{hosts:?}");
    for service in ["sink", "web"] {
        assert!(objects::one(&rendered, "Service", service)["spec"]["clusterIP"].is_null(), "{service}");
    }
}
