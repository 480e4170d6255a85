//! What the containers of a made-up cluster do in a second, and how it becomes rows.

use vedette_proto::{Column as C, Observation};

/// Numbers from a seed (xorshift, Marsaglia 2003).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Of a seed and whatever tells one use from another.
    pub fn new(seed: u64, of: u64) -> Self {
        // Neighbouring seeds begin far from each other.
        let mixed = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ of.wrapping_mul(0xbf58_476d_1ce4_e5b9)) | 1;
        let mut chance = Self(mixed);
        (0..8).for_each(|_| _ = chance.share());
        chance
    }

    /// Between 0 and 1.
    pub fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// About normal: mean 0, deviation 1.
    pub fn noise(&mut self) -> f64 {
        (0..4).map(|_| self.share() - 0.5).sum::<f64>() * 3.0f64.sqrt()
    }
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Answers requests, more by day than by night.
    Web,
    /// Asks others, in bursts of minutes.
    Client,
    /// Holds things in memory.
    Cache,
    /// Writes, with a checkpoint every five minutes.
    Database,
    /// Computes for some minutes and ends.
    Job,
    /// Computes now and then.
    Batch,
    /// Sends on what others say.
    Shipper,
    /// Asks everybody, all the time.
    Scraper,
}

/// Per second, or as a level.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    cpu: f64,
    rx_bytes: f64,
    tx_bytes: f64,
    packets: f64,
    opens: f64,
    accepts: f64,
    fails: f64,
    established: f64,
    anon: f64,
    pids: f64,
    written: f64,
}

/// A container's state.
pub struct Worker {
    work: Work,
    size: f64,
    chance: Chance,
    /// Slow wander around the usual, a factor's logarithm.
    wander: f64,
    /// A burst, checkpoint or computation lasts until then, seconds.
    busy_until: i64,
    next_busy: i64,
    /// Its CPU time is so many times as much as its work explains.
    pub cpu_times: f64,
    born: i64,
    slow: Load,
    slow_s: i64,
    rare_s: i64,
}

/// Requests by the time of day, between a fifth and one: least at four at night, most at four in the afternoon.
fn rhythm(second: i64) -> f64 {
    let hour = second as f64 / 3_600.0 % 24.0;
    0.6 - 0.4 * ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos()
}

impl Worker {
    /// One that starts now; `size` is its requests per second, or its share of a core.
    pub fn new(work: Work, size: f64, mut chance: Chance, second: i64) -> Self {
        let slow_s = (chance.share() * 5.0) as i64;
        let next_busy = second + chance.between(60.0, 900.0) as i64;
        Self {
            work,
            size,
            chance,
            wander: 0.0,
            busy_until: 0,
            next_busy,
            cpu_times: 1.0,
            born: second,
            slow: Load::default(),
            slow_s,
            rare_s: 0,
        }
    }

    /// Whether it computes, bursts or writes now; begins and ends that.
    fn is_busy(&mut self, second: i64, every: (f64, f64), lasts: (f64, f64)) -> bool {
        if second >= self.next_busy {
            self.busy_until = second + self.chance.between(lasts.0, lasts.1) as i64;
            self.next_busy = self.busy_until + self.chance.between(every.0, every.1) as i64;
        }
        second < self.busy_until
    }

    fn load(&mut self, second: i64) -> Load {
        // About a minute's memory, a seventh up and down.
        self.wander += -self.wander / 60.0 + 0.025 * self.chance.noise();
        let factor = self.wander.exp() * (1.0 + 0.1 * self.chance.noise()).max(0.1);
        let age = (second - self.born) as f64;
        let mut load = match self.work {
            Work::Web => answering(self.size * rhythm(second) * factor),
            Work::Client => {
                let burst = if self.is_busy(second, (300.0, 900.0), (30.0, 120.0)) { 4.0 } else { 1.0 };
                let asked = answering(self.size * burst * factor);
                Load { rx_bytes: asked.tx_bytes, tx_bytes: asked.rx_bytes, opens: asked.accepts, accepts: 0.0, fails: 0.001, ..asked }
            }
            Work::Cache => {
                let asked = answering(self.size * rhythm(second) * factor);
                let full = 400e6 * (1.0 - (-age / 7_200.0).exp());
                Load { accepts: 0.02, established: 40.0, anon: 60e6 + full, ..asked }
            }
            Work::Database => {
                let writes = self.is_busy(second, (280.0, 320.0), (15.0, 25.0));
                let asked = answering(self.size * rhythm(second) * factor);
                let written = if writes { 30e6 } else { 400e3 * factor };
                Load { accepts: 0.01, established: 30.0, anon: 500e6, written, cpu: asked.cpu + if writes { 0.25 } else { 0.0 }, ..asked }
            }
            Work::Job => {
                Load { cpu: self.size * factor.min(1.05), rx_bytes: 3e3, tx_bytes: 2e3, packets: 5.0, anon: 150e6, pids: 3.0, ..quiet() }
            }
            Work::Batch => {
                let works = self.is_busy(second, (1_200.0, 2_400.0), (240.0, 600.0));
                Load { cpu: if works { self.size * factor.min(1.1) } else { 0.02 }, anon: if works { 300e6 } else { 80e6 }, ..quiet() }
            }
            Work::Shipper => {
                let said = 20e3 * self.size * (0.3 + rhythm(second)) * factor;
                Load { cpu: 0.02, tx_bytes: said, rx_bytes: said * 0.03, packets: said / 700.0, established: 2.0, anon: 40e6, ..quiet() }
            }
            Work::Scraper => {
                let scrapes = self.size * (1.0 + 0.1 * self.chance.noise());
                Load {
                    cpu: 0.08,
                    rx_bytes: scrapes * 30e3,
                    tx_bytes: scrapes * 600.0,
                    packets: scrapes * 25.0,
                    opens: scrapes,
                    anon: 300e6,
                    ..quiet()
                }
            }
        };
        load.cpu *= self.cpu_times;
        if age < 12.0 && self.work != Work::Job {
            // Starting up is work too: reading code, warming up, connecting.
            load.cpu += 0.6;
            load.opens += 1.0;
        }
        load
    }

