//! What agents' last comparisons with Prometheus came to: of one container or node, and of all of them.

use vedette_proto::v1::{self, ComparedCounter, CrossCheck};

use super::{Fleet, NodeId, State, select};

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

impl Fleet {
    /// What one round of comparisons of a node came to, by key (`None` is the node itself); gives what changed.
    pub fn cross_checked(
        &self,
        id: NodeId,
        unix_ms: i64,
        error: &str,
        checks: &[(Option<u64>, v1::CrossCheck)],
    ) -> Vec<v1::ComparedCounter> {
        let mut state = self.write();
        let State { containers, nodes, .. } = &mut *state;
        let Some(node) = nodes.get_mut(&id) else { return Vec::new() };
        node.round = Some((unix_ms, error.to_owned()));
        let mut changed = Vec::new();
        for &(key, check) in checks {
            let check = v1::CrossCheck { container_ref: 0, ..check };
            let (compared, whose) = match key {
                None => (&mut node.compared, node_counter(&node.message)),
                Some(key) => match containers.get_mut(&key) {
                    Some(record) => {
                        let whose = container_counter(&record.message);
                        (&mut record.compared, whose)
                    }
                    None => continue,
                },
            };
            if compared.take(check, unix_ms) {
                changed.push(v1::ComparedCounter { check: Some(check), since_unix_ms: unix_ms, unix_ms, ..whose });
            }
        }
        changed
    }

    /// What comparisons come to now: what disagrees first, then what is broken, not known, and agrees; and whether more than `limit` match.
    #[must_use]
    pub fn compared(
        &self,
        selector: &v1::Selector,
        outcome: v1::CrossCheckOutcome,
        limit: usize,
    ) -> (Vec<v1::ComparedCounter>, bool, Vec<v1::CrossCheckingNode>) {
        use v1::CrossCheckOutcome::{Agree, Disagree, SourceBroken, Unknown, Unspecified};
        let state = self.read();
        let mut found: Vec<v1::ComparedCounter> = Vec::new();
        let wanted = |one: &v1::ComparedCounter| outcome == Unspecified || one.check.is_some_and(|check| check.outcome() == outcome);
        for record in state.containers.values() {
            if record.message.gone_unix_ms == 0 && select::matches(selector, &self.cluster, &record.message) {
                found.extend(record.compared.messages(&container_counter(&record.message)).filter(wanted));
            }
        }
        let cluster = if selector.cluster.is_empty() { &self.cluster } else { &selector.cluster };
        let of_cluster = || state.nodes.values().filter(|node| node.message.cluster == *cluster);
        for node in of_cluster() {
            let counter = node_counter(&node.message);
            // A selector of containers is about none of the node's own.
            let as_container = v1::Container { workload: counter.workload.clone(), node: counter.node.clone(), ..v1::Container::default() };
            if select::matches(selector, &self.cluster, &as_container) {
                found.extend(node.compared.messages(&counter).filter(wanted));
            }
        }
        let rank = |one: &v1::ComparedCounter| match one.check.map(|check| check.outcome()) {
            Some(Disagree) => 0,
            Some(SourceBroken) => 1,
            Some(Unknown | Unspecified) | None => 2,
            Some(Agree) => 3,
        };
        found.sort_by_cached_key(|one| {
            let name = one.workload.as_ref().map(ToString::to_string);
            (rank(one), one.node.clone(), name, one.container_id.clone(), one.check.map(|check| check.metric))
        });
        let truncated = found.len() > limit;
        found.truncate(limit);
        let mut nodes: Vec<v1::CrossCheckingNode> = of_cluster()
            .filter_map(|node| {
                let (unix_ms, error) = node.round.clone()?;
                Some(v1::CrossCheckingNode { cluster: node.message.cluster.clone(), name: node.message.name.clone(), unix_ms, error })
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        (found, truncated, nodes)
    }
}

fn container_counter(container: &v1::Container) -> v1::ComparedCounter {
    v1::ComparedCounter {
        workload: container.workload.clone(),
        node: container.node.clone(),
        pod_name: container.pod_name.clone(),
        container_id: container.container_id.clone(),
        ..v1::ComparedCounter::default()
    }
}

fn node_counter(node: &v1::Node) -> v1::ComparedCounter {
    let (cluster, owner_name) = (node.cluster.clone(), node.name.clone());
    let workload = v1::Workload { cluster, owner_kind: "Node".into(), owner_name, ..v1::Workload::default() };
    v1::ComparedCounter { workload: Some(workload), node: node.name.clone(), ..v1::ComparedCounter::default() }
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
