//! One pod's network namespace, read through a process that is in it.

use vedette_proto::Column;

use crate::{
    files::{KernelFile, Read, Reader},
    parse::{self, net},
    sample::Sample,
};

/// Whose network a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not known yet: no process of the pod has been seen.
    Unknown,
    /// The pod's own.
    Own,
    /// The node's: reporting it here would count the node's traffic as the pod's.
    Host,
}

/// The files of one network namespace, kept open while the process that they were opened through lives: they keep the namespace alive.
#[derive(Debug)]
pub struct Network {
    /// The process.
    pub pid: Option<u32>,
    /// Whose network it is.
    pub kind: Kind,
    /// Inode of the namespace, where the kernel lets us see it.
    pub namespace: Option<u64>,
    dev: KernelFile,
    snmp: KernelFile,
    raw: KernelFile,
    raw6: KernelFile,
    packet: KernelFile,
    arp: KernelFile,
    sockstat: KernelFile,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pid: None,
            kind: Kind::Unknown,
            namespace: None,
            dev: KernelFile::default(),
            snmp: KernelFile::default(),
            raw: KernelFile::default(),
            raw6: KernelFile::default(),
            packet: KernelFile::default(),
            arp: KernelFile::default(),
            sockstat: KernelFile::default(),
        }
    }
}

/// Writes `<proc>/<pid>/<file>`.
pub fn process_file(text: &mut String, proc: &str, pid: u32, file: &str) {
    use std::fmt::Write;
    // Writing to a String cannot fail.
    let _ = write!(text, "{proc}/{pid}/{file}");
}

impl Network {
    /// Reads the tiers that are due. Nothing is read of a pod on the host's network.
    pub fn read(&mut self, reader: &mut Reader, proc: &str, slow: bool, rare: bool, sample: &mut Sample) {
        let (Some(pid), Kind::Own) = (self.pid, self.kind) else { return };
        let place = |file: &'static str| move |text: &mut String| process_file(text, proc, pid, file);
        match reader.read(&mut self.dev, "net/dev", place("net/dev")) {
            Read::Data(text) => net::dev(text, sample),
            Read::Ended | Read::Absent => return,
        }
        if slow {
            if let Some(text) = reader.read(&mut self.snmp, "net/snmp", place("net/snmp")).data() {
                net::snmp(text, sample);
            }
            let raw = reader.read(&mut self.raw, "net/raw", place("net/raw")).data().and_then(parse::rows);
            let raw6 = reader.read(&mut self.raw6, "net/raw6", place("net/raw6")).data().and_then(parse::rows);
            // Without IPv6 there is no net/raw6; without net/raw nothing is known.
            sample.set_if(Column::RawSockets, raw.map(|raw| raw + raw6.unwrap_or(0)));
            let packet = reader.read(&mut self.packet, "net/packet", place("net/packet"));
            sample.set_if(Column::PacketSockets, packet.data().and_then(parse::rows));
            let arp = reader.read(&mut self.arp, "net/arp", place("net/arp"));
            sample.set_if(Column::ArpIncomplete, arp.data().map(net::arp_incomplete));
            if let Some(text) = reader.read(&mut self.sockstat, "net/sockstat", place("net/sockstat")).data() {
                net::sockstat(text, sample);
            }
        }
        if rare {
            // Not kept open: every open file costs 4.8 kB of kernel memory, and these two are read every tenth tick.
            if let Some(text) = reader.read_once("net/netstat", place("net/netstat")).data() {
                net::netstat(text, sample);
            }
            if let Some(text) = reader.read_once("net/snmp6", place("net/snmp6")).data() {
                net::snmp6(text, sample);
            }
        }
    }

    /// Closes everything and forgets the process.
    pub fn close(&mut self, reader: &mut Reader) {
        let Self { dev, snmp, raw, raw6, packet, arp, sockstat, .. } = self;
        for file in [dev, snmp, raw, raw6, packet, arp, sockstat] {
            reader.close(file);
        }
        self.pid = None;
        self.kind = Kind::Unknown;
    }
}

