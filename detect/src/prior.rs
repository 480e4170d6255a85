//! What is normal for the other workloads of a cluster: raises the levels of the cold start where all are that busy.

use vedette_proto::Feature;

use crate::{
    baseline::{Baseline, from_log},
    fleet::MAX_KINDS,
    thresholds as t,
};

/// Features for which the fleet has a say.
const PLACES: [Feature; 6] = [
    Feature::CpuCores,
    Feature::TxExcessBytesPerSec,
    Feature::TcpActiveOpensPerSec,
    Feature::RxPacketsPerSec,
    Feature::TcpPassiveOpensPerSec,
    Feature::Pids,
];

/// The priors of a cluster: of all its workloads, and of those of each kind of owner.
#[derive(Clone, Debug, Default)]
pub struct Priors {
    all: Prior,
    of_kind: Vec<Prior>,
}

impl Priors {
    /// Computes them from (node, kind of owner, baseline).
    pub fn of_all<'a>(workloads: impl Iterator<Item = (u32, u8, &'a Baseline)>, ready_s: f32) -> Self {
        let workloads: Vec<_> = workloads.take(t::PRIOR_SAMPLE).collect();
        let all = Prior::of(workloads.iter().map(|&(node, _, baseline)| (node, baseline)), ready_s);
        let of_kind = |kind: usize| {
            let those = workloads.iter().filter(|(_, of, _)| usize::from(*of) == kind);
            Prior::of(those.map(|&(node, _, baseline)| (node, baseline)), ready_s)
        };
        Self { all, of_kind: (0..MAX_KINDS).map(of_kind).collect() }
    }

    /// What serves for a workload: the prior of its owner's kind, where enough workloads are of that, else that of all.
    #[inline]
    pub fn of(&self, kind: u8) -> &Prior {
        self.of_kind.get(usize::from(kind)).filter(|prior| prior.workloads >= t::PRIOR_WORKLOADS).unwrap_or(&self.all)
    }
}

/// Per feature, the level that a quarter of the other workloads exceeds normally.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prior {
    /// Workloads it rests on; 0 is none.
    pub workloads: usize,
    upper: [f32; PLACES.len()],
    median: [f32; PLACES.len()],
}

impl Prior {
    /// Computes it from (node, baseline) pairs. A node counts with at most [`t::PRIOR_PER_NODE`] workloads, so that one
    /// that lies does not decide for the others.
    pub fn of<'a>(workloads: impl Iterator<Item = (u32, &'a Baseline)>, ready_s: f32) -> Self {
        let mut per_node = std::collections::HashMap::<u32, usize>::new();
        let mut tops: [Vec<f32>; PLACES.len()] = Default::default();
        let mut count = 0;
        for (node, baseline) in workloads.take(t::PRIOR_SAMPLE) {
            if !baseline.ready(Feature::CpuCores as usize, ready_s) {
                continue;
            }
            let seen = per_node.entry(node).or_default();
            *seen += 1;
            if *seen > t::PRIOR_PER_NODE {
                continue;
            }
            count += 1;
            for (tops, feature) in tops.iter_mut().zip(PLACES) {
                if baseline.ready(feature as usize, ready_s) {
                    tops.push(from_log(feature, baseline.track(feature as usize).high()));
                }
            }
        }
        let mut prior = Self { workloads: count, ..Self::default() };
        for (place, tops) in tops.iter_mut().enumerate() {
            if !tops.is_empty() {
                tops.sort_unstable_by(f32::total_cmp);
                prior.median[place] = tops[tops.len() / 2];
                prior.upper[place] = tops[tops.len() * 3 / 4];
            }
        }
        prior
    }

    /// The cold level of a feature, raised to what many other workloads do, at most tenfold.
    pub fn raised(&self, feature: Feature, cold: f32) -> f32 {
        match PLACES.iter().position(|&place| place == feature) {
            Some(place) if self.workloads >= t::PRIOR_WORKLOADS => cold.max((self.upper[place] * 1.5).min(cold * 10.0)),
            _ => cold,
        }
    }

    /// Median and upper quartile of the other workloads' highest normal levels.
    pub fn usual(&self, feature: Feature) -> Option<(f32, f32)> {
        let place = PLACES.iter().position(|&place| place == feature)?;
        (self.workloads > 0).then(|| (self.median[place], self.upper[place]))
    }
}
