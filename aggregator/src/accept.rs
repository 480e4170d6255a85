//! Takes connections in: bounded in number, TLS before anything else, a slow handshake hurts nobody.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
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
    _seat: Seat,
}

/// Most connections: of all, and of one address.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Of all.
    pub connections: usize,
    /// Of one address. Loopback is not counted: there everybody arrives whose port is forwarded.
    pub of_one_address: usize,
}

/// Connections by address; no more addresses than connections.
#[derive(Debug, Default)]
struct Seats(Mutex<HashMap<IpAddr, usize>>);

/// One of the connections of an address; gives its place back when dropped.
struct Seat(Option<(Arc<Seats>, IpAddr)>);

impl Seats {
    fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Seat> {
        let address = address.to_canonical();
        if address.is_loopback() {
            return Some(Seat(None));
        }
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(address).or_insert(0);
        (*taken < most).then(|| {
            *taken += 1;
            Seat(Some((Arc::clone(self), address)))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((seats, address)) = &self.0 else { return };
        let mut seats = seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(address) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(address);
            }
        }
    }
}

/// Accepts until the receiver is dropped. Beyond the limits a connection is closed and counted.
#[must_use]
pub fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    most: Most,
    counters: Arc<Counters>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, waiting) = mpsc::channel(WAITING);
    let places = Arc::new(Semaphore::new(most.connections));
    let acceptor = TlsAcceptor::from(tls);
    let seats = Arc::new(Seats::default());
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    // Out of file descriptors, mostly: pause, or this loop takes a whole core.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (place, seat) = (Arc::clone(&places).try_acquire_owned(), seats.take(address, most.of_one_address));
            let (Ok(place), Some(seat)) = (place, seat) else {
                counters.connections_refused.inc();
                continue;
            };
            let (acceptor, ready, counters) = (acceptor.clone(), ready.clone(), Arc::clone(&counters));
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let _ = ready.send(Ok(Connection { stream, _place: place, _seat: seat })).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_so_many_connections_and_loopback_any_number() {
        let seats = Arc::new(Seats::default());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));

        let mut held: Vec<_> = (0..5).map(|_| seats.take(one, 3)).collect();
        let of_other = seats.take(other, 3);
        let of_loopback = (0..100).filter(|_| seats.take([127, 0, 0, 1].into(), 3).is_some()).count();

        assert_eq!(held.iter().filter(|seat| seat.is_some()).count(), 3);
        assert!(of_other.is_some());
        assert_eq!(of_loopback, 100);
        held.clear();
        drop(of_other);
        assert!(seats.0.lock().unwrap().is_empty());
    }
}
