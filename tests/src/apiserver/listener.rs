//! TLS connections, and the two ways in which a test ends them.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{Stream, wrappers::WatchStream};

use super::Signals;
use crate::certificates::Certificates;

/// Connections whose handshake is done and that nobody took yet.
const QUEUE: usize = 64;

/// The server's side of TLS.
pub fn tls(certificates: &Certificates) -> anyhow::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(certificates.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes())?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Gives connections whose handshake is done; one that dawdles holds up nobody.
pub struct Listener {
    connections: mpsc::Receiver<(Connection, SocketAddr)>,
    address: io::Result<SocketAddr>,
}

impl Listener {
    /// Takes connections from now on.
    pub fn new(tcp: TcpListener, tls: TlsAcceptor, down: watch::Receiver<bool>, signals: watch::Receiver<Signals>) -> Self {
        let address = tcp.local_addr();
        let (taken, connections) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while !taken.is_closed() {
                let accepted = tokio::select! {
                    accepted = tcp.accept() => accepted,
                    () = taken.closed() => return,
                };
                let Ok((stream, peer)) = accepted else { continue };
                if *down.borrow() {
                    continue;
                }
                let (tls, taken, signals) = (tls.clone(), taken.clone(), signals.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = taken.send((Connection::new(stream, signals), peer)).await;
                    }
                });
            }
        });
        Self { connections, address }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }
}

/// A connection that breaks when a test says so, also in the middle of an answer.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    signals: WatchStream<Signals>,
    cut: Option<u64>,
    broken: bool,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, signals: watch::Receiver<Signals>) -> Self {
        Self { stream, signals: WatchStream::new(signals), cut: None, broken: false }
    }

    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.broken {
            match Pin::new(&mut self.signals).poll_next(context) {
                Poll::Ready(Some(signals)) => self.broken = *self.cut.get_or_insert(signals.cut) != signals.cut,
                Poll::Ready(None) => self.broken = true,
                Poll::Pending => return Ok(()),
            }
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.look(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.look(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
