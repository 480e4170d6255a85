//! The files below `/proc/PID/net`: one network namespace.

use vedette_proto::Column;

use super::{lines, number, words};
use crate::sample::Sample;

/// Counters of one interface or a sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped or in error, both directions.
    pub dropped: u64,
}

impl Traffic {
    fn add(&mut self, other: Self) {
        self.rx_bytes = self.rx_bytes.saturating_add(other.rx_bytes);
        self.rx_packets = self.rx_packets.saturating_add(other.rx_packets);
        self.tx_bytes = self.tx_bytes.saturating_add(other.tx_bytes);
        self.tx_packets = self.tx_packets.saturating_add(other.tx_packets);
        self.dropped = self.dropped.saturating_add(other.dropped);
    }
}

/// The interfaces of `net/dev` with their counters.
pub fn interfaces(text: &[u8]) -> impl Iterator<Item = (&[u8], Traffic)> {
    lines(text).skip(2).filter_map(|line| {
        // A name may hold a colon (an alias), the counters never do.
        let colon = line.iter().rposition(|&byte| byte == b':')?;
        let name = line[..colon].trim_ascii();
        let mut numbers = [0u64; 12];
        let mut words = words(&line[colon + 1..]);
        for place in &mut numbers {
            *place = number(words.next()?)?;
        }
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped] = numbers;
        let dropped = [rx_errors, rx_dropped, tx_errors, tx_dropped].into_iter().fold(0, u64::saturating_add);
        Some((name, Traffic { rx_bytes, rx_packets, tx_bytes, tx_packets, dropped }))
    })
}