/// Inode of a process's network namespace; `None` where the kernel does not let us see it.
#[must_use]
pub fn namespace(proc: &str, pid: u32) -> Option<u64> {
    namespace_of(&format!("{proc}/{pid}/ns/net"))
}

fn namespace_of(path: &str) -> Option<u64> {
    let link = std::fs::read_link(path).ok()?;
    parse::number(link.as_os_str().as_encoded_bytes().strip_prefix(b"net:[")?)
}

/// Whether a process is on the host's network, and whether its namespace has an interface besides lo.
///
/// Told by the namespace where it may be seen; otherwise by content: the same interfaces, with counters between two readings
/// of the host's.
pub fn look(reader: &mut Reader, proc: &str, pid: u32) -> Option<Look> {
    let text =
        |reader: &mut Reader| reader.read_once("net/dev", |text| process_file(text, proc, pid, "net/dev")).data().map(<[u8]>::to_vec);
    let own = text(reader)?;
    let has_interface = net::interfaces(&own).any(|(name, _)| name != b"lo");
    let namespace = namespace(proc, pid);
    if let (Some(own), Some(host)) = (namespace, namespace_of(&format!("{proc}/1/ns/net"))) {
        return Some(Look { host: own == host, has_interface, namespace });
    }
    let host = |reader: &mut Reader| host_dev(reader, proc).map(<[u8]>::to_vec);
    let before = host(reader)?;
    let own = text(reader)?;
    let after = host(reader)?;
    Some(Look { host: same_interfaces(&before, &own, &after), has_interface, namespace })
}

/// What a look at a process's network told.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// It is the node's.
    pub host: bool,
    /// There is an interface besides lo.
    pub has_interface: bool,
    /// Inode of the namespace, where it may be seen.
    pub namespace: Option<u64>,
}

/// The node's `net/dev`: that of PID 1, since `/proc/net` is that of the reader.
pub fn host_dev<'a>(reader: &'a mut Reader, proc: &str) -> Option<&'a [u8]> {
    reader.read_once("net/dev", |text| host_dev_place(text, proc)).data()
}

/// Writes the path of the node's `net/dev`.
pub fn host_dev_place(text: &mut String, proc: &str) {
    let first = format!("{proc}/1/net/dev");
    if std::fs::exists(&first).unwrap_or(false) {
        text.push_str(&first);
    } else {
        text.extend([proc, "/net/dev"]);
    }
}

/// More interfaces than a pod has: with the same names in the same order it is the host, however far its counters moved meanwhile.
const SURELY_HOST: usize = 4;

fn same_interfaces(before: &[u8], own: &[u8], after: &[u8]) -> bool {
    let names = |text| net::interfaces(text).map(|(name, _)| name);
    if !names(before).eq(names(own)) || !names(after).eq(names(own)) {
        return false;
    }
    let between = |low: u64, value: u64, high: u64| low <= value && value <= high;
    names(own).count() >= SURELY_HOST
        || net::interfaces(before).zip(net::interfaces(own)).zip(net::interfaces(after)).all(|(((_, low), (_, own)), (_, high))| {
            between(low.rx_packets, own.rx_packets, high.rx_packets)
                && between(low.tx_packets, own.tx_packets, high.tx_packets)
                && between(low.rx_bytes, own.rx_bytes, high.rx_bytes)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive |  Transmit\n face |bytes\n";

    fn dev(eth0_bytes: u64) -> Vec<u8> {
        format!("{HEAD} lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n eth0: {eth0_bytes} 9 0 0 0 0 0 0 70 8 0 0 0 0 0 0\n").into_bytes()
    }

    #[test]
    fn counters_between_two_readings_of_the_host_are_the_hosts() {
        assert!(same_interfaces(&dev(100), &dev(150), &dev(150)));
        assert!(!same_interfaces(&dev(100), &dev(40), &dev(150)));
        assert!(!same_interfaces(&dev(100), format!("{HEAD} lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n").as_bytes(), &dev(100)));
    }
}
