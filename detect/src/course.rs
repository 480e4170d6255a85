//! What is done once a minute of event time for a workload: its hours, its reference, and the candidate of one that an incident holds.

use vedette_proto::{
    Feature,
    v1::{self, Answer, Family, Origin, Severity},
};

use crate::{
    Detector, SubjectKey,
    candidate::{self, Candidate, Turn},
    detector,
    evidence::{self, Ranked},
    fleet::Workload,
    fold::{Report, Topic},
    judge,
    reference::{Present, Reference},
    rollout,
    season::Season,
};

const EVERY_MS: i64 = 60_000;
/// Most that one turn counts for: what nobody saw teaches nothing.
const MOST_MS: i64 = 120_000;
/// A node whose clock was ahead may have moved the next turn this far away; further, and it is due now.
const AHEAD_MS: i64 = 120_000;
/// What drifts with the hours of a day is beyond the reference at noon only: one incident, not one a day, and open when somebody looks.
pub const QUIET_MS: i64 = 25 * 3_600_000;
/// Acceptances kept for a caller that does not collect them; the oldest go first.
const MAX_ACCEPTED: usize = 1_000;
/// Evidence that asks stands behind facts and before features.
const RANK: f32 = 12.0;

/// The course of a workload over hours, days and weeks; made when its baseline first serves.
#[derive(Clone, Debug, Default)]
pub struct Course {
    pub season: Season,
    pub reference: Reference,
}

/// A new level was accepted as a workload's normal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The incident that it was about.
    pub incident_id: u64,
    /// Whose normal it is.
    pub workload: v1::Workload,
    /// Nobody answered, and a timer did.
    pub by_timer: bool,
}

/// Why a new level cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// No such incident is open.
    #[error("no incident {0} is open")]
    NotOpen(u64),
    /// It is not about a level.
    #[error("incident {0} holds no baseline: it has no level to accept")]
    NoLevel(u64),
    /// Too little was seen of the new level.
    #[error("the new level was seen for {0} s, and is accepted after 300 s")]
    TooYoung(u32),
}

/// The name of evidence that asks.
pub const ASKS: &str = "steady_new_level";

impl Workload {
    /// Whether a turn is due; it then is again in a minute. Gives how long the last one is ago, at most [`MOST_MS`].
    #[inline]
    pub fn turn_is_due(&mut self, unix_ms: i64) -> Option<i64> {
        let ahead = self.turn_ms - unix_ms;
        if ahead > 0 && ahead <= EVERY_MS + AHEAD_MS {
            return None;
        }
        let since_ms = unix_ms - (self.turn_ms - EVERY_MS);
        self.turn_ms = unix_ms + EVERY_MS;
        Some(since_ms.clamp(0, MOST_MS))
    }
}

impl Detector {
    /// A workload's turn, `since_ms` after the one before.
    pub(crate) fn turn(&mut self, key: SubjectKey, origin: Origin, unix_ms: i64, since_ms: i64) {
        let Some(container) = self.fleet.containers.get(&key) else { return };
        let place = container.place.workload;
        let ready_s = self.config.baseline_ready_seconds as f32;
        let (frozen, drifts) = (self.incidents.is_frozen(place), self.incidents.is_about(place, Topic::Drift));
        let workload = &mut self.fleet.workloads[place as usize];
        if frozen {
            let Some(candidate) = &mut workload.candidate else { return };
            let present = Present::of(&mut candidate.baseline, ready_s);
            let turn = candidate.turn(unix_ms, &present);
            let drift = workload.course.as_mut().filter(|_| drifts).and_then(|course| course.reference.drift(unix_ms, &present));
            self.report_drift(key, origin, unix_ms, drift);
            return self.ask(place, unix_ms, turn);
        }
        if !workload.baseline.ready(Feature::CpuCores as usize, ready_s) {
            return;
        }
        let course = workload.course.get_or_insert_default();
        let present = Present::of(&mut workload.baseline, ready_s);
        let seconds = since_ms as f32 / 1e3;
        let drift = course.reference.drift(unix_ms, &present);
        course.reference.take(unix_ms, seconds, &present);
        course.season.take(unix_ms, seconds, &present.peaks);
        course.season.serve(unix_ms, &course.reference.most());
        self.report_drift(key, origin, unix_ms, drift);
    }

