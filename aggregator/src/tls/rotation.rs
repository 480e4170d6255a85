//! When the CA is replaced, decided from instants alone: the new one is trusted long before it signs, the old one long after.

use super::validity::Life;

/// Certificates begin a day early, for clients whose clocks are behind.
const EARLY_S: i64 = 86_400;

/// The CAs that are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The one that signs.
    pub current: Life,
    /// The one that will.
    pub next: Option<Life>,
    /// Whether there are some that did.
    pub previous: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Make the next CA and publish it beside the present one.
    MakeNext,
    /// The next CA signs from now on; the present one stays published.
    Switch,
    /// Publish the previous ones no longer.
    DropPrevious,
}

/// What is to be done at an instant. The next CA is made when two thirds of the present one's life are over, or when `told`; it signs
/// after it was published for `overlap_s`, and the previous one goes after as long again.
#[must_use]
pub fn step(now_unix_s: i64, overlap_s: i64, told: bool, published: &Published) -> Step {
    let Published { current, next, previous } = published;
    if let Some(next) = next {
        let known = now_unix_s >= next.from_unix_s + EARLY_S + overlap_s;
        return if known || now_unix_s >= current.to_unix_s { Step::Switch } else { Step::Nothing };
    }
    if told || now_unix_s >= current.from_unix_s + (current.to_unix_s - current.from_unix_s) / 3 * 2 {
        return Step::MakeNext;
    }
    if *previous && now_unix_s >= current.from_unix_s + EARLY_S + 2 * overlap_s {
        return Step::DropPrevious;
    }
    Step::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const OVERLAP: i64 = 30 * DAY;

    /// A CA made on a day, for 3,000 days.
    fn made(day: i64) -> Life {
        Life { from_unix_s: (day - 1) * DAY, to_unix_s: (day + 3_000) * DAY }
    }

    fn at(day: i64, current: i64, next: Option<i64>, previous: bool) -> Step {
        step(day * DAY, OVERLAP, false, &Published { current: made(current), next: next.map(made), previous })
    }

    #[test]
    fn the_next_ca_is_made_after_two_thirds_and_signs_after_the_overlap() {
        assert_eq!(at(1_990, 0, None, false), Step::Nothing);
        assert_eq!(at(2_001, 0, None, false), Step::MakeNext);
        assert_eq!(at(2_030, 0, Some(2_001), false), Step::Nothing);
        assert_eq!(at(2_031, 0, Some(2_001), false), Step::Switch);
        assert_eq!(at(2_060, 2_001, None, true), Step::Nothing);
        assert_eq!(at(2_061, 2_001, None, true), Step::DropPrevious);
        assert_eq!(at(2_062, 2_001, None, false), Step::Nothing);
    }

    #[test]
    fn who_is_told_does_not_wait_for_two_thirds_but_for_the_overlap() {
        let published = Published { current: made(0), next: None, previous: false };

        assert_eq!(step(10 * DAY, OVERLAP, true, &published), Step::MakeNext);
        assert_eq!(step(11 * DAY, OVERLAP, true, &Published { next: Some(made(10)), ..published }), Step::Nothing);
    }

    #[test]
    fn a_ca_that_ended_while_nothing_ran_is_replaced_at_once() {
        assert_eq!(at(4_000, 0, None, false), Step::MakeNext);
        assert_eq!(at(4_000, 0, Some(4_000), false), Step::Switch);
    }

    /// Every day for thirty years: who trusts what was published a day before can always verify what signs today.
    #[test]
    fn what_was_published_a_day_ago_verifies_what_signs_today() {
        let (mut current, mut next, mut previous): (i64, Option<i64>, Vec<i64>) = (0, None, Vec::new());
        let mut trusted = vec![0];
        for day in 0..11_000 {
            match at(day, current, next, !previous.is_empty()) {
                Step::Nothing => {}
                Step::MakeNext => next = Some(day),
                Step::Switch => previous.push(std::mem::replace(&mut current, next.take().unwrap())),
                Step::DropPrevious => previous.clear(),
            }

            assert!(trusted.contains(&current), "day {day}: {current} signs, {trusted:?} were published");
            assert!(day < current + 3_000, "day {day}: {current} signs though it ended");
            trusted = [vec![current], next.into_iter().collect(), previous.clone()].concat();
            assert!(trusted.len() <= 2, "{trusted:?}");
        }
        assert!(current > 9_000, "it rotated: {current}");
    }
}
