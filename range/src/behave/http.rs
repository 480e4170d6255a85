//! HTTP/1.1 in the small: what the range's services and clients speak to each other, with keep-alive.

use std::{io, net::SocketAddrV4, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::guard::Guard;

/// Longest head of a request or response, bytes.
const MAX_HEAD: u64 = 8 * 1024;
/// Longest body that a service reads, bytes; a client that sends more is cut off.
const MAX_ASKED: usize = 256 * 1024;
/// Longest body that a client reads, bytes; a server that sends more is left.
const MAX_ANSWERED: usize = 16 * 1024 * 1024;
/// How long a client waits for a connection, and for a whole answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A request as a client means it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), body: Vec::new() }
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// One keep-alive connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
    host: SocketAddrV4,
}

impl Client {
    /// Connects, if the guard allows it.
    pub(super) async fn connect(guard: &Guard, target: SocketAddrV4) -> io::Result<Self> {
        guard.check(target).map_err(io::Error::other)?;
        let stream = timeout(PATIENCE, TcpStream::connect(target)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: target })
    }

    /// One request and its whole answer.
    pub(super) async fn ask(&mut self, ask: &Ask) -> io::Result<Answer> {
        timeout(PATIENCE, async {
            self.send(ask).await?;
            let head = self.head().await?;
            let body = match head.body {
                Body::Length(length) if length <= MAX_ANSWERED => {
                    let mut body = vec![0; length];
                    self.stream.read_exact(&mut body).await?;
                    body
                }
                Body::Length(_) => return Err(io::ErrorKind::InvalidData.into()),
                Body::Chunks => {
                    let mut body = Vec::new();
                    while let Some(chunk) = self.chunk().await? {
                        body.extend_from_slice(&chunk);
                        if body.len() > MAX_ANSWERED {
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                    }
                    body
                }
            };
            Ok(Answer { status: head.status, body })
        })
        .await?
    }

    /// Sends a request whose answer has no end: read it with [`Client::more`].
    pub(super) async fn follow(&mut self, ask: &Ask) -> io::Result<Following> {
        timeout(PATIENCE, async {
            self.send(ask).await?;
            let head = self.head().await?;
            Ok(Following { status: head.status, body: head.body })
        })
        .await?
    }

    /// The next piece of an answer without an end; `None` when it ended after all.
    pub(super) async fn more(&mut self, following: &mut Following) -> io::Result<Option<Vec<u8>>> {
        match &mut following.body {
            Body::Chunks => self.chunk().await,
            Body::Length(0) => Ok(None),
            Body::Length(left) => {
                let mut piece = vec![0; (*left).min(64 * 1024)];
                self.stream.read_exact(&mut piece).await?;
                *left -= piece.len();
                Ok(Some(piece))
            }
        }
    }

    async fn send(&mut self, ask: &Ask) -> io::Result<()> {
        let Ask { method, path, body } = ask;
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n", self.host).into_bytes();
        if !body.is_empty() {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes).await
    }

    async fn head(&mut self) -> io::Result<Head> {
        let lines = head_lines(&mut self.stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Head::parse(&lines).ok_or_else(|| io::Error::other("response without a status or a length"))
    }

    async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        (&mut self.stream).take(MAX_HEAD).read_line(&mut line).await?;
        let length = usize::from_str_radix(line.trim(), 16).ok().filter(|&length| length <= MAX_ANSWERED);
        let length = length.ok_or(io::ErrorKind::InvalidData)?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).await?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }
}

/// An answer without an end.
pub(super) struct Following {
    pub(super) status: u16,
    body: Body,
}

#[derive(Debug, PartialEq)]
enum Body {
    Length(usize),
    Chunks,
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    body: Body,
}

impl Head {
    fn parse(lines: &[String]) -> Option<Self> {
        let status = lines.first()?.split(' ').nth(1)?.parse().ok()?;
        if header(lines, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Some(Self { status, body: Body::Chunks });
        }
        Some(Self { status, body: Body::Length(header(lines, "content-length")?.parse().ok()?) })
    }
}

fn header<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    let mut pairs = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The lines of a head without the empty one; `None` where the peer closed before it began one.
async fn head_lines(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<String>>> {
    let mut stream = stream.take(MAX_HEAD);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return if lines.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(lines));
        }
        lines.push(line.to_owned());
    }
}

/// A request as a service got it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    /// After the `?`; empty without one.
    pub(super) query: String,
    pub(super) body: Vec<u8>,
}

/// What a service answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, kind: "text/plain", body: body.into() }
    }
}

/// Serves until killed, `most` connections at once; more are closed unanswered.
pub(super) async fn serve<F, R>(listener: TcpListener, most: usize, handle: F)
where
    F: Fn(Asked) -> R + Clone + Send + 'static,
    R: Future<Output = Reply> + Send,
{
    let places = Arc::new(Semaphore::new(most));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let handle = handle.clone();
        tokio::spawn(async move {
            // A client that goes away is ordinary.
            let _ = converse(stream, handle).await;
            drop(place);
        });
    }
}

async fn converse<F, R>(stream: TcpStream, handle: F) -> io::Result<()>
where
    F: Fn(Asked) -> R,
    R: Future<Output = Reply>,
{
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(lines) = head_lines(&mut stream).await? {
        let mut words = lines.first().map(String::as_str).unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(io::ErrorKind::InvalidData.into()) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let length = header(&lines, "content-length").map_or(Some(0), |length| length.parse().ok());
        let length = length.filter(|&length| length <= MAX_ASKED).ok_or(io::ErrorKind::InvalidData)?;
        let mut asked = Asked { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), body: vec![0; length] };
        stream.read_exact(&mut asked.body).await?;
        let reply = handle(asked).await;
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            reply.status,
            reason(reply.status),
            reply.kind,
            reply.body.len()
        );
        stream.write_all(&[head.as_bytes(), &reply.body].concat()).await?;
    }
    Ok(())
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        404 => "Not Found",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Answered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_head_says_how_its_body_ends() {
        let length = Head::parse(&lines("HTTP/1.1 200 OK\ncontent-length: 12"));
        let chunks = Head::parse(&lines("HTTP/1.1 404 Not Found\nTransfer-Encoding: chunked"));

        assert_eq!(length, Some(Head { status: 200, body: Body::Length(12) }));
        assert_eq!(chunks, Some(Head { status: 404, body: Body::Chunks }));
        assert_eq!(Head::parse(&lines("HTTP/1.1 200 OK\nContent-Type: text/plain")), None);
    }

    #[tokio::test]
    async fn a_service_keeps_the_connection_and_reads_bodies() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, 4, |asked: Asked| async move {
            Reply::text(201, format!("{} {} {} {}", asked.method, asked.path, asked.query, asked.body.len()))
        }));
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let mut client = async |text: &str| {
            stream.write_all(text.as_bytes()).await.unwrap();
            let head = head_lines(&mut stream).await.unwrap().unwrap();
            let mut body = vec![0; header(&head, "content-length").unwrap().parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            String::from_utf8(body).unwrap()
        };

        assert_eq!(client("GET /a?b=c HTTP/1.1\r\n\r\n").await, "GET /a b=c 0");
        assert_eq!(client("POST /d HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz").await, "POST /d  3");
    }
}
