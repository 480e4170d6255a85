//! An API server's answers without an API server: versions, lists of objects page by page, single objects, watches, and 403 for what a
//! pod's own token may not see. Plain HTTP/1.1.

use std::{fmt::Write, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Semaphore,
};

use super::{BehaviourError, jittered, listen};

/// Connections at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 512;
/// Longest head of a request, and longest body that is read and thrown away.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;
/// Most objects that there are of anything.
const MAX_OBJECTS: usize = 5_000;
/// Most objects of one answer that names no limit.
const PAGE: usize = 500;
/// What a pod's own token may not see, wherever it stands in a path.
const FORBIDDEN: [&str; 6] = ["secrets", "nodes", "clusterroles", "roles", "serviceaccounts", "certificatesigningrequests"];
/// Kinds that there are, and how large one is, bytes.
const KINDS: [(&str, usize); 10] = [
    ("pods", 3_600),
    ("services", 900),
    ("configmaps", 1_800),
    ("endpoints", 1_100),
    ("namespaces", 400),
    ("events", 800),
    ("deployments", 2_400),
    ("replicasets", 2_200),
    ("jobs", 1_600),
    ("ingresses", 1_000),
];

/// Where it listens, what it holds.
#[derive(clap::Args, Debug)]
pub struct ApiArgs {
    /// Address to listen on
    #[arg(long)]
    address: Ipv4Addr,
    /// Port to listen on
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// Objects of each kind, at most 5,000
    #[arg(long, default_value_t = 60)]
    objects: usize,
    /// Mean milliseconds between two events of a watch
    #[arg(long, default_value_t = 1_500)]
    event_ms: u64,
}

