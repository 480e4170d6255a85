//! Whether Prometheus and the agent saw the same of a container: pure, without I/O and without a clock.
//!
//! Both read the same kernel. So what [`check`] can find is a fault of a scrape, of a clock or of the agent, and never proof of anything else.
//! Counters are compared as deltas over at least three scrape intervals, gauges as medians, at the instants that Prometheus has values of.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod series;
mod shift;

pub use series::Point;
use series::{Series, median};

/// Scrape intervals that a comparison covers at least.
pub const LEAST_INTERVALS: i64 = 3;
/// A hole, or an age of the newest value, of so many intervals is no jitter.
const LATE_INTERVALS: f64 = 2.5;
/// Prometheus's clock may be so far from ours, milliseconds: two clocks kept by NTP are nearer, and an exchange of messages takes less.
const CLOCK_TOLERANCE_MS: i64 = 5_000;
/// When a value was read is known so well, milliseconds: a tick of ours, and as much for an exporter that stamps what it read a moment ago.
const STAMP_TOLERANCE_MS: i64 = 2_000;
/// Two sides that differ by less than this share of the larger agree: an exporter reads more than one file, and not at one instant.
const RELATIVE_TOLERANCE: f64 = 0.1;

/// How a metric is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// A counter; a difference below `floor` (the metric's unit) per second says nothing.
    Counter {
        /// Per second.
        floor: f64,
    },
    /// A level; a difference below `floor` (the metric's unit) says nothing.
    Gauge {
        /// The metric's unit.
        floor: f64,
    },
}

/// What is known of the scrape that a metric of Prometheus comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scrape {
    /// Now, by our clock, Unix milliseconds.
    pub now_unix_ms: i64,
    /// Prometheus's clock less ours, milliseconds; `None`: it did not say.
    pub clock_ahead_ms: Option<i64>,
    /// From one scrape to the next, milliseconds.
    pub interval_ms: i64,
    /// Whether the last scrape of this node's target succeeded; `None`: Prometheus knows no such target.
    pub up: Option<bool>,
    /// The target yields this metric, whosever it may be.
    pub has_metric: bool,
}

/// One container and one metric, as both sides have it. Points are in order of time.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// Our own counter or level, as it was sampled.
    pub ours: &'a [Point],
    /// Prometheus's, as it was scraped: with the labels of this very container.
    pub theirs: &'a [Point],
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing can be said, and nothing is wrong by that.
    Unknown(Reason),
    /// Both saw the same.
    Agree(Values),
    /// Prometheus's values cannot be relied on, and it shows why.
    SourceBroken(Fault),
    /// Both look sound and are apart.
    Disagree(Values),
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// We have not watched the container for [`LEAST_INTERVALS`], or not without a hole.
    OwnHistory,
    /// Prometheus has not scraped it for [`LEAST_INTERVALS`] yet.
    TheirHistory,
    /// The target does not have this metric of anybody: dropped by configuration, or not exported.
    NotExported,
}

/// What is wrong with Prometheus's side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It does not know this node's target, or cannot scrape it.
    TargetMissing,
    /// It scrapes the target, but has no series with this container's labels.
    LabelsLost,
    /// Scrapes failed in between: the longest hole, milliseconds.
    ScrapeGap {
        /// From one value to the next, milliseconds.
        ms: i64,
    },
    /// The newest value is old although the target is scraped: its age, milliseconds.
    Stale {
        /// Age, milliseconds.
        ms: i64,
    },
    /// Its values are right and their times are not: by so much they are late (early, if negative), milliseconds.
    Clock {
        /// Late, milliseconds.
        ms: i64,
    },
}

/// The two sides: increase of a counter over `seconds`, or the median of a level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// Ours, the metric's unit.
    pub ours: f64,
    /// Prometheus's, the metric's unit.
    pub theirs: f64,
    /// Seconds that were compared.
    pub seconds: f64,
}

impl Values {
    /// Whether Prometheus is the one that says less.
    #[must_use]
    pub fn theirs_are_low(&self) -> bool {
        self.theirs < self.ours
    }
}

