//! Every number that decides: how far beyond its band a feature must be, what is much without a baseline, and how long it must last.
//!
//! Levels are in the feature's unit, distances in the log space of [`crate::baseline`] (0.7 is a doubling, 1.4 a quadrupling).

use vedette_proto::Feature;

/// Persistence at which an incident opens; a signature that matches fully for 0.9 of its time constant gets there.
pub const OPEN: f32 = 0.6;
/// Below it an open incident is quiet, and samples may teach the baseline.
pub const HOLD: f32 = 0.3;
/// Persistence that a page needs besides its second family.
pub const STRONG: f32 = 0.8;

/// Time constant of a container's present level. Long enough that one odd second says little, short against 10 s to an incident.
pub const LEVEL_TAU_S: f32 = 3.5;
/// Memory for who opens connections to whom: long enough to remember the start of a keep-alive flood.
pub const DIRECTION_TAU_S: f32 = 60.0;
/// Time constant of the growth of the pages of files: a merge that deletes what it read must not look like growth.
pub const FILES_TAU_S: f32 = 10.0;
/// Samples of a slow tier older than this are not known any more.
pub const SLOW_AGE_MS: i64 = 15_000;
/// The same for the rare tier.
pub const RARE_AGE_MS: i64 = 30_000;

/// Share of the fast tier's learning time that slower tiers need.
pub const SLOW_READY: f32 = 0.7;
/// The first moments of a container's life are start-up: they teach nothing, or every workload would know a full core.
pub const UNTAUGHT_MS: i64 = 8_000;
/// Time constant of the centre and the spread, once as much was seen.
pub const CENTRE_TAU_S: f32 = 600.0;
/// How fast the top of the band follows upwards what the gate lets through.
pub const TOP_RISE_TAU_S: f32 = 60.0;
/// How fast the top of the band comes down again.
pub const TOP_FALL_TAU_S: f32 = 7_200.0;
/// A sample teaches the centre of a serving baseline at most this far beyond the top.
pub const HUBER: f32 = 0.3;
/// Distance beyond the band that says nothing, once the baseline is old.
pub const MARGIN_OLD: f32 = 0.3;
/// The same when it has just become ready.
pub const MARGIN_YOUNG: f32 = 1.0;
/// Seconds of samples after which a baseline is old.
pub const OLD_S: f32 = 180.0;

/// Seconds that a baseline taken over from a sibling counts for: as one that has just become ready.
pub const INHERITED_S: f32 = 60.0;

/// A container younger than this, or without a baseline, needs the longer (cold) persistence: start-up is work too.
pub const STARTUP_MS: i64 = 30_000;
/// Containers seen within this time after their cluster's first observation were probably there before us: their past
/// is not "bad from the first second", so the levels of the cold start do not speak for them.
pub const COHORT_MS: i64 = 30_000;
/// Longest stretch for which one sample of a serving baseline persists, so that a single slow sample opens nothing.
pub const WARM_SAMPLE_S: f32 = 3.0;
/// The same without a baseline.
pub const COLD_SAMPLE_S: f32 = 5.0;

/// An incident's kind may be corrected this long after it opened.
pub const REFINE_MS: i64 = 30_000;
/// By how much another kind's persistence must exceed the present one's to correct it.
pub const REFINE_LEAD: f32 = 0.15;
/// A kind that has been quiet this long does not swallow another kind in the same workload: that opens its own incident.
pub const MERGE_MS: i64 = 10_000;
/// Facts about processes speak as evidence for incidents this long.
pub const PROCESS_FACT_MS: i64 = 90_000;

/// Workloads that the fleet prior needs before it may raise the levels of the cold start.
pub const PRIOR_WORKLOADS: usize = 8;
/// Most workloads that one node contributes to the fleet prior.
pub const PRIOR_PER_NODE: usize = 20;
/// Most workloads read for it at all.
pub const PRIOR_SAMPLE: usize = 2_000;
/// A workload known from before a restart counts for it this long, event time, until its containers are heard of again.
pub const PRIOR_REMEMBERED_MS: i64 = 3_600_000;
/// How often it is computed, event time.
pub const PRIOR_EVERY_MS: i64 = 60_000;

