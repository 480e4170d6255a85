//! What a role allows is what the code calls: every verb has its call, and every call its verb.

use std::collections::BTreeSet;

use serde_json::Value;

use super::objects;

/// One verb on one resource, allowed by a role. A resource with a name stands for that object alone.
type Rule = (&'static str, &'static str, &'static str);

/// A verb, and the text that makes the call, in a source file.
struct Call {
    rule: Rule,
    file: &'static str,
    text: &'static str,
}

/// Where the calls are.
const WATCH: &str = "aggregator/src/kubernetes/watch.rs";
const AUTH: &str = "aggregator/src/auth/kubernetes.rs";
const EVENTS: &str = "aggregator/src/events.rs";
const PUBLISH: &str = "aggregator/src/publish.rs";
const CLUSTER: &str = "cli/src/cluster.rs";

/// The calls of this tree.
const CALLS: &[Call] = &[
    call("vedette-aggregator", "pods", "list", WATCH, "Api::<Pod>::all("),
    call("vedette-aggregator", "pods", "watch", WATCH, "Api::<Pod>::all("),
    call("vedette-aggregator", "nodes", "list", WATCH, "Api::<Node>::all("),
    call("vedette-aggregator", "nodes", "watch", WATCH, "Api::<Node>::all("),
    call("vedette-aggregator", "replicasets.apps", "list", WATCH, "Api<PartialObjectMeta<ReplicaSet>>"),
    call("vedette-aggregator", "replicasets.apps", "watch", WATCH, "Api<PartialObjectMeta<ReplicaSet>>"),
    call("vedette-aggregator", "jobs.batch", "list", WATCH, "Api<PartialObjectMeta<Job>>"),
    call("vedette-aggregator", "jobs.batch", "watch", WATCH, "Api<PartialObjectMeta<Job>>"),
    call("vedette-aggregator", "pods", "get", AUTH, "api.get_opt(&pod.name)"),
    call("vedette-aggregator", "tokenreviews.authentication.k8s.io", "create", AUTH, "api.create(&PostParams::default(), &asked)"),
    call("vedette-aggregator", "events", "create", EVENTS, "api.create(&PostParams::default(), event)"),
    call("vedette-ca-publisher", "configmaps vedette-ca", "get", PUBLISH, "api.get(name)"),
    call("vedette-ca-publisher", "configmaps vedette-ca", "update", PUBLISH, "api.replace(name,"),
    call("vedette-ca-reader", "configmaps vedette-ca", "get", CLUSTER, "maps.get(CA.0)"),
    call("vedette-viewer", "serviceaccounts/token vedette-viewer", "create", CLUSTER, "create_token_request(&account,"),
    call("vedette-viewer", "pods", "list", CLUSTER, "pods.list("),
    call("vedette-viewer", "pods/portforward", "get", CLUSTER, "pods.portforward("),
    call("vedette-viewer", "pods/portforward", "create", CLUSTER, "pods.portforward("),
    call("vedette-operator", "serviceaccounts/token vedette-operator", "create", CLUSTER, "create_token_request(&account,"),
    call("vedette-operator", "pods", "list", CLUSTER, "pods.list("),
    call("vedette-operator", "pods/portforward", "get", CLUSTER, "pods.portforward("),
    call("vedette-operator", "pods/portforward", "create", CLUSTER, "pods.portforward("),
    call("vedette-admin", "serviceaccounts/token vedette-admin", "create", CLUSTER, "create_token_request(&account,"),
    call("vedette-admin", "pods", "list", CLUSTER, "pods.list("),
    call("vedette-admin", "pods/portforward", "get", CLUSTER, "pods.portforward("),
    call("vedette-admin", "pods/portforward", "create", CLUSTER, "pods.portforward("),
];

const fn call(role: &'static str, resource: &'static str, verb: &'static str, file: &'static str, text: &'static str) -> Call {
    Call { rule: (role, resource, verb), file, text }
}

/// Every verb that the roles of a rendering allow, as (role, resource, verb).
fn allowed(rendered: &[Value]) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for object in rendered.iter().filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole") {
        let role = object["metadata"]["name"].as_str().unwrap();
        for rule in objects::list(&object["rules"]) {
            let names: Vec<_> = objects::list(&rule["resourceNames"]).map(|name| format!(" {}", name.as_str().unwrap())).collect();
            let names = if names.is_empty() { vec![String::new()] } else { names };
            for group in objects::list(&rule["apiGroups"]) {
                let group = match group.as_str().unwrap() {
                    "" => String::new(),
                    group => format!(".{group}"),
                };
                for resource in objects::list(&rule["resources"]) {
                    for verb in objects::list(&rule["verbs"]) {
                        for name in &names {
                            let resource = format!("{}{group}{name}", resource.as_str().unwrap());
                            found.insert((role.to_owned(), resource, verb.as_str().unwrap().to_owned()));
                        }
                    }
                }
            }
        }
    }
    found
}