/// Compares one metric of one container.
#[must_use]
pub fn check(metric: Metric, scrape: &Scrape, sides: Sides<'_>) -> Outcome {
    if scrape.up != Some(true) {
        return Outcome::SourceBroken(Fault::TargetMissing);
    }
    let (Some(first), Some(last)) = (sides.theirs.first(), sides.theirs.last()) else { return nothing_of_theirs(scrape, sides.ours) };
    if let Some(fault) = of_times(scrape, sides.theirs, last) {
        return Outcome::SourceBroken(fault);
    }
    let least_ms = LEAST_INTERVALS * scrape.interval_ms;
    // Scrapes jitter: three intervals may be a little less than three times the nominal one.
    if last.unix_ms - first.unix_ms < least_ms - scrape.interval_ms / 10 {
        return Outcome::Unknown(Reason::TheirHistory);
    }
    let ours = Series::new(sides.ours, STAMP_TOLERANCE_MS);
    let covered: Vec<Point> = sides.theirs.iter().copied().filter(|point| ours.at(point.unix_ms).is_some()).collect();
    let (Some(from), Some(to)) = (covered.first(), covered.last()) else { return Outcome::Unknown(Reason::OwnHistory) };
    if to.unix_ms - from.unix_ms < least_ms - scrape.interval_ms / 10 || !ours.is_whole(from.unix_ms, to.unix_ms) {
        return Outcome::Unknown(Reason::OwnHistory);
    }
    match metric {
        Metric::Counter { floor } => counter(floor, scrape, &ours, &covered),
        Metric::Gauge { floor } => gauge(floor, &ours, &covered),
    }
}

/// No series with the container's labels: lost, if there was time enough to be scraped.
fn nothing_of_theirs(scrape: &Scrape, ours: &[Point]) -> Outcome {
    let watched_ms = ours.first().zip(ours.last()).map_or(0, |(first, last)| last.unix_ms - first.unix_ms);
    if !scrape.has_metric {
        Outcome::Unknown(Reason::NotExported)
    } else if watched_ms < LEAST_INTERVALS * scrape.interval_ms {
        Outcome::Unknown(Reason::TheirHistory)
    } else {
        Outcome::SourceBroken(Fault::LabelsLost)
    }
}

fn of_times(scrape: &Scrape, theirs: &[Point], last: &Point) -> Option<Fault> {
    if let Some(ms) = scrape.clock_ahead_ms.filter(|ms| ms.abs() > CLOCK_TOLERANCE_MS) {
        return Some(Fault::Clock { ms });
    }
    let late_ms = (scrape.interval_ms as f64 * LATE_INTERVALS) as i64;
    let age_ms = scrape.now_unix_ms - last.unix_ms;
    // Not of the future, whoever says so.
    if age_ms < -CLOCK_TOLERANCE_MS {
        return Some(Fault::Clock { ms: -age_ms });
    }
    if age_ms > late_ms {
        return Some(Fault::Stale { ms: age_ms });
    }
    let longest = theirs.windows(2).map(|pair| pair[1].unix_ms - pair[0].unix_ms).max().unwrap_or(0);
    (longest > late_ms).then_some(Fault::ScrapeGap { ms: longest })
}

fn counter(floor: f64, scrape: &Scrape, ours: &Series<'_>, theirs: &[Point]) -> Outcome {
    let (from, to) = (theirs[0], theirs[theirs.len() - 1]);
    let seconds = (to.unix_ms - from.unix_ms) as f64 / 1e3;
    let (Some(before), Some(after)) = (ours.at(from.unix_ms), ours.at(to.unix_ms)) else { return Outcome::Unknown(Reason::OwnHistory) };
    let values = Values { ours: after - before, theirs: to.value - from.value, seconds };
    // The same container's counter never goes back: somebody else's value, or a changed one.
    if theirs.windows(2).any(|pair| pair[1].value < pair[0].value) {
        return Outcome::Disagree(values);
    }
    // What both ends may be off by: the steepest of ours there, for as long as a stamp may be wrong.
    let edge = ours.steepest(from.unix_ms) + ours.steepest(to.unix_ms);
    let allowed = edge + RELATIVE_TOLERANCE * values.ours.max(values.theirs) + floor * seconds;
    let apart = (values.ours - values.theirs).abs() > allowed;
    // Also where the sum agrees: a shift shows in the steps.
    if let Some(ms) = shift::find(ours, theirs, scrape.interval_ms, floor) {
        return Outcome::SourceBroken(Fault::Clock { ms });
    }
    if apart { Outcome::Disagree(values) } else { Outcome::Agree(values) }
}