    fn report_drift(&mut self, key: SubjectKey, origin: Origin, unix_ms: i64, drift: Option<crate::reference::Drift>) {
        let (Some(drift), Some(container)) = (drift, self.fleet.containers.get(&key)) else { return };
        let workload = &self.fleet.workloads[container.place.workload as usize];
        self.incidents.report(Report {
            topic: Topic::Drift,
            effect: Some("slow drift away from the frozen reference (poisoned baseline?)"),
            fact: true,
            most: rollout::most(workload, judge::most_severe(origin), unix_ms).min(Severity::Ticket),
            onset_ms: drift.onset_ms,
            evidence: drift.evidence,
            reasoning: "the workload's own baseline moved by small steps, each of them within the band; the frozen reference did not move"
                .to_owned(),
            quiet_ms: QUIET_MS,
            ..detector::report(&self.fleet, container, origin, unix_ms)
        });
    }

    fn ask(&mut self, place: u32, unix_ms: i64, turn: Turn) {
        let hours = match turn {
            Turn::Learns => return,
            Turn::Asks(hours) => hours,
            Turn::Overdue => {
                if let Some(incident_id) = self.incidents.accepted_by_timer(place) {
                    self.take_candidate(place);
                    if self.accepted.len() >= MAX_ACCEPTED {
                        self.accepted.remove(0);
                    }
                    let workload = self.fleet.workloads[place as usize].name.clone();
                    self.accepted.push(Accepted { incident_id, workload, by_timer: true });
                }
                return;
            }
        };
        self.incidents.ask(place, unix_ms, |id| asks(id, hours, unix_ms));
    }

    /// An operator says that what a workload does while an incident is open is its normal from now on: what was learnt in the shadow
    /// serves, and the frozen reference is what is now. The incident resolves when nothing is abnormal against that.
    ///
    /// # Errors
    /// [`AcceptError`]; nothing is changed then.
    pub fn accept(&mut self, incident_id: u64) -> Result<Accepted, AcceptError> {
        let place = self.incidents.workload_of(incident_id).ok_or(AcceptError::NotOpen(incident_id))?;
        if !self.incidents.holds(incident_id) {
            return Err(AcceptError::NoLevel(incident_id));
        }
        let workload = &self.fleet.workloads[place as usize];
        let candidate = workload.candidate.as_ref().ok_or(AcceptError::TooYoung(0))?;
        let seen_s = candidate.baseline.track(Feature::CpuCores as usize).seconds;
        if seen_s < candidate::LEAST_S {
            return Err(AcceptError::TooYoung(seen_s as u32));
        }
        let workload = workload.name.clone();
        self.take_candidate(place);
        Ok(Accepted { incident_id, workload, by_timer: false })
    }

    /// Somebody answered an incident: a timer accepts nothing that is an attack, or undecided.
    pub fn answered(&mut self, incident_id: u64, answer: Answer) {
        self.incidents.answered(incident_id, answer);
    }

    /// What a timer accepted since the last call.
    pub fn accepted(&mut self) -> Vec<Accepted> {
        std::mem::take(&mut self.accepted)
    }

    fn take_candidate(&mut self, place: u32) {
        let ready_s = self.config.baseline_ready_seconds as f32;
        let workload = &mut self.fleet.workloads[place as usize];
        let Some(mut candidate) = workload.candidate.take() else { return };
        let present = Present::of(&mut candidate.baseline, ready_s);
        workload.course.get_or_insert_default().reference.accept(&present);
        workload.baseline.take_over(&candidate.baseline, ready_s);
        workload.siblings.forgive();
        let unix_ms = workload.last_ms;
        // It is written down at the next look.
        workload.written_ms = i64::MIN;
        self.incidents.resolve_topic(place, Topic::Drift, unix_ms);
    }
}

/// What asks, in the words of an incident.
fn asks(incident_id: u64, hours: i64, unix_ms: i64) -> Ranked {
    let sentence = format!("the new level looks steady for {hours} h: accept it with `vedette accept {incident_id}`, or say what it was");
    let mut one = evidence::fact(ASKS, Family::Lifecycle, sentence, Some(hours as f64), "h", unix_ms, RANK);
    one.counts = false;
    one
}

/// The candidate of a workload, which begins with the first row that an incident keeps from its baseline.
pub fn candidate(workload: &mut Workload, unix_ms: i64) -> &mut Candidate {
    workload.candidate.get_or_insert_with(|| Box::new(Candidate::new(unix_ms)))
}
