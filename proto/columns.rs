//! The one list of observation columns.
//!
//! Every value is an unsigned integer: the growth of a counter over the interval of its tier ([`Reading::Delta`]),
//! or a level at the end of it ([`Reading::Gauge`]). Ids are on the wire and in history: never reused, never renumbered.

/// How a column's value is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Growth of a kernel counter since the previous reading of the same tier.
    Delta,
    /// Level at the instant of reading.
    Gauge,
}

/// How often a column is read. A promoted pod has all tiers on every tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Every tick; its deltas cover [`Column::IntervalUs`].
    Fast,
    /// Every 5th tick; its deltas cover [`Column::SlowIntervalUs`].
    Slow,
    /// Every 10th tick; its deltas cover [`Column::RareIntervalUs`].
    Rare,
}

/// What a column describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One container's cgroup.
    Container,
    /// One pod's network namespace, reported with the pod's first living container only, so that sums count it once.
    Pod,
    /// The node; row 0.
    Node,
}

macro_rules! columns {
    ($( $id:literal $variant:ident $name:literal $unit:literal $reading:ident $tier:ident $scope:ident $doc:literal; )*) => {
        /// An observation column. The discriminant is its place in [`Column::ALL`], not its id.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Column { $( #[doc = $doc] $variant, )* }

        impl Column {
            /// Every column, by ascending id.
            pub const ALL: &'static [Column] = &[ $( Column::$variant, )* ];
            /// How many columns there are.
            pub const COUNT: usize = Self::ALL.len();
            const IDS: [u32; Self::COUNT] = [ $( $id, )* ];

            /// The id on the wire, fixed for ever.
            #[must_use] pub const fn id(self) -> u32 { Self::IDS[self as usize] }
            /// The name in SQL, exports and documents.
            #[must_use] pub const fn name(self) -> &'static str { match self { $( Column::$variant => $name, )* } }
            /// The unit: `us`, `bytes`, or what is counted.
            #[must_use] pub const fn unit(self) -> &'static str { match self { $( Column::$variant => $unit, )* } }
            /// Delta or gauge.
            #[must_use] pub const fn reading(self) -> Reading { match self { $( Column::$variant => Reading::$reading, )* } }
            /// How often it is read.
            #[must_use] pub const fn tier(self) -> Tier { match self { $( Column::$variant => Tier::$tier, )* } }
            /// What it describes.
            #[must_use] pub const fn scope(self) -> Scope { match self { $( Column::$variant => Scope::$scope, )* } }
            /// One sentence for people.
            #[must_use] pub const fn doc(self) -> &'static str { match self { $( Column::$variant => $doc, )* } }
        }
    };
}

