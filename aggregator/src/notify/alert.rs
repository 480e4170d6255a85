//! An incident as an alert: labels that stay the same while it is the same, and annotations that may change.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use vedette_proto::v1::{Incident, Kind};

use super::text::{harmless, line};

/// The alert's name, the same for all incidents: kind and severity are labels of their own.
pub const NAME: &str = "VedetteIncident";
/// What the names of all our alerts begin with, those of the shipped rules too.
pub const NAME_PREFIX: &str = "Vedette";
/// The alert that always fires.
pub const ALIVE: &str = "VedetteAlive";
/// The label by which our own alerts are known again.
pub const OURS: (&str, &str) = ("source", "vedette");
/// Pods and nodes named in an annotation.
const LISTED: usize = 10;
/// Longest value of a label, in characters.
const LABEL: usize = 256;

/// What makes two notifications the same alert. Neither the score nor the explanation, which change; and not the incident's id, so that
/// an attack that goes off and on again is the same alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Cluster.
    pub cluster: String,
    /// Namespace; empty for a node.
    pub namespace: String,
    /// Owner's kind.
    pub owner_kind: String,
    /// Owner's name.
    pub owner_name: String,
    /// Container.
    pub container: String,
    /// The kind it was first told as: a kind that is told better later is an annotation.
    pub kind: String,
    /// Severity: routing hangs on it, so a ticket that becomes a page is another alert.
    pub severity: String,
}

impl Identity {
    /// Of an incident that was first told as `kind`.
    #[must_use]
    pub fn new(incident: &Incident, kind: &str) -> Self {
        let workload = incident.workload.clone().unwrap_or_default();
        Self {
            cluster: workload.cluster,
            namespace: workload.namespace,
            owner_kind: workload.owner_kind,
            owner_name: workload.owner_name,
            container: workload.container_name,
            kind: kind.to_owned(),
            severity: incident.severity().word().to_owned(),
        }
    }

    /// The labels. Empty ones are left out: to Alertmanager they are none.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<&'static str, String> {
        let all = [
            ("alertname", NAME),
            OURS,
            ("cluster", self.cluster.as_str()),
            ("namespace", self.namespace.as_str()),
            ("owner_kind", self.owner_kind.as_str()),
            ("owner", self.owner_name.as_str()),
            ("container", self.container.as_str()),
            ("kind", self.kind.as_str()),
            ("severity", self.severity.as_str()),
        ];
        let cut = |text: &str| line(text).chars().take(LABEL).collect();
        all.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, cut(value))).collect()
    }
}

/// An alert as Alertmanager's API takes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What it is.
    pub labels: BTreeMap<&'static str, String>,
    /// What is known of it.
    pub annotations: BTreeMap<&'static str, String>,
    /// Since when, RFC 3339.
    pub starts_at: String,
    /// Until when: in the future while it fires, so that it ends by itself if we do.
    pub ends_at: String,
    /// Where a person reads more.
    #[serde(rename = "generatorURL", skip_serializing_if = "String::is_empty")]
    pub generator_url: String,
}

/// RFC 3339 of Unix milliseconds.
#[must_use]
pub fn rfc3339(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}

/// Where a person reads more of an incident; empty where the configuration says nowhere.
#[must_use]
pub fn link(pattern: &str, id: u64) -> String {
    pattern.replace("{id}", &id.to_string())
}

/// What is known of an incident, for people, at an instant by our clock.
#[must_use]
pub fn annotations(incident: &Incident, now_ms: i64) -> BTreeMap<&'static str, String> {
    let id = incident.id;
    let evidence: Vec<_> = incident.evidence.iter().map(|evidence| format!("- {}", line(&evidence.sentence))).collect();
    let all = [
        ("summary", line(&incident.summary)),
        ("effect", line(&incident.effect)),
        ("description", harmless(&evidence.join("\n"))),
        ("kind_now", kind_word(incident.kind()).to_owned()),
        ("score", format!("{:.2}", incident.peak_score)),
        ("onset", rfc3339(incident.onset_unix_ms)),
        ("pods", listed(&incident.pods)),
        ("nodes", listed(&incident.nodes)),
        ("attack_techniques", listed(&incident.attack_techniques)),
        ("acknowledged", said(&incident.acknowledged_by, "since", incident.acknowledged_unix_ms)),
        (
            "snoozed",
            if now_ms < incident.snoozed_until_unix_ms {
                said(&incident.snoozed_by, "until", incident.snoozed_until_unix_ms)
            } else {
                String::new()
            },
        ),
        ("incident", id.to_string()),
        ("explain", format!("vedette explain {id}")),
        ("answer", format!("vedette answer {id} attack | expected | nothing-there | unsure")),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// `by anna since 2026-11-27T03:12:05Z`; empty where nobody did.
fn said(by: &str, word: &str, unix_ms: i64) -> String {
    if unix_ms > 0 { format!("by {} {word} {}", line(by), rfc3339(unix_ms)) } else { String::new() }
}

/// A kind's word; what has none is unknown.
#[must_use]
pub fn kind_word(kind: Kind) -> &'static str {
    if kind == Kind::Unspecified { Kind::Unknown.word() } else { kind.word() }
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(LISTED).map(|name| line(name)).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}

/// The alert that always fires, until `until_ms` unless told again.
#[must_use]
pub fn alive(cluster: &str, since_ms: i64, until_ms: i64) -> Alert {
    let labels = [("alertname", ALIVE), OURS, ("cluster", cluster), ("severity", "none")];
    let summary = "Vedette watches. This alert always fires; tell whoever expects it if it stops.";
    Alert {
        labels: labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        annotations: [("summary", summary.to_owned())].into(),
        starts_at: rfc3339(since_ms),
        ends_at: rfc3339(until_ms),
        generator_url: String::new(),
    }
}