/// Why a call is not one; `None` where its text is in its file.
fn problem(call: &Call) -> Option<String> {
    let missing = !objects::text(call.file).contains(call.text);
    missing.then(|| format!("{:?} is allowed, and {} has no {:?}", call.rule, call.file, call.text))
}

#[test]
fn every_verb_has_its_call_and_every_call_its_verb() {
    let objects = objects::install();

    let allowed = allowed(&objects);

    let rules: Vec<Rule> = CALLS.iter().map(|call| call.rule).collect();
    let known: BTreeSet<_> = rules.iter().map(|&(role, resource, verb)| (role.to_owned(), resource.to_owned(), verb.to_owned())).collect();
    assert_eq!(known.len(), rules.len(), "a verb stands twice in the lists");
    assert_eq!(allowed.difference(&known).collect::<Vec<_>>(), Vec::<&(String, String, String)>::new(), "allowed, and nobody calls it");
    assert_eq!(known.difference(&allowed).collect::<Vec<_>>(), Vec::<&(String, String, String)>::new(), "called, and not allowed");
    assert_eq!(CALLS.iter().filter_map(problem).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_call_that_is_gone_is_noticed() {
    let rule = ("vedette-aggregator", "pods", "list");
    let here = Call { rule, file: "agent/src/http.rs", text: r#""/readyz""# };
    let gone = Call { text: "Api::<Pod>::all", ..here };

    assert_eq!(problem(&Call { ..here }), None);
    assert!(problem(&gone).unwrap().contains("agent/src/http.rs has no"));
}

#[test]
fn no_role_knows_secrets_or_everything() {
    let objects = objects::install();

    let wide: Vec<_> = allowed(&objects)
        .into_iter()
        .filter(|(_, resource, verb)| resource.contains("secrets") || resource.contains('*') || verb == "*" || verb == "escalate")
        .collect();

    assert_eq!(wide, Vec::<(String, String, String)>::new());
}

#[test]
fn the_agent_is_bound_to_nothing() {
    let objects = objects::install();

    let bindings = objects.iter().filter(|object| ["RoleBinding", "ClusterRoleBinding"].contains(&object["kind"].as_str().unwrap()));
    let subjects: Vec<_> =
        bindings.flat_map(|binding| objects::list(&binding["subjects"])).map(|subject| subject["name"].as_str().unwrap()).collect();

    assert_eq!(subjects, ["vedette-aggregator", "vedette-aggregator", "system:authenticated"]);
    let account = objects::one(&objects, "ServiceAccount", "vedette-agent");
    assert_eq!(account["automountServiceAccountToken"], false);
}

#[test]
fn what_is_not_said_to_be_allowed_crosses_no_network() {
    let objects = objects::install();
    for namespace in ["vedette", "vedette-agent"] {
        let denies = objects::of_kind(&objects, "NetworkPolicy").filter(|policy| {
            let spec = &policy["spec"];
            let all = spec["podSelector"] == serde_json::json!({}) && spec["policyTypes"] == serde_json::json!(["Ingress", "Egress"]);
            policy["metadata"]["namespace"] == namespace && all && spec["ingress"].is_null() && spec["egress"].is_null()
        });

        assert_eq!(denies.count(), 1, "{namespace}");
    }
    let agent = objects::one(&objects, "NetworkPolicy", "vedette-agent");
    assert!(agent["spec"]["ingress"].is_null(), "nobody calls an agent");
    assert_eq!(agent["spec"]["egress"].as_array().unwrap().len(), 2, "aggregator and name servers");
}