columns! {
    1 IntervalUs "interval_us" "us" Gauge Fast Container "Length of the interval that fast deltas cover.";
    2 CpuUsageUs "cpu_usage_us" "us" Delta Fast Container "CPU time used (cpuacct.usage, cpu.stat usage_usec).";
    3 MemoryCurrentBytes "memory_current_bytes" "bytes" Gauge Fast Container "Memory charged to the cgroup, page cache included.";
    4 NetRxBytes "net_rx_bytes" "bytes" Delta Fast Pod "Bytes received on every interface but lo.";
    5 NetRxPackets "net_rx_packets" "packets" Delta Fast Pod "Packets received on every interface but lo.";
    6 NetTxBytes "net_tx_bytes" "bytes" Delta Fast Pod "Bytes sent on every interface but lo.";
    7 NetTxPackets "net_tx_packets" "packets" Delta Fast Pod "Packets sent on every interface but lo.";
    8 NetDropped "net_dropped" "packets" Delta Fast Pod "Packets dropped or in error, both directions, every interface but lo.";
    9 Restarts "restarts" "restarts" Delta Fast Container "Containers that ended in this place of the pod since the previous observation of it.";

    20 SlowIntervalUs "slow_interval_us" "us" Gauge Slow Container "Length of the interval that slow deltas cover.";
    21 CpuUserUs "cpu_user_us" "us" Delta Slow Container "CPU time in user mode.";
    22 CpuSystemUs "cpu_system_us" "us" Delta Slow Container "CPU time in kernel mode.";
    23 CpuPeriods "cpu_periods" "periods" Delta Slow Container "CFS enforcement periods; absent without a CPU limit.";
    24 CpuThrottledPeriods "cpu_throttled_periods" "periods" Delta Slow Container "CFS periods in which the cgroup was throttled.";
    25 CpuThrottledUs "cpu_throttled_us" "us" Delta Slow Container "Time throttled, summed over CPUs.";
    26 MemoryWorkingSetBytes "memory_working_set_bytes" "bytes" Gauge Slow Container "Memory less inactive file cache, as the kubelet counts it.";
    27 MemoryAnonBytes "memory_anon_bytes" "bytes" Gauge Slow Container "Anonymous memory (v1 total_rss, v2 anon).";
    28 MemoryFileBytes "memory_file_bytes" "bytes" Gauge Slow Container "Page cache (v1 total_cache, v2 file).";
    29 MemoryLimitBytes "memory_limit_bytes" "bytes" Gauge Slow Container "Memory limit; absent without one.";
    30 PageFaults "page_faults" "faults" Delta Slow Container "Page faults, minor and major.";
    31 MajorPageFaults "major_page_faults" "faults" Delta Slow Container "Page faults that had to read.";
    32 MemoryLimitHits "memory_limit_hits" "events" Delta Slow Container "Times the memory limit was hit (v1 failcnt, v2 events max).";
    33 OomKills "oom_kills" "kills" Delta Slow Container "Processes killed for lack of memory (v1 the container's, v2 the pod's).";
    34 PidsCurrent "pids_current" "processes" Gauge Slow Container "Processes and threads.";
    35 PidsLimit "pids_limit" "processes" Gauge Slow Container "Limit on processes and threads, the pod's where the container has none; absent without one.";
    36 PidsLimitHits "pids_limit_hits" "events" Delta Slow Container "Forks refused by the limit.";
    37 IoReadBytes "io_read_bytes" "bytes" Delta Slow Container "Bytes read from block devices; absent where v1 does not count them.";
    38 IoWriteBytes "io_write_bytes" "bytes" Delta Slow Container "Bytes written to block devices; absent likewise.";
    39 IoReads "io_reads" "operations" Delta Slow Container "Reads from block devices; absent likewise.";
    40 IoWrites "io_writes" "operations" Delta Slow Container "Writes to block devices; absent likewise.";
    41 CpuPressureUs "cpu_pressure_us" "us" Delta Slow Container "Time in which some task waited for CPU (PSI, v2 only).";
    42 MemoryPressureUs "memory_pressure_us" "us" Delta Slow Container "Time in which some task waited for memory (PSI, v2 only).";
    43 IoPressureUs "io_pressure_us" "us" Delta Slow Container "Time in which some task waited for I/O (PSI, v2 only).";
    44 ChildCpuUs "child_cpu_us" "us" Delta Slow Container "CPU time of the main process's children that ended (cutime + cstime).";
    45 ChildMinorFaults "child_minor_faults" "faults" Delta Slow Container "Minor faults of the main process's children that ended (cminflt): process churn.";

    60 TcpActiveOpens "tcp_active_opens" "connections" Delta Slow Pod "TCP connections opened from here.";
    61 TcpPassiveOpens "tcp_passive_opens" "connections" Delta Slow Pod "TCP connections accepted.";
    62 TcpAttemptFails "tcp_attempt_fails" "connections" Delta Slow Pod "TCP connection attempts that failed.";
    63 TcpEstabResets "tcp_estab_resets" "connections" Delta Slow Pod "Established TCP connections reset.";
    64 TcpEstablished "tcp_established" "connections" Gauge Slow Pod "TCP connections established now.";
    65 TcpInSegments "tcp_in_segments" "segments" Delta Slow Pod "TCP segments received.";
    66 TcpOutSegments "tcp_out_segments" "segments" Delta Slow Pod "TCP segments sent.";
    67 TcpRetransmits "tcp_retransmits" "segments" Delta Slow Pod "TCP segments sent again.";
    68 TcpOutResets "tcp_out_resets" "segments" Delta Slow Pod "TCP resets sent.";
    69 TcpInErrors "tcp_in_errors" "segments" Delta Slow Pod "TCP segments received in error.";
    70 UdpInDatagrams "udp_in_datagrams" "datagrams" Delta Slow Pod "UDP datagrams received.";
    71 UdpOutDatagrams "udp_out_datagrams" "datagrams" Delta Slow Pod "UDP datagrams sent.";
    72 UdpNoPorts "udp_no_ports" "datagrams" Delta Slow Pod "UDP datagrams received for a port without listener.";
    73 IcmpInMessages "icmp_in_messages" "messages" Delta Slow Pod "ICMP messages received.";
    74 IcmpOutMessages "icmp_out_messages" "messages" Delta Slow Pod "ICMP messages sent.";
    75 RawSockets "raw_sockets" "sockets" Gauge Slow Pod "Raw sockets, IPv4 and IPv6.";
    76 PacketSockets "packet_sockets" "sockets" Gauge Slow Pod "Packet sockets.";
    77 ArpIncomplete "arp_incomplete" "neighbours" Gauge Slow Pod "Neighbours asked for that did not answer.";
    78 TcpSockets "tcp_sockets" "sockets" Gauge Slow Pod "TCP sockets in use.";
    79 TcpTimeWait "tcp_time_wait" "sockets" Gauge Slow Pod "TCP sockets in TIME_WAIT.";
    80 UdpSockets "udp_sockets" "sockets" Gauge Slow Pod "UDP sockets in use.";

    90 RareIntervalUs "rare_interval_us" "us" Gauge Rare Container "Length of the interval that rare deltas cover.";
    91 TcpSynRetransmits "tcp_syn_retransmits" "segments" Delta Rare Pod "SYNs sent again: a target that does not answer.";
    92 TcpTimeouts "tcp_timeouts" "events" Delta Rare Pod "TCP retransmission time-outs.";
    93 ListenDrops "listen_drops" "connections" Delta Rare Pod "Connections dropped by a full listener.";
    94 SynCookiesSent "syn_cookies_sent" "segments" Delta Rare Pod "SYN cookies sent.";
    95 Ip6InPackets "ip6_in_packets" "packets" Delta Rare Pod "IPv6 packets received.";
    96 Ip6OutPackets "ip6_out_packets" "packets" Delta Rare Pod "IPv6 packets sent.";
    97 Udp6InDatagrams "udp6_in_datagrams" "datagrams" Delta Rare Pod "UDP datagrams received over IPv6.";
    98 Udp6OutDatagrams "udp6_out_datagrams" "datagrams" Delta Rare Pod "UDP datagrams sent over IPv6.";

    200 NodeCpuBusyUs "node_cpu_busy_us" "us" Delta Fast Node "CPU time not idle and not waiting for I/O, summed over CPUs.";
    201 NodeCpuIdleUs "node_cpu_idle_us" "us" Delta Fast Node "CPU time idle or waiting for I/O, summed over CPUs.";
    202 NodeCpuStealUs "node_cpu_steal_us" "us" Delta Fast Node "CPU time taken by the hypervisor.";
    203 NodeLoad1Milli "node_load1_milli" "1/1000" Gauge Fast Node "Load average over one minute, thousandths.";
    204 NodeMemoryTotalBytes "node_memory_total_bytes" "bytes" Gauge Fast Node "Memory of the node.";
    205 NodeMemoryAvailableBytes "node_memory_available_bytes" "bytes" Gauge Fast Node "Memory available without swapping.";
    206 NodeForks "node_forks" "processes" Delta Fast Node "Processes and threads created.";
    207 NodeCpuPressureUs "node_cpu_pressure_us" "us" Delta Slow Node "Time in which some task waited for CPU.";
    208 NodeMemoryPressureUs "node_memory_pressure_us" "us" Delta Slow Node "Time in which some task waited for memory.";
    209 NodeIoPressureUs "node_io_pressure_us" "us" Delta Slow Node "Time in which some task waited for I/O.";
    210 NodeDiskReadBytes "node_disk_read_bytes" "bytes" Delta Slow Node "Bytes read from whole disks.";
    211 NodeDiskWriteBytes "node_disk_write_bytes" "bytes" Delta Slow Node "Bytes written to whole disks.";
    212 NodeNetRxBytes "node_net_rx_bytes" "bytes" Delta Fast Node "Bytes received by the node's own interfaces but lo, veth and bridges.";
    213 NodeNetTxBytes "node_net_tx_bytes" "bytes" Delta Fast Node "Bytes sent by the same.";
    214 NodeConntrackEntries "node_conntrack_entries" "entries" Gauge Slow Node "Connections tracked.";
    215 NodeConntrackLimit "node_conntrack_limit" "entries" Gauge Slow Node "Limit on connections tracked.";
    216 NodeFsSizeBytes "node_fs_size_bytes" "bytes" Gauge Slow Node "Size of the file system under the agent's own root.";
    217 NodeFsAvailableBytes "node_fs_available_bytes" "bytes" Gauge Slow Node "Space available in it.";
    218 NodeFsInodesFree "node_fs_inodes_free" "inodes" Gauge Slow Node "Inodes free in it.";
    219 NodeContainers "node_containers" "containers" Gauge Fast Node "Containers known to the agent.";
    220 NodeResidualCpuUs "node_residual_cpu_us" "us" Delta Fast Node "Busy CPU time of the node less that of every known container.";
    221 NodeResidualMemoryBytes "node_residual_memory_bytes" "bytes" Gauge Fast Node "Memory in use on the node less that of every known container.";
    222 NodeProcesses "node_processes" "processes" Gauge Slow Node "Processes and threads that exist.";
}

impl Column {
    /// The column with this id, if this version knows it.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::IDS.binary_search(&id).ok().map(|place| Self::ALL[place])
    }

    /// The column with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|column| column.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_names_are_unique() {
        let mut names: Vec<_> = Column::ALL.iter().map(|column| column.name()).collect();
        names.sort_unstable();
        names.dedup();

        assert_eq!(names.len(), Column::COUNT);
        assert!(Column::ALL.windows(2).all(|pair| pair[0].id() < pair[1].id()));
        assert!(Column::ALL.iter().all(|&column| Column::from_id(column.id()) == Some(column)));
        // Presence of a row is one u128.
        const { assert!(Column::COUNT <= 128) };
    }
}
