//! What was learnt of a workload, in a compact form that outlives the detector: written now and then, read when the next run begins.
//!
//! The form: a byte for its version, the postcard encoding of [`Kept`], and the CRC-32 of all before, little endian. Levels are
//! multiples of 1/1024 in log space, a tenth of a per cent; a feature is known by a hash of its name, so that a new one moves no other.

use serde::{Deserialize, Serialize};
use vedette_proto::{Feature, v1};

use crate::{
    Detector,
    baseline::{Baseline, PLACES, RATIO, Track},
    candidate::{Candidate, KeptCandidate},
    course::Course,
    fleet::{MAX_COMMS, Workload},
    reference::{KeptReference, Reference},
    rollout::HoldOffs,
    season::{KeptSeason, Season},
};

/// Version of the form. A newer one is not read.
const VERSION: u8 = 1;
/// Bytes of the check at the end.
const CHECK: usize = 4;
/// Parts of one in log space.
const PARTS: f32 = 1_024.0;
/// Longest form that is read: what this version writes is below 8 kB.
const MAX_BYTES: usize = 65_536;
/// Most that a track remembers of its age, seconds.
const MAX_SECONDS: f32 = 1e6;

/// A workload that goes on learning is written again once it learnt for a tenth of its age, but not within this time ...
const AGAIN_LEAST_MS: i64 = 60_000;
/// ... and after this one in any case.
const AGAIN_MOST_MS: i64 = 600_000;

/// What was learnt of one workload.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Whose normal it is.
    pub workload: v1::Workload,
    /// Event time of the last row that it rests on, Unix milliseconds.
    pub last_unix_ms: i64,
    /// The compact form, for [`Detector::remember`].
    pub bytes: Vec<u8>,
}

/// Why a memory cannot be used. The workload is learnt anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Written by a later version.
    #[error("version {0}, this program reads up to {VERSION}")]
    Newer(u8),
    /// Not what was written.
    #[error("damaged")]
    Damaged,
    /// It names no cluster.
    #[error("of no cluster")]
    Nameless,
    /// As many workloads as may be are known already.
    #[error("beyond detect.max_workloads")]
    Full,
}

/// One feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptTrack {
    feature: u16,
    centre: i16,
    spread: i16,
    top: i16,
    seconds: u32,
}

/// All that is kept of a workload.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    node: String,
    last_ms: i64,
    tracks: Vec<KeptTrack>,
    comms: Vec<u64>,
    capabilities: u64,
    raw_seen: bool,
    crowds: bool,
    leaves_network: bool,
    hold_offs: Vec<(i64, i64)>,
    season: Option<KeptSeason>,
    reference: Option<KeptReference>,
    candidate: Option<KeptCandidate>,
}

/// A level in log space as it is kept; what is no number becomes 0.
pub fn packed(y: f32) -> i16 {
    (y * PARTS).round() as i16
}

/// The level back.
pub fn unpacked(kept: i16) -> f32 {
    f32::from(kept) / PARTS
}

/// How a place is called in what is kept.
fn called(place: usize) -> u16 {
    let name = if place == RATIO { "tx_rx_ratio" } else { Feature::ALL[place].name() };
    name.bytes().fold(0x811c_u16, |hash, byte| (hash ^ u16::from(byte)).wrapping_mul(0x0193).rotate_left(3))
}

/// The features of a baseline that were ever seen.
pub fn kept_tracks(baseline: &Baseline) -> Vec<KeptTrack> {
    let seen = (0..PLACES).filter(|&place| baseline.track(place).seconds > 0.0);
    seen.map(|place| {
        let track = baseline.track(place);
        KeptTrack {
            feature: called(place),
            centre: packed(track.centre),
            spread: packed(track.spread),
            top: packed(track.top),
            seconds: track.seconds.ceil() as u32,
        }
    })
    .collect()
}

