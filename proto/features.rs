//! What detectors see: a pure function of one observation, the same code wherever features are needed.

use crate::{columns::Column, observation::Observation, v1::Family};

macro_rules! features {
    ($( $variant:ident $name:literal $unit:literal $family:ident $floor:literal $phrase:literal; )*) => {
        /// A feature: a rate, a level or a ratio in its natural unit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Feature { $( #[doc = $phrase] $variant, )* }

        impl Feature {
            /// Every feature.
            pub const ALL: &'static [Feature] = &[ $( Feature::$variant, )* ];
            /// How many features there are.
            pub const COUNT: usize = Self::ALL.len();
            /// The name in SQL and evidence.
            #[must_use] pub const fn name(self) -> &'static str { match self { $( Feature::$variant => $name, )* } }
            /// The unit of its value.
            #[must_use] pub const fn unit(self) -> &'static str { match self { $( Feature::$variant => $unit, )* } }
            /// The family of evidence.
            #[must_use] pub const fn family(self) -> Family { match self { $( Feature::$variant => Family::$family, )* } }
            /// The smallest level, in its unit, that means anything: below it, differences are noise.
            #[must_use] pub const fn floor(self) -> f32 { match self { $( Feature::$variant => $floor, )* } }
            /// What a person calls it.
            #[must_use] pub const fn phrase(self) -> &'static str { match self { $( Feature::$variant => $phrase, )* } }
        }
    };
}

features! {
    CpuCores "cpu_cores" "cores" Cpu 0.02 "CPU use";
    CpuSystemCores "cpu_system_cores" "cores" Cpu 0.02 "CPU use in the kernel";
    CpuThrottledRatio "cpu_throttled_ratio" "ratio" Cpu 0.05 "share of periods throttled";
    CpuPressureRatio "cpu_pressure_ratio" "ratio" Cpu 0.05 "time waiting for CPU";
    MemoryWorkingSetBytes "memory_working_set_bytes" "B" Memory 16777216.0 "memory working set";
    MemoryAnonBytes "memory_anon_bytes" "B" Memory 16777216.0 "anonymous memory";
    MemoryLimitRatio "memory_limit_ratio" "ratio" Memory 0.1 "share of the memory limit in use";
    MajorPageFaultsPerSec "major_page_faults_per_sec" "1/s" Memory 10.0 "major page faults";
    MemoryPressureRatio "memory_pressure_ratio" "ratio" Memory 0.05 "time waiting for memory";
    RxBytesPerSec "rx_bytes_per_sec" "B/s" NetworkVolume 20000.0 "bytes received";
    TxBytesPerSec "tx_bytes_per_sec" "B/s" NetworkVolume 20000.0 "bytes sent";
    TxExcessBytesPerSec "tx_excess_bytes_per_sec" "B/s" NetworkVolume 20000.0 "bytes sent beyond those received";
    RxPacketsPerSec "rx_packets_per_sec" "1/s" NetworkVolume 50.0 "packets received";
    TxPacketsPerSec "tx_packets_per_sec" "1/s" NetworkVolume 50.0 "packets sent";
    UdpInPerSec "udp_in_per_sec" "1/s" NetworkVolume 5.0 "UDP datagrams received";
    UdpOutPerSec "udp_out_per_sec" "1/s" NetworkVolume 5.0 "UDP datagrams sent";
    UdpNoPortsPerSec "udp_no_ports_per_sec" "1/s" NetworkConnections 1.0 "UDP datagrams for closed ports";
    TcpActiveOpensPerSec "tcp_active_opens_per_sec" "1/s" NetworkConnections 1.0 "TCP connections opened";
    TcpPassiveOpensPerSec "tcp_passive_opens_per_sec" "1/s" NetworkConnections 2.0 "TCP connections accepted";
    TcpAttemptFailsPerSec "tcp_attempt_fails_per_sec" "1/s" NetworkConnections 0.5 "TCP connection attempts failed";
    TcpEstabResetsPerSec "tcp_estab_resets_per_sec" "1/s" NetworkConnections 0.5 "established TCP connections reset";
    TcpOutResetsPerSec "tcp_out_resets_per_sec" "1/s" NetworkConnections 1.0 "TCP resets sent";
    TcpEstablished "tcp_established" "connections" NetworkConnections 10.0 "TCP connections established";
    TcpRetransmitsPerSec "tcp_retransmits_per_sec" "1/s" NetworkConnections 2.0 "TCP segments sent again";
    TcpSynRetransmitsPerSec "tcp_syn_retransmits_per_sec" "1/s" NetworkConnections 0.5 "TCP SYNs sent again";
    ListenDropsPerSec "listen_drops_per_sec" "1/s" NetworkConnections 0.5 "connections dropped by a full listener";
    IcmpOutPerSec "icmp_out_per_sec" "1/s" NetworkConnections 1.0 "ICMP messages sent";
    RawSockets "raw_sockets" "sockets" NetworkConnections 1.0 "raw sockets";
    PacketSockets "packet_sockets" "sockets" NetworkConnections 1.0 "packet sockets";
    ArpIncomplete "arp_incomplete" "neighbours" NetworkConnections 2.0 "neighbours that do not answer";
    IoReadBytesPerSec "io_read_bytes_per_sec" "B/s" Disk 1000000.0 "bytes read from disk";
    IoWriteBytesPerSec "io_write_bytes_per_sec" "B/s" Disk 1000000.0 "bytes written to disk";
    IoPressureRatio "io_pressure_ratio" "ratio" Disk 0.05 "time waiting for disk";
    Pids "pids" "processes" Processes 4.0 "processes";
    ChildFaultsPerSec "child_faults_per_sec" "1/s" Processes 500.0 "page faults of children that ended";
    MemoryFileBytes "memory_file_bytes" "B" Disk 16777216.0 "pages of files in memory";
}

