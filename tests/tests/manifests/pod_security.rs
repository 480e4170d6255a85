//! The Pod Security Standard `restricted`, checked as the standard words it, for every pod but where an exception is stated here.

use serde_json::{Value, json};

use super::{objects, rendering};

/// Capabilities that a container may add.
const ADDABLE: [&str; 1] = ["NET_BIND_SERVICE"];
/// Kinds of volumes that are let in.
const VOLUMES: [&str; 8] = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
/// SELinux types that are let in.
const SELINUX_TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
/// Kernel parameters that are let in.
const SYSCTLS: [&str; 5] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
];

fn texts(value: &Value) -> Vec<&str> {
    objects::list(value).filter_map(Value::as_str).collect()
}

/// What `restricted` has against a pod, each with its field; nothing where it passes.
pub fn violations(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[key] == true {
            found.push(key.to_owned());
        }
    }
    for volume in objects::list(&pod["volumes"]) {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        found.extend(kinds.filter(|kind| !VOLUMES.contains(&kind.as_str())).map(|kind| format!("volumes {}: {kind}", volume["name"])));
    }
    for sysctl in objects::list(&pod["securityContext"]["sysctls"]) {
        let name = sysctl["name"].as_str().unwrap();
        if !SYSCTLS.contains(&name) {
            found.push(format!("sysctls {name}"));
        }
    }
    of_context(&pod["securityContext"], "pod", &mut found);
    for container in objects::containers(pod) {
        of_container(container, &pod["securityContext"], &mut found);
    }
    found
}

/// What a pod and a container have alike.
fn of_context(context: &Value, whose: &str, found: &mut Vec<String>) {
    let selinux = &context["seLinuxOptions"];
    let kind = selinux["type"].as_str().unwrap_or("");
    if !SELINUX_TYPES.contains(&kind) || !selinux["user"].is_null() || !selinux["role"].is_null() {
        found.push(format!("{whose}: seLinuxOptions {kind}"));
    }
    if context["windowsOptions"]["hostProcess"] == true {
        found.push(format!("{whose}: hostProcess"));
    }
    if context["runAsUser"] == 0 {
        found.push(format!("{whose}: runAsUser 0"));
    }
    if context["runAsNonRoot"] == false {
        found.push(format!("{whose}: runAsNonRoot false"));
    }
    let seccomp = context["seccompProfile"]["type"].as_str();
    if seccomp.is_some_and(|kind| !["RuntimeDefault", "Localhost"].contains(&kind)) {
        found.push(format!("{whose}: seccompProfile"));
    }
}

