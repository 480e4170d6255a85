//! Get, list and watch of every resource in [`RESOURCES`], whole or metadata only.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header::CONTENT_TYPE},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Shared, Signals, answer,
    objects::{Key, RESOURCES},
};

/// Events on their way to one watch; it waits beyond that.
const QUEUE: usize = 64;
/// A page where none is asked for.
const WHOLE: usize = usize::MAX;

/// The paths of this group.
pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/{version}/{resource}", get(core_all))
        .route("/api/{version}/namespaces/{namespace}/{resource}", get(core_namespaced))
        .route("/api/{version}/{resource}/{name}", get(core_one))
        .route("/api/{version}/namespaces/{namespace}/{resource}/{name}", get(core_one_namespaced))
        .route("/apis/{group}/{version}/{resource}", get(group_all))
        .route("/apis/{group}/{version}/namespaces/{namespace}/{resource}", get(group_namespaced))
}

type Shares = State<Arc<Shared>>;

async fn core_all(State(shared): Shares, Path((version, resource)): Path<(String, String)>, uri: Uri, headers: HeaderMap) -> Response {
    several(shared, ["", &version, "", &resource], &uri, &headers)
}

async fn core_namespaced(
    State(shared): Shares,
    Path((version, namespace, resource)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    several(shared, ["", &version, &namespace, &resource], &uri, &headers)
}

async fn core_one(State(shared): Shares, Path((_, resource, name)): Path<(String, String, String)>) -> Response {
    one(&shared, &resource, "", &name)
}

async fn core_one_namespaced(
    State(shared): Shares,
    Path((_, namespace, resource, name)): Path<(String, String, String, String)>,
) -> Response {
    one(&shared, &resource, &namespace, &name)
}

async fn group_all(
    State(shared): Shares,
    Path((group, version, resource)): Path<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    several(shared, [&group, &version, "", &resource], &uri, &headers)
}

async fn group_namespaced(
    State(shared): Shares,
    Path((group, version, namespace, resource)): Path<(String, String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    several(shared, [&group, &version, &namespace, &resource], &uri, &headers)
}

fn one(shared: &Shared, resource: &str, namespace: &str, name: &str) -> Response {
    match shared.objects().get(resource, namespace, name) {
        Some(object) => answer::json(StatusCode::OK, &object),
        None => answer::not_found(&format!("{resource} {name:?} not found")),
    }
}

/// What a list or a watch is about, as its URL says it.
#[derive(Clone)]
struct Wanted {
    resource: &'static str,
    api_version: String,
    kind: &'static str,
    namespace: String,
    metadata_only: bool,
}

impl Wanted {
    /// The object as it is served.
    fn shape(&self, object: &Value) -> Value {
        match self.metadata_only {
            true => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]}),
            false => object.clone(),
        }
    }
}