/// The features of one observation; NaN where a column was absent, as between two ticks of a slow tier.
#[derive(Clone, Copy, Debug)]
pub struct Features([f32; Feature::COUNT]);

impl Default for Features {
    fn default() -> Self {
        Self([f32::NAN; Feature::COUNT])
    }
}

impl Features {
    /// The value of a feature, `None` where it could not be computed. Always finite and never negative.
    #[inline]
    #[must_use]
    pub fn get(&self, feature: Feature) -> Option<f32> {
        let value = self.0[feature as usize];
        (!value.is_nan()).then_some(value)
    }

    /// All values in the order of [`Feature::ALL`]; NaN is absent.
    #[must_use]
    pub fn values(&self) -> &[f32; Feature::COUNT] {
        &self.0
    }

    /// Sets a feature; what is not a finite number of at least 0 leaves it absent.
    pub fn set(&mut self, feature: Feature, value: Option<f64>) {
        self.0[feature as usize] = match value {
            Some(value) if value.is_finite() && value >= 0.0 => value as f32,
            _ => f32::NAN,
        };
    }

    /// Computes the features of an observation.
    ///
    /// Rates use the interval of their column's own tier, so a late tick does not look like a surge.
    #[must_use]
    pub fn of(row: &Observation) -> Self {
        use Column as C;
        use Feature as F;
        let mut features = Self::default();
        let rate = |column| row.per_second(column);
        let level = |column| row.get(column).map(|value| value as f64);
        let share = |part: Option<f64>, whole: Option<f64>| match (part, whole) {
            (Some(part), Some(whole)) if whole > 0.0 => Some(part / whole),
            _ => None,
        };
        // Microseconds per second to a share of time.
        let time = |column| rate(column).map(|us| us / 1e6);
        let sum = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
        };

