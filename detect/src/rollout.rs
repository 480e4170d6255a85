//! Rollouts of a workload: what a new version does may be new without being bad, for a while and not too often.

use vedette_proto::v1::{self, Severity};

use crate::{Detector, fleet::Workload};

/// A rollout's hold-off.
const HOLD_OFF_MS: i64 = 5 * 60_000;
/// Most of it within any [`DAY_MS`]: who can roll out, could otherwise keep a workload quiet.
const DAILY_MS: i64 = 10 * 60_000;
const DAY_MS: i64 = 24 * 60 * 60_000;
/// Hold-offs remembered; more within a day are not granted.
const MAX_KEPT: usize = 16;
/// The API server tells of a new pod before or after its first rows; clocks differ too.
const EARLY_MS: i64 = 15_000;

/// A workload's hold-offs of the last day, event time: beginning and end, in order, without overlap.
#[derive(Clone, Debug, Default)]
pub struct HoldOffs(Vec<(i64, i64)>);

impl HoldOffs {
    /// A rollout begins. Whether there is a hold-off for it, if a shorter one.
    pub fn rollout(&mut self, unix_ms: i64) -> bool {
        self.0.retain(|(_, end)| *end > unix_ms - DAY_MS);
        let spent: i64 = self.0.iter().map(|(begin, end)| end - (*begin).max(unix_ms - DAY_MS)).sum();
        let begin = self.0.last().map_or(unix_ms, |(_, end)| unix_ms.max(*end));
        let end = (unix_ms + HOLD_OFF_MS).min(begin + (DAILY_MS - spent).max(0));
        let granted = end > begin && self.0.len() < MAX_KEPT;
        if granted {
            self.0.push((begin, end));
        }
        granted
    }

    /// All of them, to be kept.
    pub fn kept(&self) -> &[(i64, i64)] {
        &self.0
    }

    /// Those that were kept: the latest, as many as are remembered.
    pub fn of(mut kept: Vec<(i64, i64)>) -> Self {
        kept.retain(|(begin, end)| begin < end);
        kept.sort_unstable();
        kept.drain(..kept.len().saturating_sub(MAX_KEPT));
        Self(kept)
    }

    /// Whether a hold-off covers an instant.
    pub fn cover(&self, unix_ms: i64) -> bool {
        self.0.iter().any(|(begin, end)| (begin - EARLY_MS..*end).contains(&unix_ms))
    }
}

/// The highest severity of a report on a workload, by its rollouts and its namespace.
pub fn most(workload: &Workload, most: Severity, unix_ms: i64) -> Severity {
    workload.profile.most(most, workload.hold_offs.cover(unix_ms))
}

impl Detector {
    /// An owner's pods are made from another template since `unix_ms`: for [`HOLD_OFF_MS`], but at most [`DAILY_MS`] a day, the bands of its
    /// workloads are as wide as young ones', and incidents are tickets at most. What was learnt stays. `owner` names no container. Gives how
    /// many workloads have a hold-off for it.
    pub fn rolled_out(&mut self, owner: &v1::Workload, unix_ms: i64) -> usize {
        let of = |name: &v1::Workload| {
            name.cluster == owner.cluster
                && name.namespace == owner.namespace
                && name.owner_kind == owner.owner_kind
                && name.owner_name == owner.owner_name
        };
        self.fleet
            .workloads
            .iter_mut()
            .filter(|workload| of(&workload.name))
            .filter_map(|one| one.hold_offs.rollout(unix_ms).then_some(()))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn held_minutes(of: &HoldOffs, from_ms: i64, to_ms: i64) -> i64 {
        (from_ms / 1_000..to_ms / 1_000).filter(|second| of.0.iter().any(|(begin, end)| (*begin..*end).contains(&(second * 1_000)))).count()
            as i64
            / 60
    }

    #[test]
    fn a_hold_off_lasts_five_minutes() {
        let mut of = HoldOffs::default();

        assert!(of.rollout(100 * MINUTE_MS));

        assert!(of.cover(100 * MINUTE_MS - EARLY_MS) && of.cover(105 * MINUTE_MS - 1));
        assert!(!of.cover(105 * MINUTE_MS) && !of.cover(99 * MINUTE_MS));
    }

    #[test]
    fn a_rollout_during_a_hold_off_lengthens_it() {
        let mut of = HoldOffs::default();
        of.rollout(0);

        assert!(of.rollout(3 * MINUTE_MS));

        assert!(of.cover(8 * MINUTE_MS - 1) && !of.cover(8 * MINUTE_MS));
    }

    #[test]
    fn who_rolls_out_all_the_time_is_held_off_ten_minutes_of_any_day() {
        let mut of = HoldOffs::default();
        let mut all = HoldOffs::default();

        for minute in (0..3 * 24 * 60).step_by(7) {
            let before = of.0.len();
            let granted = of.rollout(minute * MINUTE_MS);
            if granted {
                all.0.push(*of.0.last().unwrap());
            }
            assert!(of.0.len() <= MAX_KEPT && (granted || of.0.len() <= before));
        }

        for hour in 0..48 {
            let from = hour * 60 * MINUTE_MS;
            assert!(held_minutes(&all, from, from + DAY_MS) <= 10, "hour {hour}");
        }
        assert_eq!(held_minutes(&all, 0, 3 * DAY_MS), 30);
    }
}
