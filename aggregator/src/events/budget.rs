//! How many Events are created: an attacker who can make incidents must not fill the cluster's store with them, nor keep a page from being told
//! by many tickets before it.

use std::time::Duration;

use tokio::time::Instant;

/// Events in a row.
const BURST: u32 = 20;
/// Pages beyond those: tickets leave them this room.
const RESERVE: u32 = 5;
/// One more after so long.
const EACH: Duration = Duration::from_secs(6);

/// What may still be created: at most [`BURST`] at once, [`RESERVE`] more where they are pages, and one more every [`EACH`].
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// When it was or will be whole again; `None` while nothing was taken.
    whole: Option<Instant>,
}

impl Budget {
    /// Whether one more may be created now; it counts as such.
    pub fn take(&mut self, page: bool, now: Instant) -> bool {
        let whole = self.whole.map_or(now, |whole| whole.max(now)) + EACH;
        let most = if page { BURST + RESERVE } else { BURST };
        let allowed = whole - now <= EACH * most;
        if allowed {
            self.whole = Some(whole);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_every_six_seconds() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let mut passed = |from: u64, tries: u32| (0..tries).filter(|_| budget.take(false, start + Duration::from_secs(from))).count();

        assert_eq!(passed(0, 100), 20);
        assert_eq!(passed(5, 100), 0);
        assert_eq!(passed(12, 100), 2);
        assert_eq!(passed(3_600, 100), 20, "an idle hour saves no more than a burst");
    }

    #[test]
    fn tickets_leave_room_for_pages() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let mut passed = |page: bool| (0..100).filter(|_| budget.take(page, now)).count();

        assert_eq!((passed(false), passed(true), passed(true), passed(false)), (20, 5, 0, 0));
    }
}