/// Distance beyond the band, log space, at which a container is looked at more closely: what is normal is passed a third of the time.
pub const STRAYS: f32 = 0.3;
/// So long a container that strayed is still looked at: an attack that goes on and off pauses for less.
pub const WINDOW_CALM_MS: i64 = 30_000;
/// A container of a workload without a normal is looked at for so long after it was first seen.
pub const BORN_MS: i64 = 120_000;
/// Memory of a window's means and spreads.
pub const WINDOW_TAU_S: f32 = 20.0;
/// How fast the most that a window saw comes down to the mean.
pub const MOST_TAU_S: f32 = 60.0;
/// Memory for how much of the time it strays.
pub const STRAYS_TAU_S: f32 = 60.0;
/// Memory for how often it began to.
pub const BURSTS_TAU_S: f32 = 120.0;
/// Memory for what the classifier said: a single odd second opens nothing.
pub const SAID_TAU_S: f32 = 4.0;
/// How slowly that fades while a container is calm.
pub const FADE_TAU_S: f32 = 60.0;
/// A window of less says too little to be asked about.
pub const LEAST_WINDOW_S: f32 = 2.0;
/// An open incident is alive while the classifier says this share of what opens one.
pub const HOLD_OF_TICKET: f32 = 0.6;
/// Rows of a node's containers over which it is known how many of them stray.
pub const NEIGHBOUR_ROWS: f32 = 128.0;

/// Share of a pids limit that is a fact.
pub const PIDS_NEAR_LIMIT: f64 = 0.9;
/// Share of a node's file system that is a fact.
pub const DISK_NEAR_FULL: f64 = 0.95;
/// A container that lived longer than this did not fail in a loop.
pub const FAILURE_LIFE_MS: i64 = 600_000;
/// Failures of one place that make a crash loop.
pub const FAILURES: usize = 3;

/// How a feature speaks.
pub struct Scale {
    /// Distance beyond band and margin at which its strength is 1.
    pub step: f32,
    /// Level at which its strength is 1 without a baseline (0 at three quarters of it); NaN: it says nothing then.
    pub cold: f32,
}

/// The scale of a feature.
pub const fn scale(feature: Feature) -> Scale {
    const NONE: f32 = f32::NAN;
    let (step, cold) = match feature {
        // Half of a core without traffic, or that share of a small node, is work that should explain itself.
        Feature::CpuCores => (0.7, 0.5),
        Feature::CpuSystemCores => (0.7, 0.4),
        Feature::RxPacketsPerSec | Feature::TxPacketsPerSec => (1.0, 2_000.0),
        Feature::RxBytesPerSec | Feature::TxBytesPerSec => (1.4, 5e6),
        Feature::TxExcessBytesPerSec => (1.0, 300e3),
        Feature::TcpActiveOpensPerSec => (0.7, 20.0),
        Feature::TcpPassiveOpensPerSec => (1.0, 150.0),
        Feature::TcpAttemptFailsPerSec => (0.7, 20.0),
        Feature::TcpEstablished => (1.0, 300.0),
        Feature::TcpEstabResetsPerSec | Feature::TcpOutResetsPerSec => (0.7, 20.0),
        Feature::TcpSynRetransmitsPerSec => (0.7, 5.0),
        Feature::ListenDropsPerSec => (0.7, 20.0),
        Feature::UdpOutPerSec | Feature::UdpInPerSec => (1.4, 2_000.0),
        Feature::UdpNoPortsPerSec => (1.4, 500.0),
        Feature::ArpIncomplete => (0.7, 12.0),
        Feature::Pids => (1.0, 300.0),
        Feature::ChildFaultsPerSec => (1.0, 50e3),
        Feature::IoWriteBytesPerSec => (1.4, 50e6),
        // A log that is copied or a segment that is merged doubles them; what fills a disk goes on.
        Feature::MemoryFileBytes => (0.7, 80e6),
        Feature::MemoryAnonBytes | Feature::MemoryWorkingSetBytes => (0.7, NONE),
        _ => (1.4, NONE),
    };
    Scale { step, cold }
}
