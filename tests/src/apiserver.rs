//! A stand-in for the API server: TLS, bearer tokens, list and watch over objects that a test sets.
//!
//! It knows nothing of Vedette. One file below it holds one group of resources and gives a router; [`routes`] joins them.

mod answer;
mod config_maps;
mod exec;
mod forward;
pub mod kubelet;
mod listener;
mod objects;
mod resources;
mod socket;
pub mod tokens;
mod writes;

use std::{
    collections::HashSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::Response,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::certificates::{self, Certificates};
use objects::Objects;

/// The token that a kubeconfig of [`ApiServer::kubeconfig`] holds.
pub const TOKEN: &str = "token-of-the-test";
/// Requests remembered; the oldest are forgotten.
const REQUESTS_KEPT: usize = 10_000;

/// One request as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query, without the question mark; empty where there is none.
    pub query: String,
    /// The Accept header; empty where there is none.
    pub accept: String,
}

/// What watches look at besides new objects. Each count goes up when a test asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// The newest resource version.
    pub version: u64,
    /// Watches told that they are too old.
    pub gone: u64,
    /// Connections cut.
    pub cut: u64,
    /// Bookmarks sent.
    pub bookmarks: u64,
}

/// What every handler shares.
pub(crate) struct Shared {
    pub objects: Mutex<Objects>,
    pub signals: watch::Sender<Signals>,
    pub tokens: Mutex<HashSet<String>>,
    pub asked: Mutex<Vec<Asked>>,
    pub issued: Mutex<tokens::Issued>,
    /// What a person may not.
    pub forbidden: Mutex<HashSet<(String, String)>>,
    /// Whoever runs pods, if anybody does.
    pub kubelet: Mutex<Option<Arc<kubelet::Kubelet>>>,
    /// Where port-forwards lead.
    pub forward: Mutex<Option<SocketAddr>>,
    /// Nobody is served: connections are closed, and requests on open ones end with 503.
    pub down: watch::Sender<bool>,
}

impl Shared {
    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes objects, and tells every watch.
    pub fn change<T>(&self, change: impl FnOnce(&mut Objects) -> T) -> T {
        let mut objects = self.objects();
        let changed = change(&mut objects);
        let version = objects.version();
        // Under the lock, so that versions are told in order.
        self.signals.send_modify(|signals| signals.version = version);
        changed
    }
}

/// Every group of resources; a new one is a file of its own and a line here.
fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .merge(resources::router())
        .merge(tokens::router())
        .merge(config_maps::router())
        .merge(forward::router())
        .merge(writes::router())
        .merge(exec::router())
        .fallback(|| async { answer::not_found("the stand-in serves no such path") })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), door))
        .with_state(shared)
}

/// Who may ask at all, and what was asked.
async fn door(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match refusal(&shared, &request) {
        Some(response) => response,
        None => next.run(request).await,
    }
}

fn refusal(shared: &Shared, request: &Request) -> Option<Response> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut asked = shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
    if asked.len() >= REQUESTS_KEPT {
        asked.remove(0);
    }
    asked.push(Asked {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        accept: header("accept"),
    });
    if *shared.down.borrow() {
        return Some(answer::status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "the stand-in is down"));
    }
    let authorization = header(AUTHORIZATION.as_str());
    let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
    let known = shared.tokens.lock().unwrap_or_else(PoisonError::into_inner).contains(token);
    (!known).then(|| answer::status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized"))
}

/// A running stand-in; it ends when dropped.
pub struct ApiServer {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    certificates: Certificates,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl ApiServer {
    /// Starts one without objects, on a free port.
    ///
    /// # Errors
    /// Where it cannot listen, or the crypto library refuses.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the stand-in cannot listen")?).await
    }

