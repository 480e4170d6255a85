//! How long a program goes on, and when within that it works: always, or on for a moment and off for longer.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest course, whatever is asked for.
const MAX_SECONDS: u64 = 3_600;
/// Longest sleep without a look at the clock.
const GLANCE: Duration = Duration::from_millis(500);
/// Most that is made up for after a wait, as a stretch of time at the rate.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Flags that every attack has.
#[derive(clap::Args, Clone, Debug)]
pub struct CourseArgs {
    /// Ends by itself after this long, at most an hour
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Works for this long at a time, milliseconds; with --off-ms
    #[arg(long, requires = "off_ms")]
    on_ms: Option<u64>,
    /// And rests for this long before it works again, milliseconds; what it holds, it keeps
    #[arg(long, requires = "on_ms")]
    off_ms: Option<u64>,
}

impl CourseArgs {
    /// The course begins now.
    pub(super) fn begin(&self) -> Course {
        let rhythm = Rhythm {
            on: Duration::from_millis(self.on_ms.unwrap_or(1).max(1)),
            off: Duration::from_millis(self.off_ms.unwrap_or(0)).min(Duration::from_secs(MAX_SECONDS)),
        };
        Course { began: Instant::now(), lasts: Duration::from_secs(self.seconds.min(MAX_SECONDS)), rhythm }
    }
}

/// On and off in turn, beginning with on.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    on: Duration,
    /// Zero: always on.
    off: Duration,
}

impl Rhythm {
    /// Time on within the first `elapsed`.
    fn on_within(self, elapsed: Duration) -> Duration {
        if self.off.is_zero() {
            return elapsed;
        }
        let turn = self.on + self.off;
        let turns = u32::try_from(elapsed.as_nanos() / turn.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.on * turns + (elapsed - turn * turns).min(self.on)
    }

    /// After `elapsed`: the time until the next change, and whether it is on until then.
    fn until_change(self, elapsed: Duration) -> (bool, Duration) {
        if self.off.is_zero() {
            return (true, Duration::MAX);
        }
        let turn = self.on + self.off;
        let turns = u32::try_from(elapsed.as_nanos() / turn.as_nanos().max(1)).unwrap_or(u32::MAX);
        let into = elapsed - turn * turns;
        if into < self.on { (true, self.on - into) } else { (false, turn - into) }
    }
}

/// A course under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    began: Instant,
    lasts: Duration,
    rhythm: Rhythm,
}

impl Course {
    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() >= self.lasts
    }

    /// Time left.
    pub(super) fn left(&self) -> Duration {
        self.lasts.saturating_sub(self.began.elapsed())
    }

    /// Time that it was on so far.
    pub(super) fn worked(&self) -> Duration {
        self.rhythm.on_within(self.began.elapsed().min(self.lasts))
    }

    /// How much longer it is on without a break: nothing while it is off.
    pub(super) fn on_for(&self) -> Duration {
        let (on, change) = self.rhythm.until_change(self.began.elapsed());
        if on { change.min(self.left()) } else { Duration::ZERO }
    }

    /// How long it is off from now.
    fn rest(&self) -> Option<Duration> {
        let (on, change) = self.rhythm.until_change(self.began.elapsed());
        (!on).then(|| change.min(self.left()))
    }

    /// Waits while it is off. False when it is over.
    pub(super) async fn on(&self) -> bool {
        while let Some(rest) = self.rest().filter(|_| !self.is_over()) {
            tokio::time::sleep(rest).await;
        }
        !self.is_over()
    }

    /// Waits while it is off, on this thread. False when it is over.
    pub(super) fn on_here(&self) -> bool {
        while let Some(rest) = self.rest().filter(|_| !self.is_over()) {
            thread::sleep(rest);
        }
        !self.is_over()
    }

    /// Sleeps on this thread, but not beyond the end.
    pub(super) fn sleep_here(&self, time: Duration) {
        thread::sleep(time.min(self.left()));
    }

    /// Sleeps, but not beyond the end.
    pub(super) async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time.min(self.left())).await;
    }
}

/// Tells when the next of so many things a second is due. What a slow machine misses is not made up for.
#[derive(Debug)]
pub(super) struct Tempo {
    course: Course,
    per_second: f64,
    owed: f64,
    accounted: Duration,
}

impl Tempo {
    /// A tempo from now on.
    pub(super) fn new(course: Course, per_second: f64) -> Self {
        Self { course, per_second: per_second.max(1e-3), owed: 1.0, accounted: course.worked() }
    }

    /// Waits until something is due and says how many; `None` when the course is over.
    pub(super) async fn due(&mut self) -> Option<u32> {
        while self.course.on().await {
            match self.account() {
                Ok(due) => return Some(due),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
        None
    }

    /// The same on this thread.
    pub(super) fn due_here(&mut self) -> Option<u32> {
        while self.course.on_here() {
            match self.account() {
                Ok(due) => return Some(due),
                Err(wait) => thread::sleep(wait),
            }
        }
        None
    }

    /// How many are due, at least one, or how long nothing is.
    fn account(&mut self) -> Result<u32, Duration> {
        let worked = self.course.worked();
        self.owed += worked.saturating_sub(self.accounted).as_secs_f64() * self.per_second;
        self.owed = self.owed.min((self.per_second * CATCH_UP.as_secs_f64()).max(1.0));
        self.accounted = worked;
        if self.owed < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - self.owed) / self.per_second);
            return Err(wait.clamp(Duration::from_millis(1), GLANCE));
        }
        let due = self.owed.floor();
        self.owed -= due;
        Ok(due as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn rhythm(on: u64, off: u64) -> Rhythm {
        Rhythm { on: Duration::from_secs(on), off: Duration::from_secs(off) }
    }

    fn course(seconds: u64, on_ms: Option<u64>, off_ms: Option<u64>) -> Course {
        CourseArgs { seconds, on_ms, off_ms }.begin()
    }

    #[test]
    fn only_the_time_on_counts() {
        let worked = |elapsed| rhythm(2, 20).on_within(Duration::from_secs(elapsed)).as_secs();

        assert_eq!([0, 1, 2, 3, 22, 23, 24, 25, 44].map(worked), [0, 1, 2, 2, 2, 3, 4, 4, 4]);
        assert_eq!(rhythm(2, 0).on_within(Duration::from_secs(9)).as_secs(), 9);
    }

    #[test]
    fn it_is_on_first_and_then_in_turn() {
        let at = |elapsed| rhythm(2, 20).until_change(Duration::from_secs(elapsed));

        assert_eq!(at(0), (true, Duration::from_secs(2)));
        assert_eq!(at(2), (false, Duration::from_secs(20)));
        assert_eq!(at(21), (false, Duration::from_secs(1)));
        assert_eq!(at(22), (true, Duration::from_secs(2)));
    }

    #[test]
    fn a_course_of_no_time_is_over_and_none_is_longer_than_an_hour() {
        assert!(course(0, None, None).is_over());
        assert!(course(u64::MAX, None, None).left() <= Duration::from_secs(MAX_SECONDS));
        assert!(course(u64::MAX, Some(0), Some(u64::MAX)).on_for() <= Duration::from_millis(1));
    }

    #[tokio::test]
    async fn a_tempo_of_a_course_that_is_over_has_nothing_due() {
        assert_eq!(Tempo::new(course(0, None, None), 1e9).due().await, None);
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let mut tempo = Tempo::new(course(60, None, None), 100.0);
        thread::sleep(Duration::from_millis(300));

        let due = tempo.due_here().unwrap();

        assert!(due <= 10, "{due} at once, where a tenth of a second holds 10");
    }
}
