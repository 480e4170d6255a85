//! What else the machine does: a session that shares its processors with others shows that in its figures, so it is said.

use std::fs;
use std::time::Duration;

use crate::exit::{Exit, Stop};

/// How long the machine is looked at before a session.
const LOOK: Duration = Duration::from_secs(3);
/// A machine that is busier than this share of its processors does something else.
const QUIET: f64 = 0.1;
/// More than this share of the processors used by others during a session is said loudly.
pub const LOUD: f64 = 0.05;
/// Ticks per second of the times in /proc, on every Linux that we know.
const TICKS: f64 = 100.0;

/// Waits a moment and refuses a machine that is busy, unless told not to. Returns the load average over a minute.
pub async fn quiet(despite_load: bool) -> anyhow::Result<Option<f64>> {
    let before = Processors::now();
    tokio::time::sleep(LOOK).await;
    let busy = before.zip(Processors::now()).and_then(|(before, after)| after.busy_share_since(before));
    if let Some(busy) = busy.filter(|&busy| busy > QUIET) {
        let told = format!("other work uses {:.0} % of the processors", busy * 100.0);
        if !despite_load {
            let told = format!("{told}: a recording would show it; end it, or give --despite-load, and the manifest will say so");
            return Err(Stop::new(Exit::Failure, told).into());
        }
        eprintln!("vedette: WARNING: {told}; the recording will show it");
    }
    Ok(load_average())
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The processors' time since boot, ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Processors {
    busy: u64,
    all: u64,
}

impl Processors {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The line of all processors: user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user and nice.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        let mut next = || fields.next()?.parse::<u64>().ok();
        let (user, nice, system, idle, iowait, irq, softirq) = (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
        let steal = next().unwrap_or(0);
        let busy = user + nice + system + irq + softirq;
        Some(Self { busy, all: busy + idle + iowait + steal })
    }

    fn busy_share_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|&all| all > 0)?;
        Some(self.busy.saturating_sub(before.busy) as f64 / all as f64)
    }
}

/// The processors from the begin of a session on.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    processors: Option<Processors>,
    own_ticks: u64,
}

impl Load {
    /// Begins now.
    pub fn begin() -> Self {
        Self { processors: Processors::now(), own_ticks: own_ticks("self").unwrap_or(0) }
    }

    /// The share of all processor time since then that others used than this process and what `own_cpu_seconds` says.
    pub fn foreign_share(&self, own_cpu_seconds: f64) -> Option<f64> {
        let (before, after) = (self.processors?, Processors::now()?);
        let own = own_cpu_seconds * TICKS + own_ticks("self")?.saturating_sub(self.own_ticks) as f64;
        let busy = after.busy.checked_sub(before.busy)? as f64;
        let all = after.all.checked_sub(before.all).filter(|&all| all > 0)? as f64;
        Some(((busy - own) / all).clamp(0.0, 1.0)).map(|share| (share * 10_000.0).round() / 10_000.0)
    }
}

/// Processor time of a process, without its children, seconds. `None` when it is gone.
pub fn seconds_of(pid: u32) -> Option<f64> {
    own_ticks(&pid.to_string()).map(|ticks| ticks as f64 / TICKS)
}

/// Processor time of a cgroup with everything that ever was below it, seconds. `None` when it is gone.
pub fn seconds_below(cgroup: &str) -> Option<f64> {
    let read = |path: String| fs::read_to_string(path).ok();
    let v1 = ["cpuacct", "cpu,cpuacct"].iter().find_map(|mount| read(format!("/sys/fs/cgroup/{mount}/{cgroup}/cpuacct.usage")));
    let nanoseconds = v1.and_then(|text| text.trim().parse::<u64>().ok());
    let v2 = || usage_us(&read(format!("/sys/fs/cgroup/{cgroup}/cpu.stat"))?);
    nanoseconds.map(|ns| ns as f64 / 1e9).or_else(|| v2().map(|us| us as f64 / 1e6))
}

fn usage_us(cpu_stat: &str) -> Option<u64> {
    cpu_stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
}

fn own_ticks(pid: &str) -> Option<u64> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// utime and stime; the name before them may hold anything, also parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busy_share_leaves_out_idling_waiting_and_stolen_time() {
        let before = Processors::parse("cpu  100 0 50 800 40 3 7 0 0 0\ncpu0 1 2 3").unwrap();
        let after = Processors::parse("cpu  150 10 80 1000 50 5 13 20 99 99\n").unwrap();

        assert_eq!(before, Processors { busy: 160, all: 1_000 });
        assert_eq!(after.busy_share_since(before), Some(98.0 / 328.0));
        assert_eq!(before.busy_share_since(after), None);
    }

    #[test]
    fn a_hostile_process_name_does_not_shift_the_fields() {
        let stat = "42 (a) R 1 2 3) S 1 42 42 0 -1 4194560 1 2 3 4 700 300 11 12 20 0 1 0 5 6 7";

        assert_eq!(ticks(stat), Some(1_000));
        assert_eq!(usage_us("usage_usec 42\nuser_usec 30\n"), Some(42));
    }
}
