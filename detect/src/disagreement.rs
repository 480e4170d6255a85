//! Disagreement: the agent and Prometheus count the same thing differently, for long. Both read the same kernel, so a scrape, a clock or the
//! agent is at fault; it is a ticket, and proof of nothing.

use std::collections::HashMap;

use vedette_proto::v1::{CrossCheck, CrossCheckMetric, CrossCheckOutcome, Family};

use crate::{
    SubjectKey,
    evidence::{self, Ranked},
};

/// A disagreement that lasts so long, event time, and for so many rounds is told.
const LASTING_MS: i64 = 240_000;
const ROUNDS: u32 = 3;
/// With more containers of a node at once it is the node's: its scrape, its clock, its agent.
const MANY: usize = 3;
/// Not seen for so long, it is over.
pub const QUIET_MS: i64 = 600_000;
const RANK: f32 = 15.0;

/// Since when one metric of one container disagrees.
#[derive(Clone, Copy)]
struct Since {
    unix_ms: i64,
    rounds: u32,
}

/// What disagrees now; bounded by containers times metrics.
#[derive(Default)]
pub struct Disagreements {
    since: HashMap<(SubjectKey, i32), Since>,
}

/// A disagreement that lasts.
pub struct Lasting {
    pub key: SubjectKey,
    pub since_ms: i64,
    pub evidence: Vec<Ranked>,
}

impl Disagreements {
    /// Takes in one round of a node; gives what lasts: one for each container, or one for the node if it is many.
    pub fn round(&mut self, node: SubjectKey, checks: &[(SubjectKey, CrossCheck)], unix_ms: i64) -> Vec<Lasting> {
        let mut lasting: Vec<Lasting> = Vec::new();
        for (key, check) in checks {
            let place = (*key, check.metric);
            match check.outcome() {
                CrossCheckOutcome::Disagree => {}
                // Nothing was learnt: what disagreed before has not come to agree.
                CrossCheckOutcome::Unknown => continue,
                _ => {
                    self.since.remove(&place);
                    continue;
                }
            }
            let since = self.since.entry(place).or_insert(Since { unix_ms, rounds: 0 });
            since.rounds += 1;
            if since.rounds < ROUNDS || unix_ms - since.unix_ms < LASTING_MS {
                continue;
            }
            let evidence = told(check, unix_ms);
            match lasting.iter_mut().find(|one| one.key == *key) {
                Some(one) => {
                    one.since_ms = one.since_ms.min(since.unix_ms);
                    one.evidence.push(evidence);
                }
                None => lasting.push(Lasting { key: *key, since_ms: since.unix_ms, evidence: vec![evidence] }),
            }
        }
        if lasting.len() <= MANY {
            return lasting;
        }
        let count = lasting.len();
        let since_ms = lasting.iter().map(|one| one.since_ms).min().unwrap_or(unix_ms);
        let sentence = format!("{count} containers of this node are counted differently by the agent and by Prometheus");
        let many = evidence::fact("cross_check", Family::External, sentence, Some(count as f64), "containers", unix_ms, RANK + 1.0);
        let example = lasting.into_iter().next().map(|one| one.evidence).unwrap_or_default();
        vec![Lasting { key: node, since_ms, evidence: std::iter::once(many).chain(example).collect() }]
    }

    /// A container is gone.
    pub fn forget(&mut self, key: SubjectKey) {
        for metric in CrossCheckMetric::WORDS {
            self.since.remove(&(key, *metric as i32));
        }
    }
}

fn told(check: &CrossCheck, unix_ms: i64) -> Ranked {
    let metric = check.metric();
    let (unit, unit_of_rate) = match metric {
        CrossCheckMetric::Cpu | CrossCheckMetric::NodeCpu => ("s", "CPU seconds"),
        CrossCheckMetric::Restarts => ("restarts", "restarts"),
        _ => ("B", "B"),
    };
    let human = |value: Option<f64>| {
        let value = value.unwrap_or_default();
        if unit == "B" { evidence::human("B", value as f32) } else { format!("{value:.1} {unit_of_rate}") }
    };
    let over = match metric {
        CrossCheckMetric::WorkingSet | CrossCheckMetric::NodeMemoryAvailable => String::new(),
        _ => format!(" in {:.0} s", check.seconds.unwrap_or_default()),
    };
    let sentence = format!("{}: {} by the agent, {} by Prometheus{over}", metric.word(), human(check.ours), human(check.theirs));
    let mut one = evidence::fact(&format!("cross_check_{}", metric.word()), Family::External, sentence, check.theirs, unit, unix_ms, RANK);
    one.evidence.expected = check.ours;
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: SubjectKey = SubjectKey(0);

    fn check(outcome: CrossCheckOutcome) -> CrossCheck {
        CrossCheck {
            metric: CrossCheckMetric::Cpu as i32,
            outcome: outcome as i32,
            ours: Some(120.0),
            theirs: Some(60.0),
            seconds: Some(300.0),
            ..CrossCheck::default()
        }
    }

    fn rounds(outcomes: &[CrossCheckOutcome], containers: u64) -> Vec<Lasting> {
        let mut state = Disagreements::default();
        let mut last = Vec::new();
        for (round, outcome) in outcomes.iter().enumerate() {
            let checks: Vec<_> = (1..=containers).map(|key| (SubjectKey(key), check(*outcome))).collect();
            last = state.round(NODE, &checks, round as i64 * 60_000);
        }
        last
    }

    use CrossCheckOutcome::{Agree, Disagree, SourceBroken, Unknown};

    #[test]
    fn only_what_lasts_is_told() {
        assert!(rounds(&[Disagree; 4], 1).is_empty());
        let lasting = rounds(&[Disagree; 5], 1);
        assert_eq!((lasting.len(), lasting[0].key, lasting[0].since_ms), (1, SubjectKey(1), 0));
        let sentence = &lasting[0].evidence[0].evidence.sentence;
        assert_eq!(sentence, "cpu: 120.0 CPU seconds by the agent, 60.0 CPU seconds by Prometheus in 300 s");
    }

    #[test]
    fn agreement_and_a_broken_source_end_it_and_not_knowing_does_not() {
        for end in [Agree, SourceBroken] {
            assert!(rounds(&[Disagree, Disagree, Disagree, end, Disagree, Disagree], 1).is_empty());
        }
        assert_eq!(rounds(&[Disagree, Disagree, Disagree, Unknown, Disagree, Disagree], 1).len(), 1);
    }

    #[test]
    fn many_at_once_are_one_about_the_node() {
        assert_eq!(rounds(&[Disagree; 6], 3).len(), 3);
        let lasting = rounds(&[Disagree; 6], 4);
        assert_eq!((lasting.len(), lasting[0].key), (1, NODE));
        assert!(lasting[0].evidence[0].evidence.sentence.starts_with("4 containers"));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut state = Disagreements::default();
        state.round(NODE, &[(SubjectKey(1), check(Disagree))], 0);

        state.forget(SubjectKey(1));

        assert!(state.since.is_empty());
    }
}
