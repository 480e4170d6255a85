//! Programs inside containers of the small kubelet, over a WebSocket: standard output on channel 1, standard input on 0, the end on 3.

use std::{
    process::Stdio,
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
    routing::get,
};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    Shared, answer,
    kubelet::{Running, is_played, lives, now_unix_ms},
    resources::decoded,
    socket::{self, Socket},
};
use crate::checkout;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STATUS: u8 = 3;

/// The paths of this group.
pub fn router() -> Router<Arc<Shared>> {
    Router::new().route("/api/{version}/namespaces/{namespace}/pods/{name}/exec", get(exec))
}

async fn exec(
    State(shared): State<Arc<Shared>>,
    Path((_, namespace, name)): Path<(String, String, String)>,
    mut request: Request,
) -> Response {
    let kubelet = shared.kubelet.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(pod) = kubelet.and_then(|kubelet| kubelet.find(&namespace, &name)) else {
        return answer::not_found(&format!("pods {name:?} not found"));
    };
    if !pod.lives() {
        return answer::status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "unable to upgrade connection: container not found");
    }
    let query = request.uri().query().unwrap_or_default();
    let command: Vec<String> = query.split('&').filter_map(|pair| pair.strip_prefix("command=")).map(decoded).collect();
    let Some((response, upgrade)) = socket::switch(&mut request) else {
        return answer::status(StatusCode::BAD_REQUEST, "BadRequest", "the stand-in runs programs over WebSockets only");
    };
    tokio::spawn(async move {
        let Some(socket) = socket::socket(upgrade).await else { return };
        // Ends when one of the two sides did.
        let _ = perform(socket, &pod, &command).await;
    });
    response
}

async fn perform(mut socket: Socket, pod: &Running, command: &[String]) -> anyhow::Result<()> {
    let number = |flag: &str| command.iter().find_map(|arg| arg.strip_prefix(flag)?.parse::<u64>().ok()).unwrap_or(0);
    let milliseconds = number("--milliseconds=");
    match command.get(1).map(String::as_str) {
        Some("turn") => {
            let turned = pod.turn(lives(command), i64::try_from(milliseconds)?);
            say(&mut socket, &json!({"turned_unix_ms": turned})).await?;
        }
        Some("held") if is_played(command) => {
            say(&mut socket, &json!({"began_unix_ms": now_unix_ms()})).await?;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(milliseconds)) => {}
                () = let_go(&mut socket) => {}
            }
            say(&mut socket, &json!({"ended_unix_ms": now_unix_ms(), "early": null})).await?;
        }
        _ => real(&mut socket, pod, command).await?,
    }
    let mut end = vec![STATUS];
    end.extend(json!({"status": "Success", "metadata": {}}).to_string().into_bytes());
    socket.send(Message::binary(end)).await?;
    Ok(socket.close(None).await?)
}

/// The real program, its lines passed on, held by the connection.
async fn real(socket: &mut Socket, pod: &Running, command: &[String]) -> anyhow::Result<()> {
    let mut process = Command::new(checkout::binary("vedette-range"));
    let process = process.args(pod.filled(&command[1..])).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = process.kill_on_drop(true).spawn()?;
    let mut stdin = child.stdin.take();
    let mut lines = BufReader::new(child.stdout.take().ok_or_else(|| anyhow::anyhow!("no output"))?).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => say_text(socket, &line).await?,
                None => break,
            },
            () = let_go(socket), if stdin.is_some() => {
                if let Some(mut stdin) = stdin.take() {
                    let _ = stdin.write_all(b"\n").await;
                }
            }
        }
    }
    child.wait().await?;
    Ok(())
}

/// Until something comes on standard input, or nobody is there any more.
async fn let_go(socket: &mut Socket) {
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) if bytes.first() == Some(&STDIN) && bytes.len() > 1 => return,
            Message::Close(_) => return,
            _ => {}
        }
    }
}

async fn say(socket: &mut Socket, line: &Value) -> anyhow::Result<()> {
    say_text(socket, &line.to_string()).await
}

async fn say_text(socket: &mut Socket, line: &str) -> anyhow::Result<()> {
    let mut bytes = vec![STDOUT];
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    Ok(socket.send(Message::binary(bytes)).await?)
}