fn gauge(floor: f64, ours: &Series<'_>, theirs: &[Point]) -> Outcome {
    let (from, to) = (theirs[0].unix_ms, theirs[theirs.len() - 1].unix_ms);
    let values = Values {
        ours: median(theirs.iter().filter_map(|point| ours.at(point.unix_ms))),
        theirs: median(theirs.iter().map(|point| point.value)),
        seconds: (to - from) as f64 / 1e3,
    };
    // A level that moves is read at slightly other instants: what ours moves by meanwhile is no difference.
    let moves = median(theirs.iter().map(|point| ours.spread(point.unix_ms)));
    let apart = (values.ours - values.theirs).abs() > moves + RELATIVE_TOLERANCE * values.ours.max(values.theirs) + floor;
    if apart { Outcome::Disagree(values) } else { Outcome::Agree(values) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START_MS: i64 = 1_700_000_000_000;
    const SCRAPE: Scrape =
        Scrape { now_unix_ms: START_MS + 400_000, clock_ahead_ms: Some(40), interval_ms: 30_000, up: Some(true), has_metric: true };
    const CPU: Metric = Metric::Counter { floor: 0.01 };
    const MEMORY: Metric = Metric::Gauge { floor: 1e6 };

    /// CPU seconds used: a load that changes every few seconds, none twice the same way.
    fn used(unix_ms: i64) -> f64 {
        let second = |second: i64| 0.1 + 0.8 * ((second as u64 / 20).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as f64 / 65_536.0;
        let at = unix_ms - START_MS + 200_000;
        let whole = at / 1_000;
        (0..whole).map(second).sum::<f64>() + second(whole) * (at % 1_000) as f64 / 1e3
    }

    fn every(ms: i64, value: impl Fn(i64) -> f64) -> Vec<Point> {
        (0..=400_000 / ms).map(|step| START_MS + step * ms).map(|unix_ms| Point { unix_ms, value: value(unix_ms) }).collect()
    }

    fn ours() -> Vec<Point> {
        every(2_000, used)
    }

    /// What Prometheus has: read a few hundred milliseconds beside the nominal instants.
    fn theirs() -> Vec<Point> {
        let jitter = |unix_ms: i64| unix_ms + (unix_ms / 30_000 * 577) % 700 - 350;
        let mut points = every(30_000, |_| 0.0);
        points.drain(..3);
        for point in &mut points {
            point.unix_ms = jitter(point.unix_ms);
            point.value = used(point.unix_ms);
        }
        points
    }

    fn outcome(scrape: Scrape, theirs: &[Point]) -> Outcome {
        check(CPU, &scrape, Sides { ours: &ours(), theirs })
    }

    #[test]
    fn the_same_counter_read_at_other_instants_agrees() {
        let Outcome::Agree(values) = outcome(SCRAPE, &theirs()) else { panic!("{:?}", outcome(SCRAPE, &theirs())) };

        assert!((values.ours - values.theirs).abs() < 0.02 * values.ours && values.ours > 50.0, "{values:?}");
        assert!((290.0..=310.0).contains(&values.seconds), "{values:?}");
    }

    #[test]
    fn a_target_that_is_down_or_not_known_is_missing() {
        for up in [None, Some(false)] {
            assert_eq!(outcome(Scrape { up, ..SCRAPE }, &theirs()), Outcome::SourceBroken(Fault::TargetMissing));
        }
    }

    #[test]
    fn a_container_without_series_lost_its_labels_once_it_should_have_been_scraped() {
        assert_eq!(outcome(SCRAPE, &[]), Outcome::SourceBroken(Fault::LabelsLost));
        assert_eq!(outcome(Scrape { has_metric: false, ..SCRAPE }, &[]), Outcome::Unknown(Reason::NotExported));
        let young = &ours()[170..];
        assert_eq!(check(CPU, &SCRAPE, Sides { ours: young, theirs: &[] }), Outcome::Unknown(Reason::TheirHistory));
    }

    #[test]
    fn scrapes_that_failed_in_between_are_a_gap_and_none_at_the_end_is_stale() {
        let mut gap = theirs();
        gap.drain(4..7);
        let Outcome::SourceBroken(Fault::ScrapeGap { ms }) = outcome(SCRAPE, &gap) else { panic!("{:?}", outcome(SCRAPE, &gap)) };
        assert!((119_000..121_000).contains(&ms), "{ms}");

        let stale = &theirs()[..7];
        let Outcome::SourceBroken(Fault::Stale { ms }) = outcome(SCRAPE, stale) else { panic!("{:?}", outcome(SCRAPE, stale)) };
        assert!((129_000..131_000).contains(&ms), "{ms}");
    }

    #[test]
    fn a_counter_that_one_side_changed_disagrees_and_says_who_is_low() {
        for (factor, low) in [(0.7, true), (1.5, false)] {
            let mut changed = theirs();
            let base = changed[0].value;
            changed.iter_mut().for_each(|point| point.value = base + (point.value - base) * factor);

            let Outcome::Disagree(values) = outcome(SCRAPE, &changed) else { panic!("{:?}", outcome(SCRAPE, &changed)) };

            assert_eq!(values.theirs_are_low(), low, "{values:?}");
        }
        let mut back = theirs();
        back.last_mut().unwrap().value -= 30.0;
        assert!(matches!(outcome(SCRAPE, &back), Outcome::Disagree(_)), "{:?}", outcome(SCRAPE, &back));
    }

    #[test]
    fn right_values_at_wrong_times_are_a_clock() {
        for late in [30_000, -30_000, 60_000] {
            let mut skewed = theirs();
            skewed.iter_mut().for_each(|point| point.value = used(point.unix_ms - late));

            let outcome = outcome(SCRAPE, &skewed);

            let Outcome::SourceBroken(Fault::Clock { ms }) = outcome else { panic!("{late}: {outcome:?}") };
            assert!((ms - late).abs() <= 2_000, "{late}: {ms}");
        }
        let told = outcome(Scrape { clock_ahead_ms: Some(-30_000), ..SCRAPE }, &theirs());
        assert_eq!(told, Outcome::SourceBroken(Fault::Clock { ms: -30_000 }));
    }

    #[test]
    fn values_of_the_future_are_a_clock() {
        let mut ahead = theirs();
        ahead.iter_mut().for_each(|point| point.unix_ms += 60_000);

        let outcome = outcome(SCRAPE, &ahead);

        assert!(matches!(outcome, Outcome::SourceBroken(Fault::Clock { .. })), "{outcome:?}");
    }

    #[test]
    fn too_little_of_either_side_is_unknown() {
        assert_eq!(outcome(SCRAPE, &theirs()[8..]), Outcome::Unknown(Reason::TheirHistory));
        let short = &ours()[165..];
        assert_eq!(check(CPU, &SCRAPE, Sides { ours: short, theirs: &theirs() }), Outcome::Unknown(Reason::OwnHistory));
        let mut torn = ours();
        torn.drain(100..110);
        assert_eq!(check(CPU, &SCRAPE, Sides { ours: &torn, theirs: &theirs() }), Outcome::Unknown(Reason::OwnHistory));
    }

    #[test]
    fn an_idle_container_agrees_whatever_the_ratio_of_next_to_nothing() {
        let ours = every(2_000, |unix_ms| (unix_ms - START_MS) as f64 * 1e-6);
        let theirs = every(30_000, |unix_ms| (unix_ms - START_MS) as f64 * 3e-6);

        let outcome = check(CPU, &SCRAPE, Sides { ours: &ours, theirs: &theirs });

        assert!(matches!(outcome, Outcome::Agree(_)), "{outcome:?}");
    }

    #[test]
    fn levels_agree_within_a_tenth_and_what_ours_moves_by() {
        let level = |unix_ms: i64| 200e6 + 30e6 * ((unix_ms / 1_000) as f64 * 0.3).sin();
        let ours = every(5_000, level);
        let near = every(30_000, |unix_ms| level(unix_ms + 1_500) * 1.03);
        let far = every(30_000, |unix_ms| level(unix_ms) * 0.4);

        let (near, far) =
            (check(MEMORY, &SCRAPE, Sides { ours: &ours, theirs: &near }), check(MEMORY, &SCRAPE, Sides { ours: &ours, theirs: &far }));

        assert!(matches!(near, Outcome::Agree(_)), "{near:?}");
        assert!(matches!(far, Outcome::Disagree(values) if values.theirs_are_low()), "{far:?}");
    }

    proptest! {
        #[test]
        fn nothing_that_either_side_says_panics(
            ours in prop::collection::vec((0i64..500_000, any::<f64>()), 0..60),
            theirs in prop::collection::vec((0i64..500_000, any::<f64>()), 0..20),
            interval_ms in 1i64..120_000,
        ) {
            let points = |mut raw: Vec<(i64, f64)>| {
                raw.sort_by_key(|point| point.0);
                raw.into_iter().map(|(at, value)| Point { unix_ms: START_MS + at, value }).collect::<Vec<_>>()
            };
            let (ours, theirs) = (points(ours), points(theirs));
            for metric in [CPU, MEMORY] {
                let _ = check(metric, &Scrape { interval_ms, ..SCRAPE }, Sides { ours: &ours, theirs: &theirs });
            }
        }
    }
}
