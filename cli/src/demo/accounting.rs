//! Observations from the kernel to the export: how many there should be, how many there are, and where the others went.

use std::collections::HashMap;

use super::schedule::Schedule;

/// One agent tick, milliseconds.
const TICK_MS: i64 = 1_000;

/// The reason that explains nothing: something hung, or was too slow.
pub const NOT_OBSERVED: &str = "not observed though alive";

/// Expected against stored, with the difference by reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Containers alive times ticks, by the injector's clock.
    pub expected: u64,
    /// Container rows in history.
    pub stored: u64,
    /// Why there are fewer: reason, observations, containers.
    pub missing: Vec<(&'static str, u64, u64)>,
    /// Rows beyond what was expected of a container: its ticks fell well.
    pub surplus: u64,
    /// Rows of containers that the injector does not know.
    pub strangers: u64,
}

/// Compares what the injector knows with the rows per container id. Ticks before `from_unix_ms` are not expected.
pub fn account(schedule: &Schedule, stored: &HashMap<String, u64>, from_unix_ms: i64) -> Accounting {
    let mut accounting = Accounting { stored: stored.values().sum(), ..Accounting::default() };
    let mut missing = [
        ("lived too short for two readings", 0, 0),
        ("first reading of a life, which only anchors its counters", 0, 0),
        (NOT_OBSERVED, 0, 0),
    ];
    let mut known = 0;
    for life in schedule.lives.iter().filter(|life| !life.sandbox) {
        let gone = if life.gone_unix_ms > 0 { life.gone_unix_ms } else { schedule.ended_unix_ms };
        // Ticks are a second apart at a phase that we do not know: whole seconds of the clock stand for them.
        let expected = gone.div_euclid(TICK_MS) - life.born_unix_ms.max(from_unix_ms).div_euclid(TICK_MS);
        let expected = u64::try_from(expected).unwrap_or(0);
        let found = stored.get(&life.container_id).copied().unwrap_or(0);
        accounting.expected += expected;
        known += found;
        accounting.surplus += found.saturating_sub(expected);
        let short = expected.saturating_sub(found);
        let reason = match (short, found) {
            (0, _) => continue,
            (_, 0) if expected <= 2 => 0,
            (1, _) => 1,
            _ => 2,
        };
        missing[reason].1 += short;
        missing[reason].2 += 1;
    }
    accounting.strangers = accounting.stored.saturating_sub(known);
    accounting.missing = missing.into_iter().filter(|reason| reason.1 > 0).collect();
    accounting
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Life;
    use super::*;

    fn life(id: &str, born_unix_ms: i64, gone_unix_ms: i64, sandbox: bool) -> Life {
        Life { pod_uid: "p".to_owned(), container_id: id.to_owned(), sandbox, born_unix_ms, gone_unix_ms }
    }

    #[test]
    fn every_missing_observation_has_a_reason_and_sandboxes_are_not_expected() {
        let lives =
            vec![life("a", 500, 10_500, false), life("s", 500, 10_500, true), life("b", 2_900, 3_200, false), life("c", 0, 5_000, false)];
        let schedule = Schedule { lives, ..Schedule::default() };
        let stored = HashMap::from([("a".to_owned(), 9), ("c".to_owned(), 5)]);

        let accounting = account(&schedule, &stored, 0);

        assert_eq!((accounting.expected, accounting.stored, accounting.strangers), (16, 14, 0));
        let counts: Vec<_> = accounting.missing.iter().map(|reason| (reason.1, reason.2)).collect();
        assert_eq!(counts, [(1, 1), (1, 1)]);
    }
}
