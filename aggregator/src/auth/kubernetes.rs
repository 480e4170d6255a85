//! The API server's word: whose token it is, and where a pod runs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    core::v1,
};
use kube::{Api, Client, api::PostParams};

use super::reviews::Review;

/// Pods whose node is remembered, one per agent; a full memory is emptied and fills again.
const MAX_PODS: usize = 8_192;
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why the API server could not be asked, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unasked(pub String);

/// What the API server says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is good, for the audience that was asked about.
    User(User),
    /// It is not, and why.
    Nobody(String),
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// The pod that the token is bound to.
    pub pod: Option<Pod>,
}

/// A pod, as a token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a pod that came after it under the same name is another.
    pub uid: String,
}

/// Knows where pods run.
pub trait PodNodes: Send + Sync {
    /// The node of a pod; `None` if there is no such pod, or no node has it yet.
    fn node_of<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, Result<Option<String>, Unasked>>;
}

/// Namespace and name of a ServiceAccount's user name.
#[must_use]
pub fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// Reviews tokens for an audience, by TokenReview.
#[must_use]
pub fn reviewer(client: Client, audience: &str) -> Review {
    let audience = audience.to_owned();
    Box::new(move |token: Arc<str>| -> BoxFuture<'static, Result<Said, Unasked>> {
        let (api, audience) = (Api::<TokenReview>::all(client.clone()), audience.clone());
        Box::pin(async move {
            let spec = TokenReviewSpec { audiences: Some(vec![audience.clone()]), token: Some(token.as_ref().to_owned()) };
            let asked = TokenReview { spec, ..TokenReview::default() };
            let answer = api.create(&PostParams::default(), &asked).await.map_err(|error| unasked("tokenreviews", &error))?;
            Ok(said(answer, &audience))
        })
    })
}

/// What an answered review says. An API server that does not know audiences names none: its word is then about itself, not about us.
fn said(review: TokenReview, audience: &str) -> Said {
    let status = review.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Said::Nobody(status.error.filter(|error| !error.is_empty()).unwrap_or_else(|| "no reason given".into()));
    }
    if !status.audiences.unwrap_or_default().iter().any(|one| one == audience) {
        return Said::Nobody(format!("it is not for the audience {audience}"));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let extra = user.extra.unwrap_or_default();
    let one = |key: &str| extra.get(key).and_then(|values| values.first()).filter(|value| !value.is_empty()).cloned();
    let pod = match (account(&name), one(POD_NAME), one(POD_UID)) {
        (Some((namespace, _)), Some(pod), Some(uid)) => Some(Pod { namespace: namespace.to_owned(), name: pod, uid }),
        _ => None,
    };
    Said::User(User { name, pod })
}

/// Asks for each pod once: where a pod runs never changes.
pub struct AskedPods {
    client: Client,
    nodes: Mutex<HashMap<String, String>>,
}

impl AskedPods {
    /// By this client.
    #[must_use]
    pub fn new(client: Client) -> Arc<Self> {
        Arc::new(Self { client, nodes: Mutex::default() })
    }
}

impl PodNodes for AskedPods {
    fn node_of<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, Result<Option<String>, Unasked>> {
        Box::pin(async move {
            let nodes = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(node) = nodes().get(&pod.uid) {
                return Ok(Some(node.clone()));
            }
            let api = Api::<v1::Pod>::namespaced(self.client.clone(), &pod.namespace);
            let found = api.get_opt(&pod.name).await.map_err(|error| unasked("pods", &error))?;
            let same = found.filter(|found| found.metadata.uid.as_deref() == Some(&pod.uid));
            let node = same.and_then(|found| found.spec).and_then(|spec| spec.node_name).filter(|node| !node.is_empty());
            if let Some(node) = &node {
                let mut nodes = nodes();
                if nodes.len() >= MAX_PODS {
                    nodes.clear();
                }
                nodes.insert(pod.uid.clone(), node.clone());
            }
            Ok(node)
        })
    }
}

/// What the client says, without the structures that its own text repeats.
pub(crate) fn unasked(what: &str, error: &kube::Error) -> Unasked {
    let mut text = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut cause: &dyn std::error::Error = other;
            while let Some(next) = cause.source() {
                cause = next;
            }
            cause.to_string()
        }
    };
    text.retain(|character| !character.is_control());
    Unasked(format!("{what}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(status: serde_json::Value) -> TokenReview {
        serde_json::from_value(serde_json::json!({"spec": {}, "status": status})).unwrap()
    }

    #[test]
    fn an_agents_token_names_its_pod() {
        let status = serde_json::json!({
            "authenticated": true,
            "audiences": ["vedette-aggregator"],
            "user": {
                "username": "system:serviceaccount:vedette-agent:vedette-agent",
                "extra": {POD_NAME: ["vedette-agent-x"], POD_UID: ["u-1"]},
            },
        });

        let said = said(review(status), "vedette-aggregator");

        let pod = Pod { namespace: "vedette-agent".into(), name: "vedette-agent-x".into(), uid: "u-1".into() };
        assert_eq!(said, Said::User(User { name: "system:serviceaccount:vedette-agent:vedette-agent".into(), pod: Some(pod) }));
    }

    #[test]
    fn a_server_that_does_not_know_audiences_vouches_for_nobody() {
        let status = serde_json::json!({"authenticated": true, "user": {"username": "system:serviceaccount:a:b"}});

        assert!(matches!(said(review(status), "vedette-aggregator"), Said::Nobody(why) if why.contains("audience")));
    }

    #[test]
    fn what_is_not_authenticated_is_nobody_with_the_reason() {
        let status = serde_json::json!({"error": "token has been invalidated"});

        assert_eq!(said(review(status), "a"), Said::Nobody("token has been invalidated".into()));
        assert_eq!(said(review(serde_json::json!({"authenticated": false})), "a"), Said::Nobody("no reason given".into()));
    }

    #[test]
    fn user_names_of_service_accounts_are_told_from_others() {
        assert_eq!(account("system:serviceaccount:vedette:vedette-viewer"), Some(("vedette", "vedette-viewer")));
        for other in ["vedette-viewer", "system:serviceaccount:vedette", "system:serviceaccount::x", "system:serviceaccount:a:b:c", ""] {
            assert_eq!(account(other), None, "{other}");
        }
    }
}
