//! Going on with the incidents that were open when an earlier run ended, under their own ids.

use vedette_proto::v1::{self, Kind};

use crate::{
    Detector, course, disagreement, evidence,
    fold::{Restored, Topic},
    reference,
    silence::UNTIL_HEARD_MS,
};

/// Quiet time of a crash loop whose back-off is not known any more: the longest.
const FAILURES_QUIET_MS: i64 = 660_000;

impl Detector {
    /// Goes on with an incident of an earlier run; false if that cannot be done: it names no workload, or there is no room.
    ///
    /// What the run knew of the workload's normal may be gone; where it was remembered, do that first. The incident is quiet, and then resolved, once its nodes are heard again
    /// and nothing is reported for as long as usual; until then cold levels speak in full of what was already beyond normal.
    pub fn restore(&mut self, incident: v1::Incident, reasoning: String) -> bool {
        let Some(name) = incident.workload.clone().filter(|name| !name.cluster.is_empty()) else { return false };
        let topic = match incident.kind() {
            _ if incident.evidence.iter().any(evidence::is_silence) => Topic::Silence,
            _ if incident.evidence.iter().any(evidence::is_disagreement) => Topic::Disagreement,
            _ if incident.evidence.iter().any(reference::is_drift) => Topic::Drift,
            Kind::CrashLoop => Topic::Failures,
            _ => Topic::Behaviour,
        };
        let quiet_ms = match topic {
            Topic::Silence => UNTIL_HEARD_MS,
            Topic::Failures => FAILURES_QUIET_MS,
            Topic::Disagreement => disagreement::QUIET_MS,
            Topic::Drift => course::QUIET_MS,
            Topic::Behaviour => i64::from(self.config.resolve_after_seconds) * 1_000,
        };
        let cluster = self.fleet.cluster(&name.cluster);
        let mut nodes: Vec<u32> = incident.nodes.iter().map(|node| self.fleet.node(cluster, node)).collect();
        if nodes.is_empty() {
            nodes.push(self.fleet.node(cluster, &name.owner_name));
        }
        let Some(workload) = self.workload(cluster, nodes[0], &name) else { return false };
        let blind = incident.evidence.iter().any(|evidence| evidence.feature == evidence::BLIND_SENSOR);
        let onset_ms = incident.onset_unix_ms;
        let restored = self.incidents.restore(incident, reasoning, &Restored { cluster, workload, nodes, topic, quiet_ms });
        if restored && topic == Topic::Silence {
            self.silence.restore(workload, blind.then_some(onset_ms));
        }
        restored
    }
}