fn of_container(container: &Value, pod: &Value, found: &mut Vec<String>) {
    let (name, context) = (container["name"].as_str().unwrap(), &container["securityContext"]);
    of_context(context, name, found);
    let mut must = |holds: bool, rule: &str| {
        if !holds {
            found.push(format!("{name}: {rule}"));
        }
    };
    must(context["privileged"] != true, "privileged");
    must(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
    must(texts(&context["capabilities"]["drop"]).contains(&"ALL"), "capabilities.drop");
    must(texts(&context["capabilities"]["add"]).iter().all(|added| ADDABLE.contains(added)), "capabilities.add");
    must(context["procMount"].is_null() || context["procMount"] == "Default", "procMount");
    must(objects::list(&container["ports"]).all(|port| port["hostPort"].is_null() || port["hostPort"] == 0), "hostPort");
    must(context["runAsNonRoot"] == true || pod["runAsNonRoot"] == true, "runAsNonRoot");
    must(!context["seccompProfile"].is_null() || !pod["seccompProfile"].is_null(), "seccompProfile");
}

/// The pods of a rendering that do not pass, with what is against them.
fn not_restricted(rendered: &[Value]) -> Vec<(String, Vec<String>)> {
    let pods = rendered.iter().filter_map(|object| Some((objects::title(object), violations(objects::pod(object)?))));
    pods.filter(|(_, found)| !found.is_empty()).collect()
}

/// Why the agent is an exception: it reads these, and nothing else is different.
fn host_paths() -> Vec<String> {
    vec![r#"volumes "proc": hostPath"#.to_owned(), r#"volumes "cgroup": hostPath"#.to_owned()]
}

#[test]
fn only_the_agent_is_beyond_restricted_and_only_by_its_host_paths() {
    let objects = objects::install();

    assert_eq!(not_restricted(&objects), [("DaemonSet vedette-agent/vedette-agent".to_owned(), host_paths())]);
    assert_eq!(objects.iter().filter_map(objects::pod).count(), 2, "agent and aggregator");
}

#[test]
fn the_agent_has_a_fixed_user_a_read_only_root_and_no_token_of_the_api_server() {
    let objects = objects::install();
    for (kind, name) in [("DaemonSet", "vedette-agent"), ("StatefulSet", "vedette-aggregator")] {
        let pod = objects::pod(objects::one(&objects, kind, name)).unwrap();

        assert_eq!((&pod["securityContext"]["runAsUser"], &pod["securityContext"]["runAsGroup"]), (&json!(65532), &json!(65532)));
        for container in objects::containers(pod) {
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            assert_eq!(container["resources"]["limits"]["cpu"], Value::Null, "{name} would be throttled");
            assert!(container["resources"]["limits"]["memory"].is_string());
            for probe in ["livenessProbe", "readinessProbe"] {
                assert_eq!(container[probe]["httpGet"]["port"], "http", "clusters before 1.24 know no other probe that fits");
            }
        }
    }
    let agent = objects::pod(objects::one(&objects, "DaemonSet", "vedette-agent")).unwrap();
    assert_eq!(agent["automountServiceAccountToken"], false);
    assert_eq!(agent["tolerations"], json!([{"operator": "Exists"}]));
}

#[test]
fn an_overlay_opens_no_more_than_it_says() {
    let Some(python) = rendering::python() else { return };
    let selinux = "pod: seLinuxOptions spc_t".to_owned();
    for (overlay, more) in [
        ("openshift", Some(&selinux)),
        ("selinux", Some(&selinux)),
        ("example", Some(&selinux)),
        ("monitoring", None),
        ("minikube", None),
        ("lab", None),
    ] {
        let found = not_restricted(&objects::parse(&rendering::render(&python, &format!("overlays/{overlay}"))));

        let mut expected = host_paths();
        expected.extend(more.cloned());
        assert_eq!(found, [("DaemonSet vedette-agent/vedette-agent".to_owned(), expected)], "{overlay}");
    }
}

#[test]
fn the_namespaces_enforce_what_their_pods_pass() {
    let objects = objects::install();

    let level = |name| objects::one(&objects, "Namespace", name)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].clone();

    assert_eq!((level("vedette"), level("vedette-agent")), (json!("restricted"), json!("privileged")));
    let namespace = |kind, name| objects::one(&objects, kind, name)["metadata"]["namespace"].clone();
    assert_eq!(namespace("StatefulSet", "vedette-aggregator"), "vedette");
    assert_eq!(namespace("DaemonSet", "vedette-agent"), "vedette-agent");
}

#[test]
fn a_privilege_more_is_noticed() {
    let objects = objects::install();
    let passes = objects::pod(objects::one(&objects, "StatefulSet", "vedette-aggregator")).unwrap();
    let with = |pointer: &str, key: &str, value: Value| {
        let mut pod = passes.clone();
        pod.pointer_mut(pointer).unwrap()[key] = value;
        violations(&pod)
    };

    assert_eq!(violations(passes), Vec::<String>::new());
    let (pod, context) = ("/securityContext", "/containers/0/securityContext");
    for (pointer, key, value, told) in [
        ("", "hostPID", json!(true), "hostPID"),
        ("", "hostNetwork", json!(true), "hostNetwork"),
        ("", "volumes", json!([{"name": "root", "hostPath": {"path": "/"}}]), r#"volumes "root": hostPath"#),
        (pod, "runAsNonRoot", Value::Null, "aggregator: runAsNonRoot"),
        (pod, "runAsUser", json!(0), "pod: runAsUser 0"),
        (pod, "seccompProfile", Value::Null, "aggregator: seccompProfile"),
        (pod, "seccompProfile", json!({"type": "Unconfined"}), "pod: seccompProfile"),
        (pod, "sysctls", json!([{"name": "kernel.msgmax", "value": "1"}]), "sysctls kernel.msgmax"),
        (context, "privileged", json!(true), "aggregator: privileged"),
        (context, "allowPrivilegeEscalation", Value::Null, "aggregator: allowPrivilegeEscalation"),
        (context, "capabilities", json!({"drop": ["ALL"], "add": ["SYS_PTRACE"]}), "aggregator: capabilities.add"),
        (context, "capabilities", json!({"drop": ["KILL"]}), "aggregator: capabilities.drop"),
        (context, "procMount", json!("Unmasked"), "aggregator: procMount"),
        ("/containers/0/ports/0", "hostPort", json!(7443), "aggregator: hostPort"),
    ] {
        assert_eq!(with(pointer, key, value), [told]);
    }
}