/// The baseline of what was kept; features of another version are left out.
pub fn baseline_of(tracks: &[KeptTrack]) -> Baseline {
    let mut baseline = Baseline::default();
    for kept in tracks {
        let Some(place) = (0..PLACES).find(|&place| called(place) == kept.feature) else { continue };
        *baseline.track_mut(place) = Track {
            centre: unpacked(kept.centre),
            spread: unpacked(kept.spread).max(0.0),
            top: unpacked(kept.top),
            peak: f32::NEG_INFINITY,
            seconds: (kept.seconds as f32).min(MAX_SECONDS),
        };
    }
    baseline
}

impl Kept {
    fn of(workload: &Workload, node: &str) -> Self {
        Self {
            node: node.to_owned(),
            last_ms: workload.last_ms,
            tracks: kept_tracks(&workload.baseline),
            comms: workload.comms.clone(),
            capabilities: workload.capabilities,
            raw_seen: workload.raw_seen,
            crowds: workload.crowds,
            leaves_network: workload.leaves_network,
            hold_offs: workload.hold_offs.kept().to_vec(),
            season: workload.course.as_ref().map(|course| course.season.kept()),
            reference: workload.course.as_ref().map(|course| course.reference.kept()),
            candidate: workload.candidate.as_ref().map(|candidate| candidate.kept()),
        }
    }

    fn write(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![VERSION];
        bytes.extend(postcard::to_allocvec(self).ok()?);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        Some(bytes)
    }

    fn read(bytes: &[u8]) -> Result<Self, MemoryError> {
        let (&version, _) = bytes.split_first().ok_or(MemoryError::Damaged)?;
        let (text, check) = bytes.split_at_checked(bytes.len().saturating_sub(CHECK)).ok_or(MemoryError::Damaged)?;
        if bytes.len() > MAX_BYTES || text.is_empty() || crc32fast::hash(text).to_le_bytes() != check {
            return Err(MemoryError::Damaged);
        }
        if version != VERSION {
            return Err(MemoryError::Newer(version));
        }
        postcard::from_bytes(&text[1..]).map_err(|_| MemoryError::Damaged)
    }

    fn give(self, to: &mut Workload) {
        *to.baseline = baseline_of(&self.tracks);
        for name in self.comms {
            if to.comms.len() < MAX_COMMS && !to.comms.contains(&name) {
                to.comms.push(name);
            }
        }
        to.course = self
            .season
            .zip(self.reference)
            .map(|(season, reference)| Box::new(Course { season: Season::of(&season), reference: Reference::of(&reference) }));
        to.candidate = self.candidate.as_ref().map(|candidate| Box::new(Candidate::of(candidate)));
        to.capabilities |= self.capabilities;
        to.raw_seen |= self.raw_seen;
        to.crowds |= self.crowds;
        to.leaves_network |= self.leaves_network;
        to.hold_offs = HoldOffs::of(self.hold_offs);
        to.last_ms = to.last_ms.max(self.last_ms);
        to.remembered = true;
    }
}

impl Workload {
    /// Whether enough was learnt since it was last written; `last`: anything at all.
    fn is_due(&self, last: bool) -> bool {
        if self.last_ms <= self.written_ms || self.baseline.is_empty() {
            return false;
        }
        let age_ms = self.baseline.track(Feature::CpuCores as usize).seconds as i64 * 1_000;
        last || self.last_ms.saturating_sub(self.written_ms) >= (age_ms / 10).clamp(AGAIN_LEAST_MS, AGAIN_MOST_MS)
    }
}

impl Detector {
    /// What was learnt of a cluster's workloads since this was last asked, at most `most` of them, the others next time. A workload comes
    /// again when it learnt for a tenth of its age, a minute at least and ten at most; with `last` also for less, until nothing is left.
    pub fn memory(&mut self, cluster: &str, last: bool, most: usize) -> Vec<Memory> {
        let Some(cluster) = self.fleet.known_cluster(cluster) else { return Vec::new() };
        let mut learnt = Vec::new();
        let count = self.fleet.workloads.len();
        for step in 0..count {
            let place = (self.memory_at + step) % count;
            let workload = &self.fleet.workloads[place];
            if workload.cluster != cluster || !workload.is_due(last) || self.fleet.known_workload(&workload.name) != Some(place as u32) {
                continue;
            }
            if learnt.len() >= most {
                self.memory_at = place;
                return learnt;
            }
            let node = self.fleet.nodes.get(workload.node as usize).map_or("", |node| &node.name);
            let kept = Kept::of(workload, node).write();
            let workload = &mut self.fleet.workloads[place];
            workload.written_ms = workload.last_ms;
            learnt.extend(kept.map(|bytes| Memory { workload: workload.name.clone(), last_unix_ms: workload.last_ms, bytes }));
        }
        self.memory_at = 0;
        learnt
    }