/// Serves until killed.
pub(super) async fn run(args: ApiArgs) -> Result<(), BehaviourError> {
    let listener = listen(args.address, args.port).await?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (objects, every) = (args.objects.min(MAX_OBJECTS), Duration::from_millis(args.event_ms.max(10)));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        tokio::spawn(async move {
            // A client that goes away is ordinary.
            let _ = serve(stream, objects, every).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, objects: usize, every: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some((target, body, last)) = request(&mut stream).await? {
        stream.read_exact(&mut vec![0; body]).await?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let Answer { status, body } = answer(path, query, objects);
        if status == 200 && parameter(query, "watch") == Some("true") {
            return watch(&mut stream, every).await;
        }
        let reason = match status {
            200 => "OK",
            403 => "Forbidden",
            _ => "Not Found",
        };
        let head = format!("HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        if last {
            break;
        }
    }
    Ok(())
}

/// Target, length of the body, and whether it is the last request of the connection; `None` when there is no more.
async fn request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, usize, bool)>> {
    let mut head = (&mut *stream).take(MAX_HEAD);
    let (mut target, mut body, mut last) = (None, 0, false);
    let mut line = String::new();
    loop {
        line.clear();
        if head.read_line(&mut line).await? == 0 {
            return if target.is_none() { Ok(None) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) };
        }
        let text = line.trim_end();
        match (&target, text.split_once(':')) {
            (None, _) => target = Some(text.split(' ').nth(1).ok_or(std::io::ErrorKind::InvalidData)?.to_owned()),
            (Some(target), _) if text.is_empty() => return Ok(Some((target.clone(), body, last))),
            (Some(_), Some((name, value))) if name.eq_ignore_ascii_case("content-length") => {
                body = value.trim().parse().ok().filter(|&bytes| bytes <= MAX_BODY).ok_or(std::io::ErrorKind::InvalidData)?;
            }
            (Some(_), Some((name, value))) if name.eq_ignore_ascii_case("connection") => last = value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
}

/// Events until the client goes.
async fn watch(stream: &mut BufReader<TcpStream>, every: Duration) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    loop {
        tokio::time::sleep(jittered(every)).await;
        let event = format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", object("pods", rand::random_range(0..100), 3_600));
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
}

struct Answer {
    status: u16,
    body: String,
}

/// What an API server would say, as far as sizes and codes go.
fn answer(path: &str, query: &str, objects: usize) -> Answer {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let ok = |body| Answer { status: 200, body };
    if parts.iter().any(|part| FORBIDDEN.contains(part)) {
        return Answer { status: 403, body: status(403, "Forbidden", path) };
    }
    let kind = |name: &str| KINDS.iter().find(|(kind, _)| *kind == name).copied();
    match &parts[..] {
        ["version" | "healthz" | "readyz" | "livez"] => ok("{\"major\":\"1\",\"minor\":\"33\",\"gitVersion\":\"v1.33.0\"}".to_owned()),
        ["api"] | ["apis"] | ["openapi", ..] => ok(groups(40)),
        ["api", _] | ["apis", _] | ["apis", _, _] => ok(groups(12)),
        [.., name] if kind(name).is_some() => {
            let (name, bytes) = kind(name).unwrap_or(KINDS[0]);
            // Of one namespace there is a part of them.
            let all = if parts.contains(&"namespaces") && name != "namespaces" { objects.div_ceil(5) } else { objects };
            ok(list(name, bytes, all, query))
        }
        [.., name, _] if kind(name).is_some() => {
            let (name, bytes) = kind(name).unwrap_or(KINDS[0]);
            ok(object(name, 0, bytes))
        }
        _ => Answer { status: 404, body: status(404, "NotFound", path) },
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

fn list(kind: &str, bytes: usize, all: usize, query: &str) -> String {
    let limit = parameter(query, "limit").and_then(|limit| limit.parse().ok()).filter(|&limit| limit > 0).unwrap_or(PAGE).min(PAGE);
    let first: usize = parameter(query, "continue").and_then(|token| token.parse().ok()).unwrap_or(0).min(all);
    let end = (first + limit).min(all);
    let token = if end < all { end.to_string() } else { String::new() };
    let mut body = format!("{{\"kind\":\"List\",\"metadata\":{{\"resourceVersion\":\"918273\",\"continue\":\"{token}\"}},\"items\":[");
    for number in first..end {
        body.push_str(if number > first { "," } else { "" });
        body.push_str(&object(kind, number, bytes));
    }
    body.push_str("]}");
    body
}

/// An object of about so many bytes.
fn object(kind: &str, number: usize, bytes: usize) -> String {
    let mut text = format!("{{\"kind\":\"{kind}\",\"metadata\":{{\"name\":\"{kind}-{number}\",\"namespace\":\"shop\",\"annotations\":{{");
    let mut field = 0;
    while text.len() + 80 < bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\"example.org/field-{field}\":\"{:016x}{:016x}\",", (number * 31 + field) * 0x9e37, field);
        field += 1;
    }
    let _ = write!(text, "\"last\":\"{number}\"}}}}}}");
    text
}

fn groups(count: usize) -> String {
    let groups: Vec<_> =
        (0..count).map(|number| format!("{{\"name\":\"group{number}.example.org\",\"versions\":[\"v1\",\"v1beta1\"]}}")).collect();
    format!("{{\"kind\":\"APIGroupList\",\"groups\":[{}]}}", groups.join(","))
}

fn status(code: u16, reason: &str, path: &str) -> String {
    let path: String = path.chars().filter(|c| c.is_ascii_alphanumeric() || "/-._".contains(*c)).take(200).collect();
    format!(
        "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"{path}: not for system:serviceaccount:shop:default\",\"reason\":\"{reason}\",\"code\":{code}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str) -> (u16, serde_json::Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Answer { status, body } = answer(path, query, 60);
        (status, serde_json::from_str(&body).unwrap())
    }

    #[test]
    fn lists_have_pages_and_objects_sizes() {
        let (status, all) = check("/api/v1/pods");
        let (_, first) = check("/api/v1/pods?limit=25");
        let (_, last) = check("/api/v1/pods?limit=25&continue=50");

        assert_eq!((status, all["items"].as_array().unwrap().len()), (200, 60));
        assert_eq!((first["items"].as_array().unwrap().len(), first["metadata"]["continue"].as_str().unwrap()), (25, "25"));
        assert_eq!((last["items"].as_array().unwrap().len(), last["metadata"]["continue"].as_str().unwrap()), (10, ""));
        assert!((3_000..4_000).contains(&object("pods", 1, 3_600).len()));
    }

    #[test]
    fn secrets_are_forbidden_and_what_is_not_there_is_not_found() {
        assert_eq!(check("/api/v1/namespaces/kube-system/secrets").0, 403);
        assert_eq!(check("/api/v1/namespaces/shop/pods/web-1").0, 200);
        assert_eq!(check("/apis/batch/v1/jobs").0, 200);
        assert_eq!(check("/nothing\"here").1["code"], 404);
    }
}
