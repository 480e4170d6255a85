//! Where to listen: on both families of addresses where there are two.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: u32 = 1_024;

/// Listens. `[::]` is everything, IPv4 included; where IPv6 is off it is `0.0.0.0`.
///
/// # Errors
/// What the kernel says of the address that was asked for.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match bind_exactly(address) {
        Err(error) => match instead(address, &error) {
            Some(address) => bind_exactly(address),
            None => Err(error),
        },
        listener => listener,
    }
}

fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseaddr(true)?;
    if is_everything(address) {
        // Whatever net.ipv6.bindv6only says.
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_everything(address: SocketAddr) -> bool {
    address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

/// What `[::]` stands for where the kernel has no IPv6.
fn instead(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let off = matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL));
    (off && is_everything(address)).then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_is_reached_by_ipv4_too() {
        let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();

        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)), listener.accept());

        assert_eq!(client.unwrap().local_addr().unwrap().ip(), accepted.unwrap().1.ip().to_canonical());
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();

        let error = bind(first.local_addr().unwrap()).await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn only_everything_falls_back_and_only_without_ipv6() {
        let (all, one): (SocketAddr, SocketAddr) = ("[::]:7443".parse().unwrap(), "[::1]:7443".parse().unwrap());
        let error = |errno: Errno| io::Error::from(errno);

        assert_eq!(instead(all, &error(Errno::AFNOSUPPORT)), Some("0.0.0.0:7443".parse().unwrap()));
        assert_eq!(instead(all, &error(Errno::ADDRNOTAVAIL)), Some("0.0.0.0:7443".parse().unwrap()));
        assert_eq!(instead(all, &error(Errno::ADDRINUSE)), None);
        assert_eq!(instead(one, &error(Errno::AFNOSUPPORT)), None);
    }
}
