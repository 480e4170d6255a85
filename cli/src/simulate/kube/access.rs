//! What a person needs to be allowed for a run, asked before anything is made: all that is missing is said at once.

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

/// Group, resource (with its subresource behind a slash), verbs. docs/lab.md has the same as a ClusterRole.
pub const NEEDS: &[(&str, &str, &[&str])] = &[
    ("", "namespaces", &["get", "create", "delete"]),
    ("", "resourcequotas", &["create"]),
    ("networking.k8s.io", "networkpolicies", &["create"]),
    ("", "pods", &["get", "list", "watch", "create", "delete"]),
    // A WebSocket begins as a GET; newer API servers want `create` as well.
    ("", "pods/exec", &["get", "create"]),
    ("apps", "deployments", &["create"]),
];

/// What is missing, such as `create on pods/exec`; nothing where the API server does not answer such questions.
pub async fn missing(client: &Client, namespace: &str) -> Vec<String> {
    let needs = NEEDS.iter().flat_map(|(group, resource, verbs)| verbs.iter().map(move |verb| (*group, *resource, *verb)));
    let asked = needs.map(|(group, resource, verb)| async move {
        let denied = is_denied(client, namespace, group, resource, verb).await;
        denied.then(|| format!("{verb} on {resource}"))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn is_denied(client: &Client, namespace: &str, group: &str, resource: &str, verb: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(resource, sub)| (resource, Some(sub.to_owned())));
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        namespace: Some(namespace.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await;
    // Whoever may not ask learns it from the deed.
    answer.ok().and_then(|answer| answer.status).is_some_and(|status| !status.allowed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_docs_give_a_person_exactly_what_a_run_takes() {
        let docs = include_str!("../../../../docs/lab.md");
        let block = docs.split("```yaml\n").find(|block| block.contains("kind: ClusterRole")).unwrap();
        let role: Value = serde_norway::from_str(block.split("```").next().unwrap()).unwrap();
        let list = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };

        let mut given = BTreeSet::new();
        for rule in role["rules"].as_array().unwrap() {
            for resource in list(&rule["resources"]) {
                given.extend(list(&rule["verbs"]).into_iter().map(|verb| (list(&rule["apiGroups"])[0].clone(), resource.clone(), verb)));
            }
        }

        let needs = NEEDS.iter().flat_map(|(group, resource, verbs)| {
            verbs.iter().map(move |verb| ((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()))
        });
        assert_eq!(given, needs.collect());
    }
}
