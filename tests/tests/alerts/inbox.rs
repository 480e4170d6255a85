//! A web server that keeps what is posted to it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    routing::any,
};
use serde_json::Value;

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    /// `x-vedette-id` and `x-vedette-signature`.
    pub id: String,
    pub signature: String,
    pub body: Value,
}

#[derive(Clone)]
pub struct Inbox {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Inbox {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inbox = Self { address: listener.local_addr().unwrap(), calls: Arc::default() };
        let router = Router::new().fallback(any(keep)).with_state(inbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        inbox
    }

    /// Calls of a path that hold an alert or event with this status.
    pub fn calls(&self, path: &str, status: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.path == path && call.body["status"] == status).cloned().collect()
    }
}

async fn keep(State(inbox): State<Inbox>, request: Request) -> StatusCode {
    let (id, signature) = {
        // What borrows a body may not be there while it is awaited.
        let header = |name: &str| request.headers().get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned());
        (header("x-vedette-id"), header("x-vedette-signature"))
    };
    let path = request.uri().path().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    inbox.calls.lock().unwrap().push(Call { path, id, signature, body: serde_json::from_slice(&body).unwrap() });
    StatusCode::OK
}
