//! What a container did since it strayed from its normal: running statistics of what the kind classifier sees, and what the classifier said.
//!
//! A row shows an instant; a kind shows in seconds. The window of a container begins when it strays, and ends when it has been calm for
//! longer than an attack that goes on and off pauses. It is a fixed number of numbers, whatever its length.

use vedette_forest::MAX_CLASSES;
use vedette_proto::Feature;

use crate::{
    container::Container,
    signature::SIGNATURES,
    thresholds as t,
    vector::{self, Vector, WIDTH},
    view::View,
};

/// Values that are followed: those of an instant, and how well each signature matches.
const VALUES: usize = WIDTH + SIGNATURES.len();
/// What is told of the window itself.
const WHOLE: [&str; 6] = ["window_length", "window_strays", "window_bursts", "window_born", "window_cold", "neighbours_stray"];
/// How many columns a window has: mean, most and spread of every value, its mean while the container strayed, and what is told of the whole.
pub const COLUMNS: usize = 4 * VALUES + WHOLE.len();
const _: () = assert!(COLUMNS <= vedette_forest::MAX_COLUMNS);

/// A window as the classifier sees it; NaN is not known.
pub type Seen = [f32; COLUMNS];

/// The names of the columns, in their order.
#[must_use]
pub fn names() -> Vec<String> {
    let matches = SIGNATURES.iter().map(|signature| format!("matches_{}_{}", signature.kind.word(), signature.key.name()));
    let values: Vec<String> = vector::names().into_iter().chain(matches).collect();
    let of = |what: &str| values.iter().map(|value| format!("{value}_{what}")).collect::<Vec<_>>();
    [of("mean"), of("most"), of("spread"), of("strayed"), WHOLE.map(str::to_owned).to_vec()].concat()
}

/// Running statistics of one value.
#[derive(Clone, Copy, Default)]
struct Moments {
    /// Seconds that count, the old ones less.
    weight: f32,
    mean: f32,
    /// Of squared distances from the mean, weighted likewise.
    squares: f32,
    most: f32,
}

impl Moments {
    fn take(&mut self, x: f32, seconds: f32, keep: f32, fall: f32) {
        if x.is_nan() {
            return;
        }
        if self.weight == 0.0 {
            *self = Self { weight: seconds, mean: x, squares: 0.0, most: x };
            return;
        }
        self.weight = self.weight * keep + seconds;
        let off = x - self.mean;
        self.mean += off * seconds / self.weight;
        self.squares = self.squares * keep + seconds * off * (x - self.mean);
        self.most = x.max(self.most - (self.most - self.mean) * fall);
    }
}

/// The window of one container.
pub(crate) struct Window {
    /// It strayed first, event time.
    pub since_ms: i64,
    last_ms: i64,
    strayed_ms: i64,
    /// It strays since its container's first second.
    born: bool,
    /// Its workload's baseline did not serve at the last row.
    cold: bool,
    /// It did at the last row.
    pub straying: bool,
    strays: Moments,
    bursts: f32,
    neighbours: f32,
    values: [Moments; VALUES],
    /// The same of nothing but the rows that strayed: what goes on and off is then as plain as what goes on.
    strayed: [Moments; VALUES],
    /// What the classifier said of each class, smoothed.
    pub said: [f32; MAX_CLASSES],
    /// Since when it has said mostly so; 0: it does not.
    pub rising_ms: i64,
}

/// Whether any feature is so far beyond the workload's normal that its container is looked at.
pub(crate) fn strays(view: &View<'_>) -> bool {
    vector::BEYOND.iter().any(|&feature| {
        let place = feature as usize;
        let far = |y: f32| y >= view.baseline.track(place).high() + t::STRAYS;
        view.container.known(place).is_some_and(far) && view.ready(feature)
    })
}

/// Whether a container is looked at for being new in a workload without a normal.
pub(crate) fn is_born(view: &View<'_>, unix_ms: i64) -> bool {
    !view.container.past_unknown && !view.ready(Feature::CpuCores) && unix_ms - view.container.first_seen_ms <= t::BORN_MS
}

impl Window {
    fn new(unix_ms: i64, born: bool) -> Box<Self> {
        Box::new(Self {
            since_ms: unix_ms,
            last_ms: unix_ms - 1_000,
            strayed_ms: unix_ms,
            born,
            cold: false,
            straying: false,
            strays: Moments::default(),
            bursts: 0.0,
            neighbours: 0.0,
            values: [Moments::default(); VALUES],
            strayed: [Moments::default(); VALUES],
            said: [0.0; MAX_CLASSES],
            rising_ms: 0,
        })
    }

    /// Follows a container: begins its window, takes a row in, or ends it.
    pub fn follow(container: &mut Container, unix_ms: i64, vector: &Vector, strays: bool, cold: bool, neighbours: f32) {
        let calm_ms = container.window.as_ref().map_or(0, |window| unix_ms - window.strayed_ms);
        if !strays && (container.window.is_none() || calm_ms > t::WINDOW_CALM_MS) {
            container.window = None;
            return;
        }
        let persistence = container.persistence;
        let window = container.window.get_or_insert_with(|| Self::new(unix_ms, cold));
        let seconds = ((unix_ms - window.last_ms) as f32 / 1e3).clamp(0.05, t::COLD_SAMPLE_S);
        let (keep, fall) = ((-seconds / t::WINDOW_TAU_S).exp(), 1.0 - (-seconds / t::MOST_TAU_S).exp());
        let rows = || vector.iter().chain(&persistence);
        window.values.iter_mut().zip(rows()).for_each(|(moments, &x)| moments.take(x, seconds, keep, fall));
        if strays {
            window.strayed.iter_mut().zip(rows()).for_each(|(moments, &x)| moments.take(x, seconds, keep, fall));
        }
        window.strays.take(f32::from(u8::from(strays)), seconds, (-seconds / t::STRAYS_TAU_S).exp(), fall);
        window.bursts *= (-seconds / t::BURSTS_TAU_S).exp();
        if strays && !window.straying {
            window.bursts += 1.0;
        }
        if strays {
            window.strayed_ms = unix_ms;
        }
        (window.straying, window.cold, window.neighbours, window.last_ms) = (strays, cold, neighbours, unix_ms);
    }