    /// The same where somebody listens already: on loopback, also of another network namespace.
    ///
    /// # Errors
    /// Where it cannot take connections, or the crypto library refuses.
    pub async fn start_on(listener: std::net::TcpListener) -> anyhow::Result<Self> {
        let certificates = certificates::make()?;
        let tls = listener::tls(&certificates)?;
        listener.set_nonblocking(true)?;
        let tcp = TcpListener::from_std(listener)?;
        let address = tcp.local_addr()?;
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            signals: watch::Sender::new(Signals { version: objects::FIRST_VERSION, ..Signals::default() }),
            tokens: Mutex::new(HashSet::from([TOKEN.to_owned()])),
            asked: Mutex::default(),
            issued: Mutex::default(),
            forbidden: Mutex::default(),
            kubelet: Mutex::default(),
            forward: Mutex::default(),
            down: watch::Sender::new(false),
        });
        let listener = listener::Listener::new(tcp, tls, shared.down.subscribe(), shared.signals.subscribe());
        let router = routes(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // Ends only with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, certificates, shared, server })
    }

    /// Writes a kubeconfig with the CA and [`TOKEN`].
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn kubeconfig(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        self.kubeconfig_with(folder, TOKEN)
    }

    /// The same with another token.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn kubeconfig_with(&self, folder: &Path, token: &str) -> anyhow::Result<PathBuf> {
        let ca = folder.join("apiserver-ca.pem");
        fs::write(&ca, &self.certificates.ca)?;
        let path = folder.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: stand-in\nclusters:\n- name: stand-in\n  cluster:\n    server: \
             https://localhost:{port}\n    certificate-authority: {ca:?}\nusers:\n- name: test\n  user:\n    token: {token}\ncontexts:\n\
             - name: stand-in\n  context:\n    cluster: stand-in\n    user: test\n",
            port = self.address.port(),
            ca = ca.display().to_string(),
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Adds an object or replaces the one with its name. `resource` is the plural, such as `pods`; the object needs `metadata.name`.
    ///
    /// # Panics
    /// Where the stand-in does not serve the resource, or the object has no name.
    pub fn set(&self, resource: &str, object: Value) {
        self.shared.change(|objects| objects.set(resource, object));
    }

    /// Deletes an object; whether there was one. Nodes have an empty namespace.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.shared.change(|objects| objects.delete(resource, namespace, name))
    }

    /// An object as it is.
    #[must_use]
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.objects().get(resource, namespace, name).map(|object| (*object).clone())
    }

    /// Objects of a resource in a namespace, by their names.
    #[must_use]
    pub fn objects(&self, resource: &str, namespace: &str) -> Vec<Value> {
        self.shared.objects().page(resource, namespace, None, usize::MAX).0.into_iter().map(|(_, object)| (*object).clone()).collect()
    }

    /// How many objects of a resource there are.
    #[must_use]
    pub fn count(&self, resource: &str) -> usize {
        self.shared.objects().count(resource)
    }

    /// Every watch ends with 410 Gone, and so does whatever goes on from a version before this.
    pub fn gone(&self) {
        self.shared.objects().compact();
        self.shared.signals.send_modify(|signals| signals.gone += 1);
    }

    /// Forgets what changed before this, without telling the watches that are open.
    pub fn compact(&self) {
        self.shared.objects().compact();
    }

    /// Cuts every connection, answers in the middle.
    pub fn drop_connections(&self) {
        self.shared.signals.send_modify(|signals| signals.cut += 1);
    }

    /// Sends a bookmark on every watch that allows them.
    pub fn bookmark(&self) {
        self.shared.signals.send_modify(|signals| signals.bookmarks += 1);
    }

    /// Closes every connection and takes no other, or serves again.
    pub fn set_down(&self, down: bool) {
        self.shared.down.send_replace(down);
        if down {
            self.drop_connections();
        }
    }

    /// Knows another token from now on.
    pub fn allow(&self, token: &str) {
        self.shared.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned());
    }

    /// Knows a token no more.
    pub fn revoke(&self, token: &str) {
        self.shared.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }

    /// What was asked so far, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.drop_connections();
        self.server.abort();
    }
}
