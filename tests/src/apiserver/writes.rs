//! Objects that a person makes and removes: namespaces with what is in them, quotas kept, and who may.

use std::sync::{Arc, PoisonError};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::{delete, post},
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{ApiServer, Shared, answer, kubelet::now, objects::RESOURCES};

/// The paths of this group.
pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/{version}/{resource}", post(create_whole))
        .route("/api/{version}/namespaces/{namespace}/{resource}", post(create_core))
        .route("/apis/{group}/{version}/namespaces/{namespace}/{resource}", post(create_grouped))
        .route("/api/{version}/{resource}/{name}", delete(delete_whole))
        .route("/api/{version}/namespaces/{namespace}/{resource}/{name}", delete(delete_core))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(review))
}

type Shares = State<Arc<Shared>>;

async fn create_whole(State(shared): Shares, Path((_, resource)): Path<(String, String)>, body: Bytes) -> Response {
    create(&shared, &resource, "", &body)
}

async fn create_core(State(shared): Shares, Path((_, namespace, resource)): Path<(String, String, String)>, body: Bytes) -> Response {
    create(&shared, &resource, &namespace, &body)
}

async fn create_grouped(
    State(shared): Shares,
    Path((_, _, namespace, resource)): Path<(String, String, String, String)>,
    body: Bytes,
) -> Response {
    create(&shared, &resource, &namespace, &body)
}