        features.set(F::CpuCores, time(C::CpuUsageUs));
        features.set(F::CpuSystemCores, time(C::CpuSystemUs));
        features.set(F::CpuThrottledRatio, share(level(C::CpuThrottledPeriods), level(C::CpuPeriods)));
        features.set(F::CpuPressureRatio, time(C::CpuPressureUs));
        features.set(F::MemoryWorkingSetBytes, level(C::MemoryWorkingSetBytes));
        features.set(F::MemoryAnonBytes, level(C::MemoryAnonBytes));
        features.set(F::MemoryFileBytes, level(C::MemoryFileBytes));
        features.set(F::MemoryLimitRatio, share(level(C::MemoryWorkingSetBytes), level(C::MemoryLimitBytes)));
        features.set(F::MajorPageFaultsPerSec, rate(C::MajorPageFaults));
        features.set(F::MemoryPressureRatio, time(C::MemoryPressureUs));
        let (rx, tx) = (rate(C::NetRxBytes), rate(C::NetTxBytes));
        features.set(F::RxBytesPerSec, rx);
        features.set(F::TxBytesPerSec, tx);
        features.set(F::TxExcessBytesPerSec, tx.zip(rx).map(|(tx, rx)| (tx - rx).max(0.0)));
        features.set(F::RxPacketsPerSec, rate(C::NetRxPackets));
        features.set(F::TxPacketsPerSec, rate(C::NetTxPackets));
        features.set(F::UdpInPerSec, sum(rate(C::UdpInDatagrams), rate(C::Udp6InDatagrams)));
        features.set(F::UdpOutPerSec, sum(rate(C::UdpOutDatagrams), rate(C::Udp6OutDatagrams)));
        features.set(F::UdpNoPortsPerSec, rate(C::UdpNoPorts));
        features.set(F::TcpActiveOpensPerSec, rate(C::TcpActiveOpens));
        features.set(F::TcpPassiveOpensPerSec, rate(C::TcpPassiveOpens));
        features.set(F::TcpAttemptFailsPerSec, rate(C::TcpAttemptFails));
        features.set(F::TcpEstabResetsPerSec, rate(C::TcpEstabResets));
        features.set(F::TcpOutResetsPerSec, rate(C::TcpOutResets));
        features.set(F::TcpEstablished, level(C::TcpEstablished));
        features.set(F::TcpRetransmitsPerSec, rate(C::TcpRetransmits));
        features.set(F::TcpSynRetransmitsPerSec, rate(C::TcpSynRetransmits));
        features.set(F::ListenDropsPerSec, rate(C::ListenDrops));
        features.set(F::IcmpOutPerSec, rate(C::IcmpOutMessages));
        features.set(F::RawSockets, level(C::RawSockets));
        features.set(F::PacketSockets, level(C::PacketSockets));
        features.set(F::ArpIncomplete, level(C::ArpIncomplete));
        features.set(F::IoReadBytesPerSec, rate(C::IoReadBytes));
        features.set(F::IoWriteBytesPerSec, rate(C::IoWriteBytes));
        features.set(F::IoPressureRatio, time(C::IoPressureUs));
        features.set(F::Pids, level(C::PidsCurrent));
        features.set(F::ChildFaultsPerSec, rate(C::ChildMinorFaults));
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rate_uses_the_interval_of_its_own_tier() {
        let mut row = Observation::default();
        row.set(Column::IntervalUs, 1_000_000);
        row.set(Column::SlowIntervalUs, 5_000_000);
        row.set(Column::CpuUsageUs, 250_000);
        row.set(Column::TcpActiveOpens, 1_000);

        let features = Features::of(&row);

        assert_eq!(features.get(Feature::CpuCores), Some(0.25));
        assert_eq!(features.get(Feature::TcpActiveOpensPerSec), Some(200.0));
        assert_eq!(features.get(Feature::RxBytesPerSec), None);
    }

    proptest! {
        #[test]
        fn features_are_finite_and_never_negative(pairs in prop::collection::vec((0..Column::COUNT, any::<u64>()), 0..60)) {
            let mut row = Observation::default();
            for (place, value) in pairs {
                row.set(Column::ALL[place], value);
            }

            let features = Features::of(&row);

            prop_assert!(features.values().iter().all(|value| value.is_nan() || (value.is_finite() && *value >= 0.0)));
        }

        #[test]
        fn an_absent_column_makes_no_feature_zero(place in 0..Column::COUNT) {
            let mut row = Observation::default();
            row.set(Column::ALL[place], 5);

            let features = Features::of(&row);

            prop_assert!(Feature::ALL.iter().all(|&feature| features.get(feature) != Some(0.0)));
        }
    }
}
