//! The files of a cgroup, v1 and v2.

use vedette_proto::Column;

use super::{key, keyed, lines, number, words};
use crate::sample::Sample;

/// `USER_HZ` is 100 on every architecture that Linux containers run on: `cpuacct.stat` and `/proc/PID/stat` count 10 ms.
pub const US_PER_TICK: u64 = 10_000;

/// Memory limits above this are "none": v1 prints the largest page-aligned 63-bit number.
const LARGEST_MEMORY_LIMIT: u64 = 1 << 60;

/// v1 `cpuacct.usage`: nanoseconds, taken to microseconds before anything is subtracted.
pub fn cpuacct_usage(text: &[u8], sample: &mut Sample) {
    sample.set_if(Column::CpuUsageUs, number(text).map(|ns| ns / 1_000));
}

/// v1 `cpuacct.stat`: ticks in user and kernel mode.
pub fn cpuacct_stat(text: &[u8], sample: &mut Sample) {
    sample.set_if(Column::CpuUserUs, key(text, b"user").and_then(|ticks| ticks.checked_mul(US_PER_TICK)));
    sample.set_if(Column::CpuSystemUs, key(text, b"system").and_then(|ticks| ticks.checked_mul(US_PER_TICK)));
}

/// v2 `cpu.stat`, the part of the fast tier.
pub fn cpu_stat_usage(text: &[u8], sample: &mut Sample) {
    sample.set_if(Column::CpuUsageUs, key(text, b"usage_usec"));
}

/// v2 `cpu.stat`, the part of the slow tier: user and kernel mode.
pub fn cpu_stat_modes(text: &[u8], sample: &mut Sample) {
    sample.set_if(Column::CpuUserUs, key(text, b"user_usec"));
    sample.set_if(Column::CpuSystemUs, key(text, b"system_usec"));
}

/// `cpu.stat` of both versions: enforcement of the CPU limit. v1 counts nanoseconds, v2 microseconds.
pub fn cpu_stat_throttling(text: &[u8], sample: &mut Sample) {
    keyed(text, |key, value| match key {
        b"nr_periods" => sample.set(Column::CpuPeriods, value),
        b"nr_throttled" => sample.set(Column::CpuThrottledPeriods, value),
        b"throttled_usec" => sample.set(Column::CpuThrottledUs, value),
        b"throttled_time" => sample.set(Column::CpuThrottledUs, value / 1_000),
        _ => {}
    });
}

/// v1 `memory.stat` with its descendants (`total_`); the working set follows from the usage read on the same tick.
pub fn memory_stat_v1(text: &[u8], sample: &mut Sample) {
    memory_stat(text, [b"total_rss", b"total_cache", b"total_inactive_file", b"total_pgfault", b"total_pgmajfault"], sample);
}

/// v2 `memory.stat`.
pub fn memory_stat_v2(text: &[u8], sample: &mut Sample) {
    memory_stat(text, [b"anon", b"file", b"inactive_file", b"pgfault", b"pgmajfault"], sample);
}

fn memory_stat(text: &[u8], keys: [&[u8]; 5], sample: &mut Sample) {
    let mut inactive_file = None;
    // Five lines of some forty: the others' numbers are not read.
    for line in lines(text) {
        let Some(end) = line.iter().position(|&byte| byte == b' ') else { continue };
        let Some(place) = keys.iter().position(|key| *key == &line[..end]) else { continue };
        let value = number(&line[end + 1..]);
        match place {
            0 => sample.set_if(Column::MemoryAnonBytes, value),
            1 => sample.set_if(Column::MemoryFileBytes, value),
            2 => inactive_file = value,
            3 => sample.set_if(Column::PageFaults, value),
            _ => sample.set_if(Column::MajorPageFaults, value),
        }
    }
    if let (Some(current), Some(inactive_file)) = (sample.get(Column::MemoryCurrentBytes), inactive_file) {
        // The two files are not read at one instant: the kubelet, too, stops at 0.
        sample.set(Column::MemoryWorkingSetBytes, current.saturating_sub(inactive_file));
    }
}

/// v1 `blkio.*.io_service_bytes*` or `io_serviced*`: lines of device, direction and number; the totals are left out.
#[must_use]
pub fn blkio(text: &[u8]) -> (u64, u64) {
    let (mut read, mut write) = (0u64, 0u64);
    for line in lines(text) {
        let mut words = words(line).skip(1);
        match (words.next(), words.next().and_then(number)) {
            (Some(b"Read"), Some(value)) => read = read.saturating_add(value),
            (Some(b"Write"), Some(value)) => write = write.saturating_add(value),
            _ => {}
        }
    }
    (read, write)
}