fn create(shared: &Shared, resource: &str, namespace: &str, body: &[u8]) -> Response {
    let Some(mut object) = answer::object(body) else { return answer::no_object() };
    if let Some(refusal) = refusal(shared, "create", resource, namespace) {
        return refusal;
    }
    if !RESOURCES.iter().any(|known| known.0 == resource) {
        return answer::not_found(&format!("the stand-in makes no {resource}"));
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    shared.change(|objects| {
        if objects.get(resource, namespace, &name).is_some() {
            return answer::status(StatusCode::CONFLICT, "AlreadyExists", &format!("{resource} {name:?} already exists"));
        }
        if !namespace.is_empty() {
            let Some(home) = objects.get("namespaces", "", namespace) else {
                return answer::not_found(&format!("namespaces {namespace:?} not found"));
            };
            if home["metadata"]["deletionTimestamp"].is_string() {
                return answer::status(StatusCode::FORBIDDEN, "Forbidden", &format!("namespace {namespace} is being terminated"));
            }
            // The controller that makes the account is never as quick as the first pod.
            if resource == "pods" && home["metadata"]["annotations"]["stand-in/account"].is_null() {
                let mut home = (*home).clone();
                home["metadata"]["annotations"]["stand-in/account"] = json!("default");
                objects.set("namespaces", home);
                let message = format!(
                    "pods {name:?} is forbidden: error looking up service account {namespace}/default: serviceaccount \"default\" not found"
                );
                return answer::status(StatusCode::FORBIDDEN, "Forbidden", &message);
            }
            if resource == "pods" {
                let pods = objects.page("pods", namespace, None, usize::MAX).0.len();
                let quotas = objects.page("resourcequotas", namespace, None, usize::MAX).0;
                let most = quotas.iter().find_map(|(_, quota)| quota["spec"]["hard"]["pods"].as_str()?.parse::<usize>().ok());
                if most.is_some_and(|most| pods >= most) {
                    let message = format!("pods {name:?} is forbidden: exceeded quota, limited: pods={}", most.unwrap_or(0));
                    return answer::status(StatusCode::FORBIDDEN, "Forbidden", &message);
                }
            }
            object["metadata"]["namespace"] = json!(namespace);
        }
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", objects.version()));
        object["metadata"]["creationTimestamp"] = json!(now());
        objects.set(resource, object);
        answered(objects.get(resource, namespace, &name).as_deref(), StatusCode::CREATED)
    })
}

async fn delete_whole(State(shared): Shares, Path((_, resource, name)): Path<(String, String, String)>, body: Bytes) -> Response {
    remove(&shared, &resource, "", &name, &body)
}

async fn delete_core(
    State(shared): Shares,
    Path((_, namespace, resource, name)): Path<(String, String, String, String)>,
    body: Bytes,
) -> Response {
    remove(&shared, &resource, &namespace, &name, &body)
}

fn remove(shared: &Arc<Shared>, resource: &str, namespace: &str, name: &str, body: &[u8]) -> Response {
    if let Some(refusal) = refusal(shared, "delete", resource, namespace) {
        return refusal;
    }
    let wanted = answer::object(body).map_or(Value::Null, |options| options["preconditions"]["uid"].clone());
    let Some(found) = shared.objects().get(resource, namespace, name) else {
        return answer::not_found(&format!("{resource} {name:?} not found"));
    };
    if wanted.is_string() && wanted != found["metadata"]["uid"] {
        return answer::status(StatusCode::CONFLICT, "Conflict", "the uid in the precondition is another");
    }
    leave(shared, resource, namespace, name);
    if resource == "namespaces" {
        let inside = shared.objects().within(name);
        for (resource, namespace, object) in inside {
            leave(shared, &resource, &namespace, &object);
        }
        tokio::spawn(finish(Arc::clone(shared), name.to_owned()));
    }
    answered(Some(&*found), StatusCode::OK)
}

/// Pods and namespaces are told to go; everything else, and pods that nobody runs, are gone at once.
fn leave(shared: &Shared, resource: &str, namespace: &str, name: &str) {
    let runs = shared.kubelet.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    shared.change(|objects| {
        if resource == "namespaces" || (resource == "pods" && runs) {
            let Some(found) = objects.get(resource, namespace, name) else { return };
            let mut object = (*found).clone();
            object["metadata"]["deletionTimestamp"] = json!(now());
            objects.set(resource, object);
        } else {
            objects.delete(resource, namespace, name);
        }
    });
}

/// A namespace is gone when nothing is in it.
async fn finish(shared: Arc<Shared>, name: String) {
    let mut signals = shared.signals.subscribe();
    loop {
        signals.mark_unchanged();
        if shared.objects().within(&name).is_empty() {
            shared.change(|objects| objects.delete("namespaces", "", &name));
            return;
        }
        if signals.changed().await.is_err() {
            return;
        }
    }
}

async fn review(State(shared): Shares, body: Bytes) -> Response {
    let Some(mut review) = answer::object(&body) else { return answer::no_object() };
    let asked = &review["spec"]["resourceAttributes"];
    let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
    let resource = match text("subresource").as_str() {
        "" => text("resource"),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let allowed = !is_forbidden(&shared, &text("verb"), &resource);
    review["status"] = json!({"allowed": allowed});
    answer::json(StatusCode::CREATED, &review)
}

fn is_forbidden(shared: &Shared, verb: &str, resource: &str) -> bool {
    shared.forbidden.lock().unwrap_or_else(PoisonError::into_inner).contains(&(verb.to_owned(), resource.to_owned()))
}

fn refusal(shared: &Shared, verb: &str, resource: &str, namespace: &str) -> Option<Response> {
    let message = format!("{resource} is forbidden: User \"test\" cannot {verb} resource {resource:?} in the namespace {namespace:?}");
    is_forbidden(shared, verb, resource).then(|| answer::status(StatusCode::FORBIDDEN, "Forbidden", &message))
}

fn answered(object: Option<&Value>, code: StatusCode) -> Response {
    object.map_or_else(|| answer::not_found("it is gone already"), |object| answer::json(code, object))
}

impl ApiServer {
    /// The person of the kubeconfig may not do this any more.
    pub fn forbid(&self, verb: &str, resource: &str) {
        self.shared.forbidden.lock().unwrap_or_else(PoisonError::into_inner).insert((verb.to_owned(), resource.to_owned()));
    }
}