    /// Goes on with what an earlier run learnt of a workload. What this run learnt already stays.
    ///
    /// # Errors
    /// [`MemoryError`]; nothing is changed then.
    pub fn remember(&mut self, workload: &v1::Workload, bytes: &[u8]) -> Result<(), MemoryError> {
        let kept = Kept::read(bytes)?;
        if workload.cluster.is_empty() {
            return Err(MemoryError::Nameless);
        }
        let cluster = self.fleet.cluster(&workload.cluster);
        let known = self.fleet.known_workload(workload);
        if known.is_none() && self.fleet.workload_count() >= self.config.max_workloads {
            return Err(MemoryError::Full);
        }
        let node = self.fleet.node(cluster, &kept.node);
        let place = self.workload(cluster, node, workload).ok_or(MemoryError::Full)?;
        let of = &mut self.fleet.workloads[place as usize];
        // A new workload may have begun with what is known of a relative.
        if known.is_none() || of.baseline.is_empty() {
            kept.give(of);
            of.written_ms = of.last_ms;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept() -> Kept {
        let mut baseline = Baseline::default();
        *baseline.track_mut(0) = Track { centre: 2.3456, spread: 0.1, top: 3.0, seconds: 1_234.5, peak: 0.0 };
        *baseline.track_mut(RATIO) = Track { centre: -1.5, spread: 0.2, top: -0.25, seconds: 60.0, peak: 0.0 };
        Kept { node: "n".into(), tracks: kept_tracks(&baseline), comms: vec![7, u64::MAX], raw_seen: true, ..Kept::default() }
    }

    #[test]
    fn every_place_is_called_something_of_its_own() {
        let names: std::collections::BTreeSet<u16> = (0..PLACES).map(called).collect();

        assert_eq!(names.len(), PLACES);
    }

    #[test]
    fn what_is_read_is_what_was_written_to_a_thousandth() {
        let bytes = kept().write().unwrap();

        let read = Kept::read(&bytes).unwrap();

        assert_eq!(read, kept());
        let baseline = baseline_of(&read.tracks);
        let (cpu, ratio) = (baseline.track(0), baseline.track(RATIO));
        assert!((cpu.centre - 2.3456).abs() < 1e-3 && (ratio.top + 0.25).abs() < 1e-3, "{cpu:?} {ratio:?}");
        assert_eq!((cpu.seconds, baseline.track(1).seconds), (1_235.0, 0.0));
    }

    #[test]
    fn a_newer_version_is_told_and_not_read() {
        let mut bytes = kept().write().unwrap();
        bytes[0] = VERSION + 1;
        let end = bytes.len() - CHECK;
        let check = crc32fast::hash(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&check);

        assert_eq!(Kept::read(&bytes), Err(MemoryError::Newer(VERSION + 1)));
    }

    proptest! {
        #[test]
        fn a_damaged_memory_is_refused(place in any::<prop::sample::Index>(), flip in 1_u8.., cut in 0_usize..40) {
            let whole = kept().write().unwrap();
            let mut flipped = whole.clone();
            flipped[place.index(whole.len())] ^= flip;

            prop_assert_eq!(Kept::read(&flipped), Err(MemoryError::Damaged));
            prop_assert_eq!(Kept::read(&whole[..whole.len() - 1 - cut.min(whole.len() - 1)]), Err(MemoryError::Damaged));
        }

        #[test]
        fn whatever_is_read_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Kept::read(&bytes);
        }
    }
}
