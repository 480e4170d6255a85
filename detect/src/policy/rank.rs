//! How loud an incident is among others of its severity: what the budget goes by.

use vedette_proto::v1::{Evidence, Incident, Kind, Severity};

/// An incident that asks for a page is before every one that does not.
const PAGE: f32 = 10.0;
/// A hundred times normal is as loud as it gets.
const FAR: f64 = 100.0;

/// Its rank; higher is louder. Counts, in this order: whether it asks for a page; families of evidence; how far the furthest is from
/// normal; how sure detection was; whether it has a name.
#[must_use]
pub fn rank(incident: &Incident) -> f32 {
    let families = incident.evidence.iter().fold(0u32, |set, evidence| set | 1u32.checked_shl(evidence.family as u32).unwrap_or(0));
    let furthest = incident.evidence.iter().map(distance).fold(0.0, f64::max);
    let page = if incident.severity() == Severity::Page { PAGE } else { 0.0 };
    let named = if matches!(incident.kind(), Kind::Unknown | Kind::Unspecified) { 0.0 } else { 0.25 };
    page + families.count_ones().min(4) as f32 * 0.5 + furthest as f32 + incident.peak_score.clamp(0.0, 1.0) as f32 + named
}

/// From normal, 0 to 1, on a logarithmic scale; half of that without a baseline.
fn distance(evidence: &Evidence) -> f64 {
    match (evidence.observed, evidence.expected_high.or(evidence.expected)) {
        (Some(observed), Some(normal)) if observed > 0.0 && normal > 0.0 => ((observed / normal).ln().abs() / FAR.ln()).min(1.0),
        (Some(_), Some(_)) => 1.0,
        _ => 0.5,
    }
}
