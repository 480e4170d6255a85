//! What an agent's last comparisons with Prometheus came to, of one container or node.

use vedette_proto::v1::{ComparedCounter, CrossCheck};

/// One metric: the last comparison, and since when it comes to that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared {
    check: CrossCheck,
    since_unix_ms: i64,
    unix_ms: i64,
}

/// The metrics of one container or node; as many as there are.
#[derive(Clone, Debug, Default)]
pub(super) struct ComparedMetrics(Vec<Compared>);

impl ComparedMetrics {
    /// Takes in a comparison; whether it came to something else than the one before.
    pub fn take(&mut self, check: CrossCheck, unix_ms: i64) -> bool {
        let new = Compared { check, since_unix_ms: unix_ms, unix_ms };
        match self.0.iter_mut().find(|kept| kept.check.metric == check.metric) {
            // Of an older round.
            Some(kept) if unix_ms < kept.unix_ms => false,
            Some(kept) if (kept.check.outcome, kept.check.cause) == (check.outcome, check.cause) => {
                *kept = Compared { since_unix_ms: kept.since_unix_ms, ..new };
                false
            }
            Some(kept) => {
                *kept = new;
                true
            }
            None => {
                self.0.push(new);
                true
            }
        }
    }

    /// As the contract tells them; `whose` has everything but the comparison.
    pub fn messages<'a>(&'a self, whose: &'a ComparedCounter) -> impl Iterator<Item = ComparedCounter> + 'a {
        self.0.iter().map(|kept| ComparedCounter {
            check: Some(kept.check),
            since_unix_ms: kept.since_unix_ms,
            unix_ms: kept.unix_ms,
            ..whose.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::{CrossCheckCause, CrossCheckOutcome};

    use super::*;

    #[test]
    fn since_when_it_comes_to_that_outlives_rounds_that_say_the_same() {
        let mut metrics = ComparedMetrics::default();
        let check = |outcome: CrossCheckOutcome, cause: CrossCheckCause| CrossCheck {
            metric: 1,
            outcome: outcome as i32,
            cause: cause as i32,
            ..CrossCheck::default()
        };
        let agree = check(CrossCheckOutcome::Agree, CrossCheckCause::Unspecified);
        let stale = check(CrossCheckOutcome::SourceBroken, CrossCheckCause::Stale);

        let changed = [(agree, 10), (agree, 20), (stale, 30), (agree, 25), (stale, 40)].map(|(check, at)| metrics.take(check, at));

        assert_eq!(changed, [true, false, true, false, false]);
        let told: Vec<_> = metrics.messages(&ComparedCounter::default()).collect();
        assert_eq!((told.len(), told[0].since_unix_ms, told[0].unix_ms), (1, 30, 40));
    }
}
