//! A label as a recording holds it: what was said of whom and when, without the cluster. Absent is left out.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use vedette_proto::v1::{Kind, Label, LabelSource, Selector, TimeRange};

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Said {
    /// From, Unix milliseconds.
    pub start_unix_ms: i64,
    /// To, exclusive, Unix milliseconds.
    pub end_unix_ms: i64,
    /// What it was, by its word.
    pub kind: String,
    /// Touched without being the target.
    #[serde(default)]
    pub affected: bool,
    /// Whose, as in a selector.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_kind: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner_name: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_name: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Whose.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Who said so, by its word.
    pub source: String,
    /// The person or program.
    pub author: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Further facts: episode, placement, intensity, round, placebo.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Said {
    /// As the aggregator stored it.
    pub fn of(label: &Label) -> Self {
        let selector = label.selector.clone().unwrap_or_default();
        let range = label.range.unwrap_or_default();
        Self {
            start_unix_ms: range.start_unix_ms,
            end_unix_ms: range.end_unix_ms,
            kind: label.kind().word().to_owned(),
            affected: label.affected,
            node: selector.node,
            namespace: selector.namespace,
            owner_kind: selector.owner_kind,
            owner_name: selector.owner_name,
            container_name: selector.container_name,
            pod_uid: selector.pod_uid,
            container_id: selector.container_id,
            source: label.source().word().to_owned(),
            author: label.author.clone(),
            note: label.note.clone(),
            attributes: label.attributes.clone().into_iter().collect(),
        }
    }

    /// To be said again, of a replay.
    pub fn label(&self, cluster: &str) -> anyhow::Result<Label> {
        let kind = Kind::from_word(&self.kind).with_context(|| format!("a label's kind {:?} is not known", self.kind))?;
        let source = LabelSource::from_word(&self.source).with_context(|| format!("a label's source {:?} is not known", self.source))?;
        let selector = Selector {
            cluster: cluster.to_owned(),
            node: self.node.clone(),
            namespace: self.namespace.clone(),
            owner_kind: self.owner_kind.clone(),
            owner_name: self.owner_name.clone(),
            container_name: self.container_name.clone(),
            pod_uid: self.pod_uid.clone(),
            container_id: self.container_id.clone(),
        };
        Ok(Label {
            selector: Some(selector),
            range: Some(TimeRange { start_unix_ms: self.start_unix_ms, end_unix_ms: self.end_unix_ms }),
            kind: kind.into(),
            affected: self.affected,
            source: source.into(),
            author: self.author.clone(),
            note: self.note.clone(),
            attributes: self.attributes.clone().into_iter().collect(),
            ..Label::default()
        })
    }
}
