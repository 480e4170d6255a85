//! One container as the signatures see it: how far each feature is beyond its normal, from 0 (within) to 1 (far beyond).

use vedette_proto::Feature;

use crate::{
    baseline::{Baseline, from_log},
    container::{Container, Fresh},
    pods::PodTraffic,
    prior::Prior,
    season::Season,
    thresholds as t,
};

/// A container, its workload's baseline, and what surrounds it.
pub struct View<'a> {
    pub container: &'a Container,
    pub baseline: &'a Baseline,
    /// The hours of its workload, where they are known.
    pub season: Option<&'a Season>,
    pub prior: &'a Prior,
    /// Traffic of the pod: reported with one container only, yet it explains what the others do.
    pub pod: PodTraffic,
    /// CPUs of the node; 0 is not known.
    pub node_cores: f32,
    /// File-system space that the node loses, bytes per second.
    pub node_fs_loss: f32,
    pub ready_s: f32,
    /// The workload rolls out: the band is as wide as a young one's.
    pub widened: bool,
    /// Below 1 the levels of the cold start speak only that much.
    pub cold_weight: f32,
}

/// 0 at `low`, 1 at `high`, straight in between.
pub fn ramp(x: f32, low: f32, high: f32) -> f32 {
    ((x - low) / (high - low)).clamp(0.0, 1.0)
}

impl View<'_> {
    /// Whether the workload's own baseline serves for a feature.
    pub fn ready(&self, feature: Feature) -> bool {
        self.baseline.ready(feature as usize, self.ready_s)
    }

    /// The present level in the feature's unit; 0 where it is not known.
    pub fn level(&self, feature: Feature) -> f32 {
        self.container.known(feature as usize).map_or(0.0, |y| from_log(feature, y))
    }

    /// Whether the present level is known.
    pub fn knows(&self, feature: Feature) -> bool {
        self.container.known(feature as usize).is_some()
    }

    /// Upper end of the band at this hour, log space.
    #[inline]
    pub fn high(&self, place: usize) -> f32 {
        let high = self.baseline.track(place).high();
        self.season.map_or(high, |season| high.max(season.high(place)))
    }

    /// Distance above the centre in log space; 0 without a baseline, below it, or unknown.
    pub fn growth(&self, feature: Feature) -> f32 {
        match self.container.known(feature as usize) {
            Some(y) if self.ready(feature) => (y - self.baseline.track(feature as usize).centre).max(0.0),
            _ => 0.0,
        }
    }

    /// Distance beyond the band and its margin in log space; negative within, `None` without a baseline.
    pub fn beyond(&self, place: usize) -> Option<f32> {
        let y = self.container.known(place)?;
        let track = self.baseline.track(place);
        let margin = if self.widened { t::MARGIN_YOUNG } else { track.margin(self.ready_s) };
        self.baseline.ready(place, self.ready_s).then(|| y - self.high(place) - margin)
    }

    /// Distance from the band in log space: above it positive, below it negative, 0 within; `None` without a baseline.
    pub fn off(&self, feature: Feature) -> Option<f32> {
        let y = self.container.known(feature as usize).filter(|_| self.ready(feature))?;
        let track = self.baseline.track(feature as usize);
        Some((y - self.high(feature as usize)).max(0.0) + (y - track.low()).min(0.0))
    }

    /// How far beyond normal a feature is, 0 to 1: against the own baseline where it serves, else against cold levels.
    pub fn strength(&self, feature: Feature) -> f32 {
        let scale = t::scale(feature);
        if let Some(beyond) = self.beyond(feature as usize) {
            let relative = (beyond / scale.step).clamp(0.0, 1.0);
            if feature != Feature::CpuCores {
                return relative;
            }
            // On a workload that is busy anyway, another half of a core is far beyond normal though it is no doubling.
            let high = from_log(feature, self.high(feature as usize));
            return relative.max(ramp(self.level(feature) - high * 1.15, 0.1, 0.5));
        }
        if scale.cold.is_nan() || !self.knows(feature) {
            return 0.0;
        }
        let mut cold = self.prior.raised(feature, scale.cold);
        if feature == Feature::CpuCores && self.node_cores > 0.0 {
            cold = cold.min(self.node_cores * 0.5);
        }
        let mut strength = ramp(self.level(feature), cold * 0.75, cold);
        if feature == Feature::CpuCores {
            // At its limit all the time: as much as it may, whatever that is.
            let throttled = ramp(self.level(Feature::CpuThrottledRatio), 0.3, 0.7);
            strength = strength.max(throttled * ramp(self.level(feature), 0.15, 0.3));
        }
        strength * self.cold_weight
    }

    /// Whether it is oftener called than it calls: a server rather than a client.
    pub fn is_called(&self) -> bool {
        self.container.accepted > self.container.opened
    }

    /// How much of the growth of `feature` the traffic of its pod explains, 0 to 1.
    pub fn explained_by_traffic(&self, feature: Feature) -> f32 {
        if self.ready(feature) {
            let growth = self.growth(feature);
            if growth <= 0.0 { 0.0 } else { ramp(self.pod.growth / growth, 0.2, 0.5) }
        } else {
            // A core that serves handles some thousand packets per second.
            ramp(self.pod.packets_per_sec() / self.level(feature).max(0.1), 100.0, 400.0)
        }
    }
}

/// Which of the fresh places are beyond normal.
pub fn odd(view: &View<'_>, fresh: &Fresh) -> u64 {
    let mut odd = 0;
    let mut rest = fresh.mask & crate::signature::KEYS;
    while rest != 0 {
        let place = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        if view.strength(Feature::ALL[place]) > 0.0 {
            odd |= 1 << place;
        }
    }
    odd
}
