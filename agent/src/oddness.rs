//! The cheap local test that promotes a pod: does this container move far more than it did? Pure.
//!
//! It decides only how often files are read, never what people are told; that is the aggregator's.

use vedette_proto::{Column, Observation};

/// The rates that are looked at, each with the level per second below which it means nothing.
const WATCHED: [(Column, f32); 7] = [
    (Column::CpuUsageUs, 300_000.0),
    (Column::NetTxPackets, 300.0),
    (Column::NetRxPackets, 300.0),
    (Column::TcpActiveOpens, 3.0),
    (Column::TcpAttemptFails, 1.0),
    (Column::TcpOutResets, 20.0),
    (Column::PageFaults, 50_000.0),
];
/// How many times its usual rate is odd.
const FACTOR: f32 = 4.0;
/// Weight of a new value; while odd a tenth of it, so that what stays becomes usual after minutes.
const WEIGHT: f32 = 0.1;

/// What one container usually does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Oddness {
    usual: [Option<f32>; WATCHED.len()],
    raw_sockets: Option<u64>,
}

impl Oddness {
    /// Looks at a row and says whether it is odd.
    pub fn look(&mut self, row: &Observation) -> bool {
        let mut odd = row.get(Column::Restarts).is_some_and(|restarts| restarts > 0);
        for ((column, floor), usual) in WATCHED.into_iter().zip(&mut self.usual) {
            let Some(rate) = row.per_second(column).map(|rate| rate as f32) else { continue };
            let before = usual.unwrap_or(0.0);
            let surprising = rate > floor && rate > before * FACTOR;
            odd |= surprising;
            *usual = Some(match *usual {
                // The first value is taken as it is unless it is odd by itself.
                None if !surprising => rate,
                _ => before + (rate - before) * if surprising { WEIGHT / 10.0 } else { WEIGHT },
            });
        }
        if let Some(sockets) = row.get(Column::RawSockets).map(|raw| raw + row.get(Column::PacketSockets).unwrap_or(0)) {
            odd |= self.raw_sockets.is_some_and(|before| sockets > before);
            self.raw_sockets = Some(sockets);
        }
        odd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cpu_us: u64) -> Observation {
        let mut row = Observation::default();
        row.set(Column::IntervalUs, 1_000_000);
        row.set(Column::CpuUsageUs, cpu_us);
        row
    }

    #[test]
    fn a_jump_is_odd_and_becomes_usual_when_it_stays() {
        let mut oddness = Oddness::default();
        assert!((0..60).all(|_| !oddness.look(&row(50_000))));

        assert!(oddness.look(&row(900_000)));

        let until_usual = (0..600).position(|_| !oddness.look(&row(900_000)));
        assert!(until_usual.is_some_and(|ticks| ticks > 5), "{until_usual:?}");
    }

    #[test]
    fn steady_work_is_not_odd_however_much() {
        let mut oddness = Oddness::default();
        for tick in 0..300 {
            let odd = oddness.look(&row(250_000 + tick % 7 * 10_000));
            assert!(!odd, "tick {tick}");
        }
    }
}
