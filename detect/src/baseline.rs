//! A workload's normal: per feature a robust centre, a spread and the top of what was normal, in log space.
//!
//! A level `x` becomes `y = ln(1 + x / floor)`: below the feature's floor differences vanish, above it equal distances are
//! equal ratios. Updates are weighted by the time a sample covers, so results do not depend on the tick.

use vedette_proto::Feature;

use crate::thresholds as t;

/// Features, and after them the ratio of bytes sent to bytes received (already a logarithm).
pub const PLACES: usize = Feature::COUNT + 1;
/// Place of that ratio.
pub const RATIO: usize = Feature::COUNT;

/// To log space.
pub fn to_log(feature: Feature, level: f32) -> f32 {
    (1.0 + level / feature.floor()).ln()
}

/// Back from log space; never negative.
pub fn from_log(feature: Feature, y: f32) -> f32 {
    (feature.floor() * (y.exp() - 1.0)).max(0.0)
}

/// Seconds of samples that a feature needs before it serves: less for slow tiers, whose samples are averages already and
/// begin later, so that all of a workload's features are ready at about the same time.
#[inline]
pub fn needed_s(place: usize, ready_s: f32) -> f32 {
    if crate::container::FAST >> place & 1 == 1 { ready_s } else { ready_s * t::SLOW_READY }
}

/// The normal of one feature.
#[derive(Clone, Copy, Debug, Default)]
pub struct Track {
    /// Robust centre.
    pub centre: f32,
    /// Mean absolute distance from it.
    pub spread: f32,
    /// Highest smoothed level that was normal; comes down slowly.
    pub top: f32,
    /// Seconds of samples, replicas together counted as one.
    pub seconds: f32,
    /// Highest smoothed level since it was last asked for; what hours and the reference learn.
    pub peak: f32,
}

impl Track {
    /// Upper end of the band: the highest normal level, widened by the spread but not beyond a factor of 1.6, or on/off
    /// workloads would have no upper end at all.
    pub fn high(&self) -> f32 {
        self.top.max((self.centre + 3.0 * self.spread).min(self.top + 0.5))
    }

    /// Lower end of the band.
    pub fn low(&self) -> f32 {
        (self.centre - 2.0 * self.spread).max(0.0)
    }

    /// Distance beyond the band that still says nothing: wide while the baseline is young.
    pub fn margin(&self, ready_s: f32) -> f32 {
        let youth = ((t::OLD_S - self.seconds) / (t::OLD_S - ready_s).max(1.0)).clamp(0.0, 1.0);
        t::MARGIN_OLD + (t::MARGIN_YOUNG - t::MARGIN_OLD) * youth
    }

    /// Learns a sample `y` that stands for `seconds`, while the container's smoothed level is `level`.
    ///
    /// Until the baseline serves everything is taken as it is; afterwards a sample beyond the band counts only to its edge.
    pub fn learn(&mut self, y: f32, level: f32, seconds: f32, ready_s: f32) {
        let learning = self.seconds < ready_s;
        self.peak = self.peak.max(level);
        self.seconds = (self.seconds + seconds).min(1e6);
        let share = (seconds / self.seconds.min(t::CENTRE_TAU_S)).min(1.0);
        let y = if learning { y } else { y.min(self.high() + t::HUBER) };
        self.centre += (y - self.centre) * share;
        self.spread += ((y - self.centre).abs() - self.spread) * share;
        if learning && (level > self.top || self.seconds <= seconds) {
            self.top = level;
        } else if level > self.top {
            self.top += (level - self.top) * (seconds / t::TOP_RISE_TAU_S).min(1.0);
        } else {
            let rest = self.centre + 2.0 * self.spread;
            self.top -= (self.top - rest).max(0.0) * (seconds / t::TOP_FALL_TAU_S).min(1.0);
        }
    }
}

/// The normal of a workload.
#[derive(Clone, Debug)]
pub struct Baseline {
    tracks: [Track; PLACES],
}

impl Default for Baseline {
    fn default() -> Self {
        Self { tracks: [Track::default(); PLACES] }
    }
}

impl Baseline {
    /// Nothing was learnt yet.
    pub fn is_empty(&self) -> bool {
        self.tracks.iter().all(|track| track.seconds == 0.0)
    }

    /// The normal of the feature at a place.
    #[inline]
    pub fn track(&self, place: usize) -> &Track {
        &self.tracks[place]
    }

    /// The same, to learn.
    #[inline]
    pub fn track_mut(&mut self, place: usize) -> &mut Track {
        &mut self.tracks[place]
    }

    /// Takes over what another baseline knows of the features that it has seen for long enough.
    pub fn take_over(&mut self, other: &Self, ready_s: f32) {
        for place in (0..PLACES).filter(|&place| other.ready(place, ready_s)) {
            self.tracks[place] = other.tracks[place];
        }
    }

    /// The same normal for a relative: it serves with the wide margins of a young one, and what is seen soon counts more.
    pub fn inherited(&self) -> Self {
        let mut heir = self.clone();
        heir.tracks.iter_mut().for_each(|track| track.seconds = track.seconds.min(t::INHERITED_S));
        heir
    }

    /// Whether the feature at a place has been seen long enough to serve.
    #[inline]
    pub fn ready(&self, place: usize, ready_s: f32) -> bool {
        self.tracks[place].seconds >= needed_s(place, ready_s)
    }
}
