//! A running container that no API object claims: started around the API server, or told by a node that it is not on.

use vedette_proto::v1::{Family, Origin};

use crate::{Detector, SubjectKey, detector, evidence, fold::Report};

/// A container without rows for so long does not run as far as anybody knows.
const RUNS_MS: i64 = 30_000;
/// Rows of a container over so long, event time, show that it runs and was not just caught between two messages.
const LEAST_MS: i64 = 45_000;
/// Said again every few seconds; when it is not any more, the claim came.
const QUIET_MS: i64 = 60_000;
/// Facts stand before every feature.
const RANK: f32 = 20.0;

/// What the API server says instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed<'a> {
    /// It has no pod with this uid.
    Pod,
    /// It has the pod, and the pod does not list the container.
    Container,
    /// It has the pod on this other node.
    OtherNode(&'a str),
}

impl Detector {
    /// Nobody claims a container, for as long as the caller holds to be long enough; `now_unix_ms` is the caller's clock. Whether it runs, and
    /// so is a fact; a container whose rows come late says nothing of now.
    pub fn unclaimed(&mut self, key: SubjectKey, what: Unclaimed<'_>, now_unix_ms: i64) -> bool {
        let Some(container) = self.fleet.containers.get(&key) else { return false };
        if now_unix_ms.saturating_sub(container.last_ms) > RUNS_MS || container.last_ms.saturating_sub(container.first_seen_ms) < LEAST_MS {
            return false;
        }
        let unix_ms = container.last_ms;
        let sentence = match what {
            Unclaimed::Pod => "the container runs, and the API server has no pod with its uid".to_owned(),
            Unclaimed::Container => "the container runs in its pod, and the pod does not list it".to_owned(),
            Unclaimed::OtherNode(node) => format!("the container runs, and the API server has its pod on node {node}"),
        };
        self.incidents.report(Report {
            effect: Some("container that no API object claims (started around the API server?)"),
            fact: true,
            onset_ms: container.first_seen_ms,
            evidence: vec![evidence::fact("unclaimed", Family::External, sentence, None, "", unix_ms, RANK)],
            reasoning: "fact: no object of the API server claims a container that has run for a minute".to_owned(),
            quiet_ms: QUIET_MS,
            ..detector::report(&self.fleet, container, Origin::Live, unix_ms)
        });
        true
    }
}
