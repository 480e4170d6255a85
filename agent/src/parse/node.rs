//! The node's own files that are read on every tick.

use vedette_proto::Column;

use super::{cgroup::US_PER_TICK, lines, number, words};
use crate::sample::Sample;

/// `/proc/stat`: CPU time by mode and forks. Guest time is already in user time.
pub fn stat(text: &[u8], sample: &mut Sample) {
    for line in lines(text) {
        if let Some(rest) = line.strip_prefix(b"cpu ") {
            let mut ticks = [0u64; 8];
            let mut read = 0;
            for (place, word) in ticks.iter_mut().zip(words(rest)) {
                let Some(value) = number(word) else { return };
                *place = value;
                read += 1;
            }
            if read < 8 {
                continue;
            }
            let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
            let us = |ticks: u64| ticks.saturating_mul(US_PER_TICK);
            sample.set(Column::NodeCpuBusyUs, us([user, nice, system, irq, softirq].into_iter().fold(0, u64::saturating_add)));
            sample.set(Column::NodeCpuIdleUs, us(idle.saturating_add(iowait)));
            sample.set(Column::NodeCpuStealUs, us(steal));
        } else if let Some(rest) = line.strip_prefix(b"processes ") {
            sample.set_if(Column::NodeForks, number(rest));
            return;
        }
    }
}

/// `/proc/loadavg`: load in thousandths, and the processes and threads that exist.
pub fn loadavg(text: &[u8], sample: &mut Sample) {
    let mut words = words(text);
    let load = words.next().and_then(|word| {
        let point = word.iter().position(|&byte| byte == b'.')?;
        let hundredths = word.get(point + 1..point + 3).and_then(number)?;
        number(&word[..point])?.checked_mul(1_000)?.checked_add(hundredths * 10)
    });
    sample.set_if(Column::NodeLoad1Milli, load);
    let total = words.nth(2).and_then(|word| {
        let slash = word.iter().position(|&byte| byte == b'/')?;
        number(&word[slash + 1..])
    });
    sample.set_if(Column::NodeProcesses, total);
}

/// What is taken of `/proc/meminfo`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal.
    pub total: Option<u64>,
    /// MemFree.
    pub free: Option<u64>,
    /// MemAvailable.
    pub available: Option<u64>,
}

/// `/proc/meminfo`.
#[must_use]
pub fn meminfo(text: &[u8]) -> Memory {
    let mut memory = Memory::default();
    // The three stand first; the rest of the file is not looked at.
    for line in lines(text).take(8) {
        let mut words = words(line);
        let place = match words.next() {
            Some(b"MemTotal:") => &mut memory.total,
            Some(b"MemFree:") => &mut memory.free,
            Some(b"MemAvailable:") => &mut memory.available,
            _ => continue,
        };
        *place = words.next().and_then(number).and_then(|kib| kib.checked_mul(1_024));
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn busy_idle_and_steal_are_told_apart() {
        let mut sample = Sample::default();

        stat(b"cpu  1 2 3 40 5 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1\nintr 5\nprocesses 77\n", &mut sample);

        assert_eq!(sample.get(Column::NodeCpuBusyUs), Some((1 + 2 + 3 + 6 + 7) * 10_000));
        assert_eq!(sample.get(Column::NodeCpuIdleUs), Some(45 * 10_000));
        assert_eq!(sample.get(Column::NodeCpuStealUs), Some(80_000));
        assert_eq!(sample.get(Column::NodeForks), Some(77));
    }

    #[test]
    fn load_is_in_thousandths() {
        let mut sample = Sample::default();

        loadavg(b"1.07 0.50 0.20 3/467 12345\n", &mut sample);

        assert_eq!(sample.get(Column::NodeLoad1Milli), Some(1_070));
        assert_eq!(sample.get(Column::NodeProcesses), Some(467));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(text in prop::collection::vec(any::<u8>(), 0..300), numbers in "cpu( [0-9]{1,21}){0,12}\n") {
            for text in [&text[..], numbers.as_bytes()] {
                let mut sample = Sample::default();
                stat(text, &mut sample);
                loadavg(text, &mut sample);
                let _ = meminfo(text);
            }
        }
    }
}
