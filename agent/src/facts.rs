//! Which processes of a container are told of: each kind once, a burst at first, then a few a minute. Pure.
//!
//! Whoever starts processes under ever new names can use that up. The number left out is then told, and those still alive have their turn later: a
//! process that stays is told of unless as many others stay.

use std::collections::VecDeque;

use crate::parse::process::Status;

/// Kinds remembered per container; the one not seen for longest makes room, and is told again when it is seen again.
const REMEMBERED: usize = 64;
/// Told at once.
const BURST: u32 = 32;
/// So often one more may be told.
const REFILL_US: u64 = 10_000_000;
/// Processes left out that have their turn later; of more only the number is known.
const MAX_WAITING: usize = 64;

/// A kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is called and may do.
    pub status: Status,
    /// It is in another network namespace than its pod.
    pub foreign_network_namespace: bool,
}

/// What became of a process that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// To be told.
    New,
    /// Told before.
    Known,
    /// Left out for now, and counted.
    LeftOut,
}

/// The processes of one container.
#[derive(Debug, Default)]
pub struct Facts {
    /// Told, the one seen last at the end.
    told: VecDeque<Fact>,
    /// Left out and alive as far as known, the one that waits longest first.
    waiting: VecDeque<u32>,
    /// Used of [`BURST`].
    used: u32,
    refilled_us: u64,
    left_out: u32,
}

impl Facts {
    /// Takes note of a process.
    pub fn saw(&mut self, pid: u32, fact: Fact, now_us: u64) -> Seen {
        if let Some(place) = self.told.iter().position(|told| *told == fact) {
            self.told.remove(place);
            self.told.push_back(fact);
            return Seen::Known;
        }
        if !self.may_tell(now_us) {
            self.leave_out(pid);
            return Seen::LeftOut;
        }
        self.used += 1;
        if self.told.len() >= REMEMBERED {
            self.told.pop_front();
        }
        self.told.push_back(fact);
        Seen::New
    }

    fn leave_out(&mut self, pid: u32) {
        self.left_out = self.left_out.saturating_add(1);
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(pid);
        }
    }

    /// A process ended.
    pub fn ended(&mut self, pid: u32) {
        self.waiting.retain(|waiting| *waiting != pid);
    }

    /// A process that was left out and has its turn now.
    pub fn turn(&mut self, now_us: u64) -> Option<u32> {
        if self.waiting.is_empty() || !self.may_tell(now_us) { None } else { self.waiting.pop_front() }
    }

    /// The number left out that was not told yet goes with a fact that is told now.
    pub fn take_left_out(&mut self) -> u32 {
        std::mem::take(&mut self.left_out)
    }

    /// A fact told before, to be told once more with the number left out: nothing else is left to tell it with.
    pub fn repeat(&mut self, now_us: u64) -> Option<Fact> {
        let last = *self.told.back()?;
        if self.left_out == 0 || !self.may_tell(now_us) {
            return None;
        }
        self.used += 1;
        Some(last)
    }

    fn may_tell(&mut self, now_us: u64) -> bool {
        if self.used == 0 {
            self.refilled_us = now_us;
        }
        let refills = now_us.saturating_sub(self.refilled_us) / REFILL_US;
        self.refilled_us += refills * REFILL_US;
        self.used = self.used.saturating_sub(u32::try_from(refills).unwrap_or(u32::MAX));
        self.used < BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::process::Comm;

    const SECOND: u64 = 1_000_000;

    fn fact(number: u32) -> Fact {
        let comm = Comm::new(format!("name-{number}").as_bytes());
        let status = Status { comm, uid: 0, cap_effective: 0, seccomp: None };
        Fact { status, foreign_network_namespace: false }
    }

    #[test]
    fn after_thirty_two_invented_names_the_one_that_stays_is_told_and_so_is_the_number() {
        let mut facts = Facts::default();
        let flood: Vec<Seen> = (0..40).map(|number| facts.saw(number, fact(number), SECOND)).collect();
        assert_eq!(facts.saw(99, fact(99), SECOND), Seen::LeftOut);
        assert_eq!(flood.iter().filter(|seen| **seen == Seen::New).count(), BURST as usize);
        assert_eq!(facts.take_left_out(), 9);
        assert_eq!(facts.turn(2 * SECOND), None, "not before the next refill");
        (0..40).for_each(|pid| facts.ended(pid));

        assert_eq!(facts.turn(12 * SECOND), Some(99));
        assert_eq!(facts.saw(99, fact(99), 12 * SECOND), Seen::New);
        assert_eq!((facts.turn(12 * SECOND), facts.take_left_out()), (None, 0));
    }

    #[test]
    fn a_name_is_told_once_and_again_only_after_many_others() {
        let mut facts = Facts::default();
        assert_eq!((facts.saw(1, fact(1), SECOND), facts.saw(2, fact(1), SECOND)), (Seen::New, Seen::Known));

        for number in 0..REMEMBERED as u32 {
            assert_ne!(facts.saw(3, fact(1_000 + number), (100 + 100 * u64::from(number)) * SECOND), Seen::LeftOut);
        }

        assert_eq!(facts.saw(4, fact(1), 100_000 * SECOND), Seen::New);
    }

    #[test]
    fn a_flood_that_is_over_is_told_with_a_fact_that_was_told_before() {
        let mut facts = Facts::default();
        for number in 0..1_000 {
            facts.saw(number, fact(number), SECOND);
        }
        (0..1_000).for_each(|pid| facts.ended(pid));
        assert_eq!(facts.repeat(2 * SECOND), None);

        assert_eq!(facts.turn(11 * SECOND), None);
        assert_eq!((facts.repeat(11 * SECOND), facts.take_left_out()), (Some(fact(31)), 968));
        assert_eq!(facts.repeat(60 * SECOND), None);
    }

    #[test]
    fn a_burst_is_bounded_and_then_six_a_minute() {
        let mut facts = Facts::default();
        let told = (0..3_600).filter(|&second| facts.saw(1, fact(second), u64::from(second) * SECOND) == Seen::New).count();

        assert!((380..=400).contains(&told), "{told} in an hour");
        assert_eq!(facts.waiting.len(), MAX_WAITING);
    }
}
