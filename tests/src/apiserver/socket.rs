//! WebSockets of the API: who asks for one gets the subprotocol that the stand-in speaks, or nothing.

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderValue, StatusCode,
        header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
    },
    response::Response,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

/// The subprotocol: a byte before each message names its channel.
pub const PROTOCOL: &str = "v4.channel.k8s.io";

/// The server's end.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The answer that switches, and what becomes the socket; `None` where the request offers no such protocol.
pub fn switch(request: &mut Request) -> Option<(Response, OnUpgrade)> {
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let offered = header(SEC_WEBSOCKET_PROTOCOL).split(',').any(|one| one.trim() == PROTOCOL);
    let accept = HeaderValue::from_str(&derive_accept_key(header(SEC_WEBSOCKET_KEY).as_bytes())).ok().filter(|_| offered)?;
    let upgrade = hyper::upgrade::on(request);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Some((response, upgrade))
}

/// The socket, once the connection switched.
pub async fn socket(upgrade: OnUpgrade) -> Option<Socket> {
    let upgraded = upgrade.await.ok()?;
    Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await)
}