fn several(shared: Arc<Shared>, path: [&str; 4], uri: &Uri, headers: &HeaderMap) -> Response {
    let [group, version, namespace, resource] = path;
    let Some(known) = RESOURCES.into_iter().find(|one| (one.0, one.1, one.2) == (resource, group, version)) else {
        return answer::not_found(&format!("the stand-in serves no {group}/{version} {resource}"));
    };
    let accept = headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = Wanted {
        resource: known.0,
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: known.3,
        namespace: namespace.to_owned(),
        metadata_only: accept.contains("as=PartialObjectMetadata"),
    };
    let query = uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    };
    let yes = |name: &str| parameter(name).is_some_and(|value| value == "true" || value == "1");
    if yes("watch") {
        let version = parameter("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
        let seconds = parameter("timeoutSeconds").and_then(|text| text.parse().ok());
        return watched(shared, wanted, version, yes("allowWatchBookmarks"), seconds);
    }
    let limit = parameter("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0).unwrap_or(WHOLE);
    list(&shared, &wanted, limit, parameter("continue").filter(|token| !token.is_empty()).as_deref())
}

/// `%2F` and the like.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).unwrap_or(0) as u8;
        bytes.push(match byte {
            b'%' => digit(rest.next()) << 4 | digit(rest.next()),
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A continue token is the version of the first page and the last key of the page before.
fn list(shared: &Shared, wanted: &Wanted, limit: usize, token: Option<&str>) -> Response {
    let objects = shared.objects();
    let expired = || answer::status(StatusCode::GONE, "Expired", "the provided continue parameter is too old");
    let (version, after) = match token {
        None => (objects.version(), None),
        Some(token) => {
            let Ok((version, namespace, name)) = serde_json::from_str::<(u64, String, String)>(token) else { return expired() };
            if !objects.remembers(version) {
                return expired();
            }
            let after: Key = (wanted.resource.to_owned(), namespace, name);
            (version, Some(after))
        }
    };
    let (page, more) = objects.page(wanted.resource, &wanted.namespace, after.as_ref(), limit);
    drop(objects);
    let token = page.last().filter(|_| more).map(|((_, namespace, name), _)| json!([version, namespace, name]).to_string());
    let items: Vec<Value> = page.iter().map(|(_, object)| wanted.shape(object)).collect();
    let (kind, api_version) = match wanted.metadata_only {
        true => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
        false => (format!("{}List", wanted.kind), wanted.api_version.as_str()),
    };
    let metadata = json!({"resourceVersion": version.to_string(), "continue": token.unwrap_or_default()});
    answer::json(StatusCode::OK, &json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items}))
}

fn watched(shared: Arc<Shared>, wanted: Wanted, version: u64, bookmarks: bool, seconds: Option<u64>) -> Response {
    let (events, stream) = mpsc::channel::<Result<Bytes, Infallible>>(QUEUE);
    let signals = shared.signals.subscribe();
    tokio::spawn(async move {
        let watching = watch(&shared, &wanted, version, bookmarks, signals, &events);
        match seconds {
            Some(seconds) => drop(tokio::time::timeout(Duration::from_secs(seconds), watching).await),
            None => drop(watching.await),
        }
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(stream)));
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json;stream=watch"));
    response
}

/// Sends what changes until nobody listens (`None`), or the watch is too old.
async fn watch(
    shared: &Shared,
    wanted: &Wanted,
    version: u64,
    bookmarks: bool,
    mut signals: watch::Receiver<Signals>,
    events: &mpsc::Sender<Result<Bytes, Infallible>>,
) -> Option<()> {
    let send = async |verb: &str, object: Value| {
        let line = json!({"type": verb, "object": object}).to_string() + "\n";
        events.send(Ok(line.into())).await.ok()
    };
    let first = *signals.borrow_and_update();
    let mut known = version;
    if version == 0 {
        let (page, newest) = {
            let objects = shared.objects();
            (objects.page(wanted.resource, &wanted.namespace, None, WHOLE).0, objects.version())
        };
        for (_, object) in page {
            send("ADDED", wanted.shape(&object)).await?;
        }
        known = newest;
    }
    let mut seen = first;
    loop {
        let (remembered, changes, newest) = {
            let objects = shared.objects();
            (objects.remembers(known), objects.since(wanted.resource, &wanted.namespace, known), objects.version())
        };
        if seen.gone != first.gone || !remembered {
            let message = format!("too old resource version: {known} ({newest})");
            return send("ERROR", answer::status_object(StatusCode::GONE, "Expired", &message)).await;
        }
        for change in changes {
            send(change.verb, wanted.shape(&change.object)).await?;
        }
        known = newest;
        let before = seen;
        tokio::select! {
            changed = signals.changed() => changed.ok()?,
            () = events.closed() => return None,
        }
        seen = *signals.borrow_and_update();
        if bookmarks && seen.bookmarks != before.bookmarks {
            let (kind, api_version) = match wanted.metadata_only {
                true => ("PartialObjectMetadata", "meta.k8s.io/v1"),
                false => (wanted.kind, wanted.api_version.as_str()),
            };
            // Everything up to the version that it states was sent.
            send("BOOKMARK", json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": known.to_string()}})).await?;
        }
    }
}