/// v2 `io.stat`: one line per device of `key=value` words. An empty file means that there was no I/O.
pub fn io_stat(text: &[u8], sample: &mut Sample) {
    let mut sums = [0u64; 4];
    for word in lines(text).flat_map(|line| words(line).skip(1)) {
        let Some(end) = word.iter().position(|&byte| byte == b'=') else { continue };
        let Some(value) = number(&word[end + 1..]) else { continue };
        let place = match &word[..end] {
            b"rbytes" => 0,
            b"wbytes" => 1,
            b"rios" => 2,
            b"wios" => 3,
            _ => continue,
        };
        sums[place] = sums[place].saturating_add(value);
    }
    for (column, sum) in [Column::IoReadBytes, Column::IoWriteBytes, Column::IoReads, Column::IoWrites].into_iter().zip(sums) {
        sample.set(column, sum);
    }
}

/// PSI: microseconds in which some task waited.
#[must_use]
pub fn pressure_some(text: &[u8]) -> Option<u64> {
    let line = lines(text).find(|line| line.starts_with(b"some "))?;
    words(line).find_map(|word| number(word.strip_prefix(b"total=")?))
}

/// A limit file: `max`, -1 or a number too large to be meant are "none".
#[must_use]
pub fn limit(text: &[u8]) -> Option<u64> {
    number(text).filter(|&value| value > 0 && value < LARGEST_MEMORY_LIMIT)
}

/// v2 `cpu.max` in millicores: quota and period in microseconds.
#[must_use]
pub fn cpu_max_millicores(text: &[u8]) -> Option<u64> {
    let mut words = words(lines(text).next()?);
    millicores(number(words.next()?)?, number(words.next()?)?)
}

/// Quota and period to millicores.
#[must_use]
pub fn millicores(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.checked_mul(1_000)?.checked_div(period_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_of_max_or_the_largest_number_is_none() {
        assert_eq!(limit(b"max\n"), None);
        assert_eq!(limit(b"-1\n"), None);
        assert_eq!(limit(b"9223372036854771712\n"), None);
        assert_eq!(limit(b"16777216\n"), Some(16_777_216));
        assert_eq!(cpu_max_millicores(b"max 100000\n"), None);
        assert_eq!(cpu_max_millicores(b"20000 100000\n"), Some(200));
    }

    #[test]
    fn devices_are_summed_and_totals_left_out() {
        let text = b"254:0 Read 4096\n254:0 Write 10\n254:0 Sync 3\n8:16 Read 4\nTotal 4113\n";

        assert_eq!(blkio(text), (4_100, 10));
    }

    #[test]
    fn io_of_several_devices_is_summed() {
        let mut sample = Sample::default();

        io_stat(b"254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=5 wbytes=0 rios=1 wios=0\n", &mut sample);

        assert_eq!(sample.get(Column::IoReadBytes), Some(15));
        assert_eq!(sample.get(Column::IoWriteBytes), Some(20));
        assert_eq!(sample.get(Column::IoReads), Some(2));
        assert_eq!(sample.get(Column::IoWrites), Some(2));
    }

    #[test]
    fn an_overlong_number_is_absent_and_not_wrapped() {
        let mut sample = Sample::default();

        cpuacct_usage(b"99999999999999999999999\n", &mut sample);

        assert_eq!(sample.get(Column::CpuUsageUs), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(text in prop::collection::vec(any::<u8>(), 0..400), template in "[a-z_]{0,12}[ =:.]?[0-9]{0,22}\n?") {
            for text in [&text[..], template.as_bytes()] {
                let mut sample = Sample::default();
                cpuacct_usage(text, &mut sample);
                cpuacct_stat(text, &mut sample);
                cpu_stat_usage(text, &mut sample);
                cpu_stat_modes(text, &mut sample);
                cpu_stat_throttling(text, &mut sample);
                memory_stat_v1(text, &mut sample);
                memory_stat_v2(text, &mut sample);
                io_stat(text, &mut sample);
                let _ = blkio(text);
                let _ = pressure_some(text);
                let _ = limit(text);
                let _ = cpu_max_millicores(text);
            }
        }
    }
}
