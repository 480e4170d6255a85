//! Takes connections in: bounded in number, TLS before anything else, a slow handshake hurts nobody.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::counters::Counters;

/// A handshake takes two round trips; whoever needs longer than this holds a place for nothing.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that finished their handshake and wait to be served.
const WAITING: usize = 64;

/// A connection after its handshake; gives its place back when dropped.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// Accepts until the receiver is dropped. At most `limit` connections at once; one more is closed and counted.
#[must_use]
pub fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    limit: usize,
    counters: Arc<Counters>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, waiting) = mpsc::channel(WAITING);
    let places = Arc::new(Semaphore::new(limit));
    let acceptor = TlsAcceptor::from(tls);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, mostly: pause, or this loop takes a whole core.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                counters.connections_refused.inc();
                continue;
            };
            let (acceptor, ready, counters) = (acceptor.clone(), ready.clone(), Arc::clone(&counters));
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let _ = ready.send(Ok(Connection { stream, _place: place })).await;
                    }
                    Ok(Err(error)) => {
                        counters.handshakes_failed.inc();
                        tracing::debug!(%error, "handshake failed");
                    }
                    Err(_) => {
                        counters.handshakes_failed.inc();
                    }
                }
            });
        }
    });
    ReceiverStream::new(waiting)
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().0.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
