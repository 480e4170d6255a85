//! ConfigMaps are replaced: the one write besides tokens that Vedette makes.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::{get, put},
};
use bytes::Bytes;
use serde_json::json;

use super::{ApiServer, Shared, answer};

/// The paths of this group.
pub fn router() -> Router<Arc<Shared>> {
    let path = "/api/{version}/namespaces/{namespace}/configmaps/{name}";
    Router::new().route(path, get(one)).route(path, put(replace))
}

type At = Path<(String, String, String)>;

async fn one(State(shared): State<Arc<Shared>>, Path((_, namespace, name)): At) -> Response {
    match shared.objects().get("configmaps", &namespace, &name) {
        Some(object) => answer::json(StatusCode::OK, &object),
        None => answer::not_found(&format!("configmaps {name:?} not found")),
    }
}

async fn replace(State(shared): State<Arc<Shared>>, Path((_, namespace, name)): At, body: Bytes) -> Response {
    let Some(object) = answer::object(&body) else { return answer::no_object() };
    let mut objects = shared.objects();
    let Some(before) = objects.get("configmaps", &namespace, &name) else {
        return answer::not_found(&format!("configmaps {name:?} not found"));
    };
    if object["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
        return answer::status(StatusCode::CONFLICT, "Conflict", "the object has been modified");
    }
    objects.set("configmaps", object);
    match objects.get("configmaps", &namespace, &name) {
        Some(object) => answer::json(StatusCode::OK, &object),
        None => answer::not_found("the name was changed"),
    }
}

impl ApiServer {
    /// Makes an empty ConfigMap, as the manifests do.
    pub fn empty_config_map(&self, namespace: &str, name: &str) {
        self.set("configmaps", json!({"metadata": {"namespace": namespace, "name": name}}));
    }

    /// What a ConfigMap holds under a key.
    #[must_use]
    pub fn config_map(&self, namespace: &str, name: &str, key: &str) -> Option<String> {
        let object = self.shared.objects().get("configmaps", namespace, name)?;
        object["data"][key].as_str().map(str::to_owned)
    }
}
