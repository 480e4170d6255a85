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
    /// Its namespace.
    pub namespace: Option<Namespace>,
    dev: KernelFile,
    snmp: KernelFile,
    raw: KernelFile,
    raw6: KernelFile,
    packet: KernelFile,
    arp: KernelFile,
    sockstat: KernelFile,
    netstat: KernelFile,
    snmp6: KernelFile,
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
            netstat: KernelFile::default(),
            snmp6: KernelFile::default(),
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
            if let Some(text) = reader.read(&mut self.netstat, "net/netstat", place("net/netstat")).data() {
                net::netstat(text, sample);
            }
            if let Some(text) = reader.read(&mut self.snmp6, "net/snmp6", place("net/snmp6")).data() {
                net::snmp6(text, sample);
            }
        }
    }

    /// Closes everything and forgets the process.
    pub fn close(&mut self, reader: &mut Reader) {
        let Self { dev, snmp, raw, raw6, packet, arp, sockstat, netstat, snmp6, .. } = self;
        for file in [dev, snmp, raw, raw6, packet, arp, sockstat, netstat, snmp6] {
            reader.close(file);
        }
        self.pid = None;
        self.kind = Kind::Unknown;
    }
}

/// Identity of a network namespace among those that live: the inode of `net/dev` in it.
///
/// The link `/proc/PID/ns/net` tells the same, but only to whom may trace the process. The files below `/proc/PID/net` are open to all,
/// and every namespace has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace(u64);

/// The network namespace of a process; `None` once it is gone.
#[must_use]
pub fn namespace(proc: &str, pid: u32) -> Option<Namespace> {
    let mut path = String::with_capacity(64);
    process_file(&mut path, proc, pid, "net/dev");
    namespace_of(&path)
}

fn namespace_of(path: &str) -> Option<Namespace> {
    rustix::fs::stat(path).ok().map(|stat| Namespace(stat.st_ino))
}

/// Whether a process is on the host's network, and whether its namespace has an interface besides lo.
pub fn look(reader: &mut Reader, proc: &str, pid: u32) -> Option<Look> {
    let namespace = namespace(proc, pid)?;
    let mut host = String::with_capacity(64);
    host_dev_place(&mut host, proc);
    let own = reader.read_once("net/dev", |text| process_file(text, proc, pid, "net/dev")).data()?;
    let has_interface = net::interfaces(own).any(|(name, _)| name != b"lo");
    Some(Look { host: namespace_of(&host)? == namespace, has_interface, namespace })
}

/// What a look at a process's network told.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// It is the node's.
    pub host: bool,
    /// There is an interface besides lo.
    pub has_interface: bool,
    /// Its namespace.
    pub namespace: Namespace,
}

/// Writes the path of the node's `net/dev`: that of PID 1, since `/proc/net` is that of the reader.
pub fn host_dev_place(text: &mut String, proc: &str) {
    let first = format!("{proc}/1/net/dev");
    if std::fs::exists(&first).unwrap_or(false) {
        text.push_str(&first);
    } else {
        text.extend([proc, "/net/dev"]);
    }
}