    /// Seconds since it began.
    pub fn length_s(&self) -> f32 {
        (self.last_ms - self.since_ms) as f32 / 1e3
    }

    /// What the classifier sees.
    pub fn seen(&self) -> Seen {
        let mut seen = [f32::NAN; COLUMNS];
        for (place, moments) in self.values.iter().enumerate().filter(|(_, moments)| moments.weight > 0.0) {
            seen[place] = moments.mean;
            seen[VALUES + place] = moments.most;
            seen[2 * VALUES + place] = (moments.squares / moments.weight).max(0.0).sqrt();
        }
        for (place, moments) in self.strayed.iter().enumerate().filter(|(_, moments)| moments.weight > 0.0) {
            seen[3 * VALUES + place] = moments.mean;
        }
        let flag = |is: bool| f32::from(u8::from(is));
        // A minute is long: longer is no other thing.
        let length = (self.length_s() / 60.0).min(1.0);
        let whole = [length, self.strays.mean, self.bursts, flag(self.born), flag(self.cold), self.neighbours];
        seen[4 * VALUES..].copy_from_slice(&whole);
        seen
    }
}

/// Takes in what a classifier says of a window now, which stands for so many seconds. Nobody is asked about calm (`None`): what was said fades.
pub fn hear(said: &mut [f32; MAX_CLASSES], probabilities: Option<&[f32; MAX_CLASSES]>, seconds: f32) {
    let seconds = seconds.min(t::WARM_SAMPLE_S);
    match probabilities {
        Some(probabilities) => {
            let weight = 1.0 - (-seconds / t::SAID_TAU_S).exp();
            said.iter_mut().zip(probabilities).for_each(|(said, now)| *said += (now - *said) * weight);
        }
        None => said.iter_mut().for_each(|said| *said *= (-seconds / t::FADE_TAU_S).exp()),
    }
}

/// Whether a window of so many seconds is long enough to be asked about.
#[must_use]
pub fn is_long_enough(seconds: f32) -> bool {
    seconds >= t::LEAST_WINDOW_S
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Place;

    fn follow(container: &mut Container, unix_ms: i64, value: f32, strays: bool) {
        let vector = [value; WIDTH];
        Window::follow(container, unix_ms, &vector, strays, false, 0.0);
    }

    fn container() -> Container {
        Container::new(Place { cluster: 0, node: 0, workload: 0, pod: 0, slot: 0 }, "c", "p")
    }

    #[test]
    fn every_column_has_a_name_of_its_own() {
        let names = names();

        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), different.len()), (COLUMNS, COLUMNS));
        assert!(names.iter().all(|name| name.len() <= 64), "{names:?}");
    }

    #[test]
    fn a_window_bridges_a_pause_and_ends_when_it_is_calm_for_good() {
        let mut container = container();

        follow(&mut container, 1_000, 1.0, false);
        assert!(container.window.is_none());
        for second in 1..=60 {
            follow(&mut container, second * 1_000, 2.0, second % 20 < 2);
        }
        assert!((2.9..4.0).contains(&container.window.as_ref().unwrap().bursts), "{}", container.window.as_ref().unwrap().bursts);
        for second in 61..=120 {
            follow(&mut container, second * 1_000, 0.0, false);
        }

        assert!(container.window.is_none());
    }

    #[test]
    fn mean_most_and_spread_are_those_of_what_was_seen() {
        let mut container = container();

        for second in 0..200 {
            follow(&mut container, second * 1_000, if second % 2 == 0 { 1.0 } else { 3.0 }, true);
        }

        let seen = container.window.unwrap().seen();
        let [mean, most, spread] = [seen[0], seen[VALUES], seen[2 * VALUES]];
        assert!((mean - 2.0).abs() < 0.1 && (most - 3.0).abs() < 0.1 && (spread - 1.0).abs() < 0.1, "{mean} {most} {spread}");
    }

    #[test]
    fn what_goes_on_and_off_is_as_plain_as_what_goes_on() {
        let mut container = container();

        for second in 0..120 {
            let on = second % 20 < 2;
            follow(&mut container, second * 1_000, if on { 3.0 } else { 0.0 }, on);
        }

        let seen = container.window.unwrap().seen();
        assert!(seen[0] < 1.0 && (seen[3 * VALUES] - 3.0).abs() < 1e-3, "{} {}", seen[0], seen[3 * VALUES]);
    }

    #[test]
    fn a_pause_takes_little_from_what_was_said() {
        let mut said = [0.0; MAX_CLASSES];
        let mut sure = said;
        sure[1] = 1.0;

        for second in 0..60 {
            hear(&mut said, (second % 20 < 2).then_some(&sure), 1.0);
        }

        // Three bursts of two seconds, the last one 18 s ago: more than one burst says at once, 0.39.
        assert!((0.45..0.55).contains(&said[1]), "{}", said[1]);
    }

    #[test]
    fn what_is_not_known_stays_unknown() {
        let mut container = container();

        follow(&mut container, 1_000, f32::NAN, true);

        let seen = container.window.unwrap().seen();
        assert!(seen[0].is_nan() && seen[VALUES].is_nan() && seen[WIDTH] == 0.0);
    }
}