/// The sum over the interfaces that are wanted; `None` when there is none.
pub fn traffic(text: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<Traffic> {
    let mut sum: Option<Traffic> = None;
    for (_, traffic) in interfaces(text).filter(|(name, _)| wanted(name)) {
        sum.get_or_insert_default().add(traffic);
    }
    sum
}

/// `net/dev` of a pod: every interface but lo.
pub fn dev(text: &[u8], sample: &mut Sample) {
    let Some(sum) = traffic(text, |name| name != b"lo") else { return };
    sample.set(Column::NetRxBytes, sum.rx_bytes);
    sample.set(Column::NetRxPackets, sum.rx_packets);
    sample.set(Column::NetTxBytes, sum.tx_bytes);
    sample.set(Column::NetTxPackets, sum.tx_packets);
    sample.set(Column::NetDropped, sum.dropped);
}

/// The wanted names of one protocol, each with its column.
type Names = [(&'static [u8], Column)];

/// `net/snmp` and `net/netstat`: a line of names and a line of values for every protocol.
fn paired(text: &[u8], wanted: &[(&[u8], &Names)], sample: &mut Sample) {
    let mut lines = lines(text);
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((prefix, columns)) = wanted.iter().find(|(prefix, _)| names.starts_with(prefix) && values.starts_with(prefix)) else {
            continue;
        };
        let mut left = columns.len();
        for (name, value) in words(&names[prefix.len()..]).zip(words(&values[prefix.len()..])) {
            if let Some((_, column)) = columns.iter().find(|(wanted, _)| *wanted == name) {
                sample.set_if(*column, number(value));
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
    }
}

/// `net/snmp`.
pub fn snmp(text: &[u8], sample: &mut Sample) {
    const TCP: &Names = &[
        (b"ActiveOpens", Column::TcpActiveOpens),
        (b"PassiveOpens", Column::TcpPassiveOpens),
        (b"AttemptFails", Column::TcpAttemptFails),
        (b"EstabResets", Column::TcpEstabResets),
        (b"CurrEstab", Column::TcpEstablished),
        (b"InSegs", Column::TcpInSegments),
        (b"OutSegs", Column::TcpOutSegments),
        (b"RetransSegs", Column::TcpRetransmits),
        (b"OutRsts", Column::TcpOutResets),
        (b"InErrs", Column::TcpInErrors),
    ];
    const UDP: &Names =
        &[(b"InDatagrams", Column::UdpInDatagrams), (b"OutDatagrams", Column::UdpOutDatagrams), (b"NoPorts", Column::UdpNoPorts)];
    const ICMP: &Names = &[(b"InMsgs", Column::IcmpInMessages), (b"OutMsgs", Column::IcmpOutMessages)];
    paired(text, &[(b"Tcp:", TCP), (b"Udp:", UDP), (b"Icmp:", ICMP)], sample);
}

/// `net/netstat`.
pub fn netstat(text: &[u8], sample: &mut Sample) {
    const EXTENDED: &Names = &[
        (b"SyncookiesSent", Column::SynCookiesSent),
        (b"TCPSynRetrans", Column::TcpSynRetransmits),
        (b"TCPTimeouts", Column::TcpTimeouts),
        (b"ListenDrops", Column::ListenDrops),
    ];
    paired(text, &[(b"TcpExt:", EXTENDED)], sample);
}

/// `net/snmp6`: a name and a value on every line.
pub fn snmp6(text: &[u8], sample: &mut Sample) {
    for line in lines(text) {
        let mut words = words(line);
        let column = match words.next() {
            Some(b"Ip6InReceives") => Column::Ip6InPackets,
            Some(b"Ip6OutRequests") => Column::Ip6OutPackets,
            Some(b"Udp6InDatagrams") => Column::Udp6InDatagrams,
            Some(b"Udp6OutDatagrams") => Column::Udp6OutDatagrams,
            _ => continue,
        };
        sample.set_if(column, words.next().and_then(number));
    }
}

/// `net/sockstat`: only what is per namespace; `alloc` and `mem` are the host's.
pub fn sockstat(text: &[u8], sample: &mut Sample) {
    for line in lines(text) {
        let (inuse, time_wait) = match line {
            line if line.starts_with(b"TCP:") => (Column::TcpSockets, Some(Column::TcpTimeWait)),
            line if line.starts_with(b"UDP:") => (Column::UdpSockets, None),
            _ => continue,
        };
        let mut words = words(line).skip(1);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match (name, time_wait) {
                (b"inuse", _) => sample.set_if(inuse, number(value)),
                (b"tw", Some(column)) => sample.set_if(column, number(value)),
                _ => {}
            }
        }
    }
}

/// `net/arp`: neighbours asked for that did not answer (flags 0).
#[must_use]
pub fn arp_incomplete(text: &[u8]) -> u64 {
    lines(text).skip(1).filter(|line| words(line).nth(2) == Some(b"0x0")).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEV: &[u8] = b"Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 11830171    6741    0    0    0     0          0         0 11830171    6741    0    0    0     0       0          0
  eth0:    8676     110    1    2    0     0          0         0      822      11    3    4    0     0       0          0
eth1:1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0
";

    #[test]
    fn every_interface_but_lo_is_summed() {
        let mut sample = Sample::default();

        dev(DEV, &mut sample);

        let read = [Column::NetRxBytes, Column::NetRxPackets, Column::NetTxBytes, Column::NetTxPackets, Column::NetDropped];
        assert_eq!(read.map(|column| sample.get(column)), [Some(8_677), Some(112), Some(825), Some(15), Some(10)]);
    }

    #[test]
    fn a_namespace_with_lo_alone_has_no_traffic_columns() {
        let mut sample = Sample::default();

        dev(&DEV[..DEV.windows(6).position(|window| window == b"  eth0").unwrap()], &mut sample);

        assert_eq!(sample.get(Column::NetRxBytes), None);
    }

    #[test]
    fn columns_are_found_by_name_not_by_place() {
        let mut sample = Sample::default();

        snmp(b"Tcp: MaxConn New ActiveOpens CurrEstab\nTcp: -1 7 41 3\nUdp: OutDatagrams\nUdp: 5\n", &mut sample);

        assert_eq!(sample.get(Column::TcpActiveOpens), Some(41));
        assert_eq!(sample.get(Column::TcpEstablished), Some(3));
        assert_eq!(sample.get(Column::UdpOutDatagrams), Some(5));
        assert_eq!(sample.get(Column::TcpPassiveOpens), None);
    }

    #[test]
    fn sockstat_takes_what_is_per_namespace() {
        let mut sample = Sample::default();

        sockstat(b"sockets: used 1\nTCP: inuse 4 orphan 0 tw 115 alloc 57 mem 0\nUDP: inuse 2 mem 0\n", &mut sample);

        assert_eq!(sample.get(Column::TcpSockets), Some(4));
        assert_eq!(sample.get(Column::TcpTimeWait), Some(115));
        assert_eq!(sample.get(Column::UdpSockets), Some(2));
    }

    #[test]
    fn incomplete_neighbours_are_counted() {
        let text = b"IP address       HW type     Flags       HW address            Mask     Device
10.0.0.1         0x1         0x2         aa:bb:cc:dd:ee:ff     *        eth0
10.0.0.9         0x1         0x0         00:00:00:00:00:00     *        eth0
";
        assert_eq!(arp_incomplete(text), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0..DEV.len()) {
            for text in [&bytes[..], &DEV[..cut], &DEV[cut..]] {
                let mut sample = Sample::default();
                dev(text, &mut sample);
                snmp(text, &mut sample);
                netstat(text, &mut sample);
                snmp6(text, &mut sample);
                sockstat(text, &mut sample);
                let _ = arp_incomplete(text);
            }
        }
    }
}