    /// The row of this second.
    pub fn row(&mut self, second: i64) -> Observation {
        let load = self.load(second);
        let mut row = Observation::default();
        let chance = &mut self.chance;
        // Ticks are some milliseconds early or late.
        let interval = 1.0 + 0.004 * chance.noise();
        let count = |chance: &mut Chance, mean: f64| (mean.max(0.0) + chance.share()) as u64;
        row.set(C::IntervalUs, (interval * 1e6) as u64);
        row.set(C::CpuUsageUs, (load.cpu * interval * 1e6) as u64);
        row.set(C::MemoryCurrentBytes, (load.anon * 1.3) as u64);
        row.set(C::NetRxBytes, count(chance, load.rx_bytes * interval));
        row.set(C::NetTxBytes, count(chance, load.tx_bytes * interval));
        row.set(C::NetRxPackets, count(chance, load.packets * interval));
        row.set(C::NetTxPackets, count(chance, load.packets * interval));
        row.set(C::NetDropped, 0);
        let sums = &mut self.slow;
        sums.cpu += load.cpu;
        sums.opens += load.opens;
        sums.accepts += load.accepts;
        sums.fails += load.fails;
        sums.written += load.written;
        if (second + self.slow_s) % 5 == 0 && second > self.born {
            let seconds = (second - self.born).min(5) as f64;
            row.set(C::SlowIntervalUs, (seconds * 1e6) as u64);
            row.set(C::CpuSystemUs, (sums.cpu * 0.2e6) as u64);
            row.set(C::TcpActiveOpens, count(chance, sums.opens));
            row.set(C::TcpPassiveOpens, count(chance, sums.accepts));
            row.set(C::TcpAttemptFails, count(chance, sums.fails - 0.5));
            row.set(C::TcpEstabResets, count(chance, sums.accepts * 0.01 - 0.5));
            row.set(C::TcpOutResets, count(chance, sums.accepts * 0.02 - 0.5));
            row.set(C::TcpEstablished, count(chance, load.established));
            row.set(C::IoWriteBytes, sums.written as u64);
            row.set(C::ChildMinorFaults, 0);
            row.set(C::OomKills, 0);
            row.set(C::MemoryAnonBytes, load.anon as u64);
            row.set(C::MemoryWorkingSetBytes, (load.anon * 1.1) as u64);
            row.set(C::PidsCurrent, load.pids as u64);
            row.set(C::PidsLimit, 1_000);
            row.set(C::ArpIncomplete, 0);
            row.set(C::RawSockets, 0);
            row.set(C::PacketSockets, 0);
            self.slow = Load::default();
        }
        if (second + self.slow_s) % 10 == 0 && second > self.born {
            row.set(C::RareIntervalUs, (second - self.rare_s.max(self.born)) as u64 * 1_000_000);
            row.set(C::TcpSynRetransmits, u64::from(chance.share() < 0.01));
            row.set(C::ListenDrops, 0);
            self.rare_s = second;
        }
        row
    }
}

/// Nothing to speak of.
fn quiet() -> Load {
    Load { cpu: 0.004, rx_bytes: 80.0, tx_bytes: 80.0, packets: 1.0, established: 1.0, anon: 30e6, pids: 4.0, ..Load::default() }
}

/// So many requests a second answered, one in ten on a new connection.
fn answering(requests: f64) -> Load {
    Load {
        cpu: 0.01 + requests * 0.001,
        rx_bytes: requests * 700.0,
        tx_bytes: requests * 4_000.0,
        packets: requests * 6.0,
        accepts: requests * 0.1,
        established: 2.0 + requests * 0.05,
        anon: 90e6,
        pids: 8.0,
        written: 2e3,
        ..quiet()
    }
}
