//! Port-forwards over a WebSocket, as `v4.channel.k8s.io` has them: a byte names the channel, the first frame of each names the port.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
    },
    response::Response,
    routing::get,
};
use futures::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{ApiServer, Shared, answer};

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Channels of the one port: data, errors.
const DATA: u8 = 0;
const ERROR: u8 = 1;

/// The paths of this group.
pub fn router() -> Router<Arc<Shared>> {
    Router::new().route("/api/{version}/namespaces/{namespace}/pods/{name}/portforward", get(forward))
}

async fn forward(
    State(shared): State<Arc<Shared>>,
    Path((_, namespace, name)): Path<(String, String, String)>,
    mut request: Request,
) -> Response {
    if shared.objects().get("pods", &namespace, &name).is_none() {
        return answer::not_found(&format!("pods {name:?} not found"));
    }
    let query = request.uri().query().unwrap_or_default();
    let port = query.split('&').find_map(|pair| pair.strip_prefix("ports=")).and_then(|port| port.parse::<u16>().ok());
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let offered = header(SEC_WEBSOCKET_PROTOCOL).split(',').any(|one| one.trim() == PROTOCOL);
    let accept = HeaderValue::from_str(&derive_accept_key(header(SEC_WEBSOCKET_KEY).as_bytes()));
    let (Some(port), true, Ok(accept)) = (port, offered, accept) else {
        return answer::status(StatusCode::BAD_REQUEST, "BadRequest", "one port over a WebSocket is all that the stand-in forwards");
    };
    let target = *shared.forward.lock().unwrap_or_else(PoisonError::into_inner);
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        // Ends when one of the two sides did.
        let _ = carry(socket, port, target).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn carry(socket: Socket, port: u16, target: Option<SocketAddr>) -> anyhow::Result<()> {
    let (mut to_client, mut from_client) = socket.split();
    let [low, high] = port.to_le_bytes();
    for channel in [DATA, ERROR] {
        to_client.send(Message::binary(vec![channel, low, high])).await?;
    }
    let connected = match target {
        Some(target) => TcpStream::connect(target).await.map_err(|error| error.to_string()),
        None => Err("connection refused".to_owned()),
    };
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => {
            let mut text = vec![ERROR];
            text.extend(format!("error forwarding port {port} to pod: {error}").into_bytes());
            to_client.send(Message::binary(text)).await?;
            to_client.send(Message::Close(None)).await?;
            return Ok(());
        }
    };
    let (mut read, mut write) = stream.into_split();
    let up = async {
        while let Some(message) = from_client.next().await {
            match message? {
                Message::Binary(bytes) if bytes.first() == Some(&DATA) => write.write_all(&bytes[1..]).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        write.shutdown().await?;
        anyhow::Ok(())
    };
    let down = async {
        let mut bytes = vec![DATA; 1 + (16 << 10)];
        loop {
            let length = read.read(&mut bytes[1..]).await?;
            if length == 0 {
                return anyhow::Ok(to_client.send(Message::Close(None)).await?);
            }
            to_client.send(Message::binary(bytes[..=length].to_vec())).await?;
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

impl ApiServer {
    /// Port-forwards to any pod lead here; nowhere before this.
    pub fn forward_to(&self, target: SocketAddr) {
        *self.shared.forward.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }
}
