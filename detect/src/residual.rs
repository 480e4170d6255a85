//! CPU of a node that belongs to no container known: what runs beside the pods, or around them.

use vedette_proto::{
    Column, Observation,
    v1::{Family, Kind},
};

use crate::{evidence, facts::Fact};

/// Time constant of the present, and of what is usual, seconds.
const NOW_TAU_S: f32 = 20.0;
const USUAL_TAU_S: f32 = 1_800.0;
/// Node rows seen for so long, in seconds, before anything is said.
const FORMING_S: f32 = 300.0;
/// So many cores, and so many times what is usual, for so long, is a note.
const LEAST_CORES: f32 = 0.75;
const TIMES: f32 = 3.0;
const LASTING_MS: i64 = 120_000;
/// Said with every row of the node.
const QUIET_MS: i64 = 60_000;
const RANK: f32 = 8.0;

/// One node's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Residual {
    now: f32,
    usual: f32,
    seconds: f32,
    since_ms: i64,
}

impl Residual {
    /// Takes in a node's row. It is a note, never more: on many nodes builds, backups and package managers run beside the pods.
    pub fn node(&mut self, unix_ms: i64, row: &Observation) -> Option<Fact> {
        let cores = (row.per_second(Column::NodeResidualCpuUs)? / 1e6) as f32;
        let seconds = (row.get(Column::IntervalUs)? as f32 / 1e6).min(30.0);
        self.now += (cores - self.now) * (1.0 - (-seconds / NOW_TAU_S).exp());
        self.seconds += seconds;
        let beyond = self.seconds > FORMING_S && self.now >= LEAST_CORES && self.now >= self.usual * TIMES;
        if !beyond {
            self.usual += (self.now - self.usual) * (seconds / self.seconds.min(USUAL_TAU_S)).min(1.0);
            self.since_ms = 0;
            return None;
        }
        if self.since_ms == 0 {
            self.since_ms = unix_ms;
        }
        (unix_ms - self.since_ms >= LASTING_MS).then(|| {
            let sentence = format!(
                "{} of the node's CPU belong to no container known, normally {}",
                evidence::human("cores", self.now),
                evidence::human("cores", self.usual)
            );
            let mut one = evidence::fact("cpu_of_nobody", Family::Cpu, sentence, Some(f64::from(self.now)), "cores", unix_ms, RANK);
            one.evidence.expected = Some(f64::from(self.usual));
            Fact {
                kind: Kind::Unknown,
                evidence: one,
                reasoning: "the node's CPU less that of all containers known, three times what is usual there for two minutes",
                onset_ms: self.since_ms,
                quiet_ms: Some(QUIET_MS),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of a node; the second of the first note, if any.
    fn noted(seconds: i64, rest: impl Fn(i64) -> f64) -> Option<i64> {
        let mut residual = Residual::default();
        (1..=seconds).find(|&second| {
            let mut node = Observation::default();
            node.set(Column::IntervalUs, 1_000_000);
            node.set(Column::NodeResidualCpuUs, (rest(second) * 1e6) as u64);
            residual.node(second * 1_000, &node).is_some()
        })
    }

    #[test]
    fn much_cpu_that_belongs_to_nobody_is_noted_after_two_minutes() {
        let noted = noted(1_200, |second| if second < 600 { 0.1 } else { 1.5 }).unwrap();

        assert!((720..=760).contains(&noted), "{noted}");
    }

    #[test]
    fn what_is_usual_there_and_what_containers_do_is_not() {
        assert_eq!(noted(1_200, |_| 1.5), None);
        assert_eq!(noted(1_200, |second| if second % 300 < 60 { 1.5 } else { 0.1 }), None);
    }
}
