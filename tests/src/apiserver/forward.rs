//! Port-forwards over a WebSocket, as `v4.channel.k8s.io` has them: a byte names the channel, the first frame of each names the port.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError},
};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
    routing::get,
};
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    ApiServer, Shared, answer,
    socket::{self, Socket},
};

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
    let (Some(port), Some((response, upgrade))) = (port, socket::switch(&mut request)) else {
        return answer::status(StatusCode::BAD_REQUEST, "BadRequest", "one port over a WebSocket is all that the stand-in forwards");
    };
    let target = *shared.forward.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::spawn(async move {
        let Some(socket) = socket::socket(upgrade).await else { return };
        // Ends when one of the two sides did.
        let _ = carry(socket, port, target).await;
    });
    response
}

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
