//! With whom a pod talks, from `net/tcp` and `net/tcp6`: read once when the pod starts to look odd, since the kernel walks the
//! host's whole table for it.

use std::{
    collections::{HashMap, HashSet},
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use vedette_proto::v1::Peer;

use crate::parse::{lines, words};

/// Peers that are named; connections of the others are counted.
const MAX_PEERS: usize = 32;
/// Most that is read of one table: 10,000 connections.
const MAX_TABLE: u64 = 1_500_000;
/// Ports from here on are taken for ephemeral (Linux's default range begins here).
const FIRST_EPHEMERAL: u16 = 32_768;

const SYN_SENT: u8 = 0x02;
const LISTEN: u8 = 0x0A;

/// The most frequent peers, and the connections that they do not cover. `None` where neither table can be read.
#[must_use]
pub fn read(proc: &str, pid: u32) -> Option<(Vec<Peer>, u64)> {
    let mut text = Vec::new();
    let mut read_any = false;
    for table in ["tcp", "tcp6"] {
        if let Ok(file) = std::fs::File::open(format!("{proc}/{pid}/net/{table}")) {
            read_any |= file.take(MAX_TABLE).read_to_end(&mut text).is_ok();
        }
    }
    read_any.then(|| peers(&text))
}

/// Counts the rows of tables that follow each other.
#[must_use]
pub fn peers(text: &[u8]) -> (Vec<Peer>, u64) {
    let rows: Vec<_> = lines(text).filter_map(row).collect();
    let listening: HashSet<u16> = rows.iter().filter(|row| row.state == LISTEN).map(|row| row.local_port).collect();
    let mut counted: HashMap<(IpAddr, u16, bool), (u64, u64)> = HashMap::new();
    for row in rows.iter().filter(|row| row.state != LISTEN) {
        let inbound = listening.contains(&row.local_port);
        let port = if inbound { row.local_port } else { row.remote_port };
        // An ephemeral port of the far end says nothing, and would make every connection its own peer.
        let port = if !inbound && port >= FIRST_EPHEMERAL { 0 } else { port };
        let (connections, connecting) = counted.entry((row.remote, port, inbound)).or_default();
        *connections += 1;
        *connecting += u64::from(row.state == SYN_SENT);
    }
    let mut peers: Vec<_> = counted
        .into_iter()
        .map(|((address, port, inbound), (connections, connecting))| Peer {
            address: address.to_string(),
            port: u32::from(port),
            connections,
            connecting,
            inbound,
        })
        .collect();
    peers.sort_by(|a, b| b.connections.cmp(&a.connections).then_with(|| (&a.address, a.port).cmp(&(&b.address, b.port))));
    let others = peers.iter().skip(MAX_PEERS).map(|peer| peer.connections).sum();
    peers.truncate(MAX_PEERS);
    (peers, others)
}

struct Row {
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
    state: u8,
}

/// One row; `None` for a heading and anything else.
fn row(line: &[u8]) -> Option<Row> {
    let mut words = words(line).skip(1);
    let (_, local_port) = end(words.next()?)?;
    let (remote, remote_port) = end(words.next()?)?;
    let state = u8::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
    Some(Row { local_port, remote, remote_port, state })
}

/// `ADDRESS:PORT` in hexadecimal: the address in words of the host's byte order.
fn end(word: &[u8]) -> Option<(IpAddr, u16)> {
    let text = std::str::from_utf8(word).ok()?;
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0u8; 16];
    if address.len() % 8 != 0 || address.len() > 32 {
        return None;
    }
    for (place, chunk) in address.as_bytes().chunks(8).enumerate() {
        let word = u32::from_str_radix(std::str::from_utf8(chunk).ok()?, 16).ok()?;
        bytes[place * 4..place * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        32 => Ipv6Addr::from(bytes).to_canonical(),
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0200000A:1F90 0300000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0200000A:C351 0900000A:0016 02 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
   3: 0200000A:C352 0900000A:0016 02 00000000:00000000 00:00000000 00000000     0        0 4 1 0 20 4 30 10 -1
";

    #[test]
    fn clients_and_targets_are_told_apart() {
        let (peers, others) = peers(TABLE.as_bytes());

        assert_eq!(others, 0);
        assert_eq!(peers.len(), 2);
        assert_eq!((peers[0].address.as_str(), peers[0].port, peers[0].connections, peers[0].connecting), ("10.0.0.9", 22, 2, 2));
        assert_eq!((peers[1].address.as_str(), peers[1].port, peers[1].inbound), ("10.0.0.3", 8_080, true));
    }

    #[test]
    fn a_sweep_is_cut_to_the_most_frequent() {
        let table: String = (1..=100).map(|host| format!(" {host}: 0200000A:C351 {host:02X}00000A:0050 02 0 0 0 0\n")).collect();

        let (peers, others) = peers(table.as_bytes());

        assert_eq!((peers.len(), others), (MAX_PEERS, 100 - MAX_PEERS as u64));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..300), line in "[0-9: A-F]{0,80}") {
            let _ = peers(&text);
            let _ = peers(line.as_bytes());
        }
    }
}
