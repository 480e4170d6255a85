//! SYNs made by hand and sent through a raw socket: no connection of this kernel's belongs to them. Every one is checked by the guard,
//! its source as well as its target.

use std::{
    net::{IpAddr, SocketAddrV4},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, eth, ipproto, recv, sendto, socket_with},
};

use super::BehaviourError;
use crate::guard::Guard;

/// IPv4 header, TCP header, and the one option that every kernel sends.
const PACKET_BYTES: usize = 20 + 20 + 4;
const TTL: u8 = 64;
/// Largest segment that the sender would take, as on Ethernet.
const MSS: u16 = 1_460;
const WINDOW: u16 = 64_240;
const SYN: u8 = 0x02;
const TCP: u8 = 6;
/// Packets taken from the listening socket at a time.
const MOST_HEARD: usize = 512;

/// Sends SYNs.
pub(super) struct SynSocket {
    socket: OwnedFd,
    guard: Guard,
}

impl SynSocket {
    /// Opens the raw socket; `CAP_NET_RAW` is needed.
    pub(super) fn open(guard: Guard) -> Result<Self, BehaviourError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::RAW));
        let socket = socket.map_err(|errno| BehaviourError::Io("open a raw socket", errno.into()))?;
        Ok(Self { socket, guard })
    }

    /// Sends one SYN. A full queue drops it, as a network would.
    pub(super) fn send(&self, from: SocketAddrV4, to: SocketAddrV4) -> Result<(), BehaviourError> {
        self.guard.check_address(IpAddr::V4(*from.ip()))?;
        self.guard.check(to)?;
        let packet = syn(from, to, rand::random());
        match sendto(&self.socket, &packet, SendFlags::empty(), &SocketAddrV4::new(*to.ip(), 0)) {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::HOSTUNREACH) => Ok(()),
            Err(errno) => Err(BehaviourError::Io("send through the raw socket", errno.into())),
        }
    }
}

/// Hears every packet of the pod, as a scanner must to see the answers.
pub(super) struct Ear {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Ear {
    /// Opens the packet socket; `CAP_NET_RAW` is needed.
    pub(super) fn open() -> Result<Self, BehaviourError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(eth::ALL));
        let socket = socket.map_err(|errno| BehaviourError::Io("open a packet socket", errno.into()))?;
        Ok(Self { socket, buffer: vec![0; 2_048] })
    }

    /// Takes what has been heard, and says how many packets.
    pub(super) fn hear(&mut self) -> usize {
        let mut heard = 0;
        while heard < MOST_HEARD && recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()).is_ok() {
            heard += 1;
        }
        heard
    }
}

/// An IPv4 packet with a SYN in it. The kernel fills in the IPv4 checksum.
fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(PACKET_BYTES as u16).to_be_bytes());
    packet[4..6].copy_from_slice(&(sequence as u16).to_be_bytes());
    packet[6] = 0x40;
    packet[8] = TTL;
    packet[9] = TCP;
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&sequence.to_be_bytes());
    packet[32] = 6 << 4;
    packet[33] = SYN;
    packet[34..36].copy_from_slice(&WINDOW.to_be_bytes());
    packet[40..42].copy_from_slice(&[2, 4]);
    packet[42..44].copy_from_slice(&MSS.to_be_bytes());
    let checksum = checksum(&packet);
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The TCP checksum: over both addresses, protocol and length, and the segment.
fn checksum(packet: &[u8; PACKET_BYTES]) -> u16 {
    let words = packet[12..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum::<u32>() + u32::from(TCP) + (PACKET_BYTES - 20) as u32;
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_is_one_to_whoever_reads_it() {
        let packet = syn("10.213.5.10:40000".parse().unwrap(), "10.213.5.11:80".parse().unwrap(), 7);

        assert_eq!(packet[0], 0x45);
        assert_eq!(u16::from_be_bytes([packet[2], packet[3]]), 44);
        assert_eq!((&packet[12..16], &packet[16..20]), (&[10, 213, 5, 10][..], &[10, 213, 5, 11][..]));
        assert_eq!(u16::from_be_bytes([packet[22], packet[23]]), 80);
        assert_eq!((packet[32] >> 4, packet[33]), (6, SYN));
    }

    #[test]
    fn the_checksum_is_right_when_the_receivers_sum_is_nothing() {
        let packet = syn("10.213.5.10:40000".parse().unwrap(), "10.213.5.11:80".parse().unwrap(), 0xdead_beef);

        // Over a segment that carries the right checksum, its complement is zero.
        assert_eq!(checksum(&packet), 0);
    }
}
