//! Whether an incident is like one that was answered: another replica, time or intensity of the same thing, and nothing beyond it.

use vedette_proto::{
    Feature,
    v1::{Evidence, Family, Incident},
};

/// What is seen may be so many times what was answered.
const INTENSITY: f64 = 2.0;

/// Same workload, kind, families of evidence and directions; no feature beyond [`INTENSITY`] times what was answered, no other process.
///
/// What the answered incident did not show may be there only within [`INTENSITY`] times its own normal: an attack that hides behind
/// what is allowed shows more than that.
#[must_use]
pub fn alike(incident: &Incident, answered: &Incident) -> bool {
    let families: Vec<i32> = answered.evidence.iter().map(|evidence| evidence.family).collect();
    incident.workload == answered.workload
        && incident.kind == answered.kind
        && !incident.evidence.is_empty()
        && incident.evidence.iter().all(|seen| {
            families.contains(&seen.family)
                && match answered.evidence.iter().find(|known| known.feature == seen.feature) {
                    Some(known) => no_more_than(seen, known),
                    None => near_its_normal(seen),
                }
        })
}

/// Whether it moved up; what has no normal moved up from nothing.
fn moved_up(evidence: &Evidence) -> bool {
    match (evidence.observed, evidence.expected) {
        (Some(observed), Some(expected)) => observed >= expected,
        _ => true,
    }
}

fn no_more_than(seen: &Evidence, known: &Evidence) -> bool {
    match (seen.observed, known.observed) {
        (Some(observed), Some(answered)) if moved_up(seen) && moved_up(known) => {
            observed <= (INTENSITY * answered).max(floor(&seen.feature))
        }
        (Some(observed), Some(answered)) => moved_up(seen) == moved_up(known) && observed >= answered / INTENSITY,
        // A fact without a number; of a process it names the process.
        (None, None) => seen.family() != Family::Processes || seen.sentence == known.sentence,
        _ => false,
    }
}

fn near_its_normal(seen: &Evidence) -> bool {
    let (Some(observed), Some(low), Some(high)) = (seen.observed, seen.expected_low, seen.expected_high) else { return false };
    observed <= (INTENSITY * high).max(floor(&seen.feature)) && observed >= low / INTENSITY
}

/// Below it, differences of a feature are noise.
fn floor(feature: &str) -> f64 {
    Feature::ALL.iter().find(|one| one.name() == feature).map_or(0.0, |one| f64::from(one.floor()))
}
