//! What the detector says: a verdict per observation, changes of incidents, the state of a container, and counters.

use vedette_proto::v1;

/// What is said of one observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// How abnormal, 0 (as always) to 1.
    pub score: f32,
    /// Likely kind; [`v1::Kind::Normal`] unless abnormal.
    pub kind: v1::Kind,
}

impl Verdict {
    /// Nothing to say.
    pub const NORMAL: Self = Self { score: 0.0, kind: v1::Kind::Normal };
}

/// An incident opened, changed or resolved.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which of the three.
    pub change: v1::IncidentChange,
    /// The incident as it is now.
    pub incident: v1::Incident,
    /// How the kind was chosen, one line: the signature that matched.
    pub reasoning: String,
}

/// What is known of one container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContainerState {
    /// Score of its last verdict, 0 to 1.
    pub score: f32,
    /// What is known of its workload's normal.
    pub baseline: v1::BaselineState,
}

/// Sizes and counters; every limit of the detector shows here when it is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Containers known now.
    pub containers: usize,
    /// Workloads known now.
    pub workloads: usize,
    /// Incidents open now.
    pub open_incidents: usize,
    /// Incidents opened so far.
    pub incidents_opened: u64,
    /// Observations seen.
    pub observations: u64,
    /// Observations of a container that was never added, or was refused: scored normal.
    pub unknown_containers: u64,
    /// Observations not newer than the last one of their container: scored normal, not learnt.
    pub out_of_order: u64,
    /// Containers not kept because the limit was met.
    pub containers_refused: u64,
    /// Workloads without a living container forgotten because the limit was met.
    pub workloads_evicted: u64,
    /// Incidents not opened because the limit was met.
    pub incidents_refused: u64,
}
