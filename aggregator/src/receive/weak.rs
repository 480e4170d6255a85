//! An alert of another tool as a label: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use vedette_proto::v1::{Kind, Label, LabelSource, Selector, TimeRange, Workload};

use crate::{
    label::check::{LATEST_UNIX_MS, MAX_RANGE_MS},
    notify::{NAME_PREFIX, OURS},
};

/// Longest note, in characters.
const MAX_NOTE: usize = 500;
/// Longest attribute, in characters.
const MAX_ATTRIBUTE: usize = 200;

/// The part of Alertmanager's webhook (version 4) that is read.
#[derive(Debug, Deserialize)]
pub struct Webhook {
    /// The alerts of one group.
    pub alerts: Vec<Alert>,
}

/// One alert.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Alert {
    /// `firing` or `resolved`.
    pub status: String,
    /// What it is.
    pub labels: BTreeMap<String, String>,
    /// What is known of it.
    pub annotations: BTreeMap<String, String>,
    /// Since when, RFC 3339.
    pub starts_at: String,
    /// Until when; year 1 while it fires.
    pub ends_at: String,
    /// Who says so.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
    /// Its identity.
    pub fingerprint: String,
}

/// Why an alert is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It is one of ours.
    Ours,
    /// It names no workload: a label on a whole node or namespace would say too much.
    NoWorkload,
    /// Its times make no sense.
    Time,
}

/// The label of an alert. `of_pod` knows a pod's uid and workload by namespace and name.
///
/// # Errors
/// [`Skipped`].
pub fn label(
    alert: &Alert,
    kinds: &BTreeMap<String, String>,
    own_link: &str,
    now_ms: i64,
    of_pod: impl Fn(&str, &str) -> Option<(String, Workload)>,
) -> Result<Label, Skipped> {
    let get = |name: &str| alert.labels.get(name).map_or("", String::as_str);
    let name = get("alertname");
    let linked = !own_link.is_empty() && alert.generator_url.starts_with(own_link);
    if name.starts_with(NAME_PREFIX) || get(OURS.0) == OURS.1 || linked {
        return Err(Skipped::Ours);
    }
    let firing = alert.status == "firing";
    let start = unix_ms(&alert.starts_at).filter(|&start| start > 0 && start <= now_ms + 60_000).ok_or(Skipped::Time)?;
    let end = if firing { now_ms } else { unix_ms(&alert.ends_at).ok_or(Skipped::Time)? };
    let end = end.clamp(start + 1, LATEST_UNIX_MS);
    // An alert may have fired for longer than a label can last: its last days are what history still has.
    let (began, start) = (start, start.max(end - MAX_RANGE_MS));
    let kind = kinds.get(name).and_then(|word| Kind::from_word(word)).unwrap_or(Kind::Unknown);
    let attributes = [
        ("alert", format!("{}@{began}", fingerprint(alert))),
        ("alertname", cut(name, MAX_ATTRIBUTE)),
        ("severity", cut(get("severity"), MAX_ATTRIBUTE)),
        ("status", if firing { "firing" } else { "resolved" }.to_owned()),
    ];
    Ok(Label {
        selector: Some(selector(&get, of_pod)?),
        range: Some(TimeRange { start_unix_ms: start, end_unix_ms: end }),
        kind: kind.into(),
        source: LabelSource::Alertmanager.into(),
        author: "alertmanager".to_owned(),
        note: cut(alert.annotations.get("summary").or(alert.annotations.get("description")).map_or("", String::as_str), MAX_NOTE),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Label::default()
    })
}

/// What an alert is about: a pod that is known, else an owner that it names.
fn selector<'a>(get: &impl Fn(&str) -> &'a str, of_pod: impl Fn(&str, &str) -> Option<(String, Workload)>) -> Result<Selector, Skipped> {
    let namespace = first(get, &["exported_namespace", "namespace"]);
    let container = first(get, &["exported_container", "container"]);
    let pod = first(get, &["exported_pod", "pod"]);
    if namespace.is_empty() {
        return Err(Skipped::NoWorkload);
    }
    if let Some((pod_uid, workload)) = of_pod(namespace, pod).filter(|_| !pod.is_empty()) {
        return Ok(Selector {
            namespace: namespace.to_owned(),
            owner_kind: workload.owner_kind,
            owner_name: workload.owner_name,
            container_name: container.to_owned(),
            pod_uid,
            ..Selector::default()
        });
    }
    let owners = [
        ("Deployment", "deployment"),
        ("StatefulSet", "statefulset"),
        ("DaemonSet", "daemonset"),
        ("CronJob", "cronjob"),
        ("Job", "job_name"),
    ];
    let (owner_kind, owner_name) =
        owners.into_iter().map(|(kind, label)| (kind, get(label))).find(|(_, name)| !name.is_empty()).ok_or(Skipped::NoWorkload)?;
    Ok(Selector {
        namespace: namespace.to_owned(),
        owner_kind: owner_kind.to_owned(),
        owner_name: owner_name.to_owned(),
        container_name: container.to_owned(),
        ..Selector::default()
    })
}

fn first<'a>(get: &impl Fn(&str) -> &'a str, names: &[&str]) -> &'a str {
    names.iter().map(|name| get(name)).find(|value| !value.is_empty()).unwrap_or("")
}

fn unix_ms(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Alertmanager's own, or one of the labels.
fn fingerprint(alert: &Alert) -> String {
    if (1..=64).contains(&alert.fingerprint.len()) && alert.fingerprint.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return alert.fingerprint.clone();
    }
    let mut hash = Sha256::new();
    for (name, value) in &alert.labels {
        hash.update(format!("{name:?}={value:?}\n"));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One line of it.
fn cut(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn alert(labels: &[(&str, &str)]) -> Alert {
        Alert {
            status: "resolved".into(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            starts_at: "2027-01-15T07:00:00Z".into(),
            ends_at: "2027-01-15T07:10:00.5Z".into(),
            fingerprint: "d1c2".into(),
            ..Alert::default()
        }
    }

    fn labelled(alert: &Alert) -> Result<Label, Skipped> {
        let kinds = BTreeMap::from([("KubePodCrashLooping".to_owned(), "crash_loop".to_owned())]);
        label(alert, &kinds, "https://v/incidents/", NOW, |namespace, pod| {
            let workload = Workload { owner_kind: "Deployment".into(), owner_name: "web".into(), ..Workload::default() };
            (namespace == "shop" && pod == "web-1").then(|| ("00000000-0000-4000-8000-000000000001".to_owned(), workload))
        })
    }

    #[test]
    fn an_alert_about_a_pod_becomes_a_label_of_it() {
        let label =
            labelled(&alert(&[("alertname", "KubePodCrashLooping"), ("namespace", "shop"), ("pod", "web-1"), ("container", "nginx")]))
                .unwrap();

        let selector = label.selector.clone().unwrap();
        assert_eq!((label.kind(), label.source()), (Kind::CrashLoop, LabelSource::Alertmanager));
        assert_eq!((selector.owner_name.as_str(), selector.container_name.as_str()), ("web", "nginx"));
        assert_eq!(selector.pod_uid, "00000000-0000-4000-8000-000000000001");
        let range = label.range.unwrap();
        assert_eq!(range.end_unix_ms - range.start_unix_ms, 600_500);
        assert_eq!(label.attributes["alert"], format!("d1c2@{}", range.start_unix_ms));
    }

    #[test]
    fn our_own_alerts_are_never_labels() {
        let about = [("namespace", "shop"), ("pod", "web-1")];
        for own in [("alertname", "VedetteIncident"), ("source", "vedette")] {
            assert_eq!(labelled(&alert(&[about[0], about[1], own])), Err(Skipped::Ours));
        }
        let linked = Alert { generator_url: "https://v/incidents/12".into(), ..alert(&about) };
        assert_eq!(labelled(&linked), Err(Skipped::Ours));
    }

    #[test]
    fn what_names_no_workload_says_too_much() {
        for labels in [&[("namespace", "shop")][..], &[("node", "n1")], &[("deployment", "web")], &[("namespace", "x"), ("pod", "gone-1")]]
        {
            assert_eq!(labelled(&alert(labels)), Err(Skipped::NoWorkload), "{labels:?}");
        }
        let owner = labelled(&alert(&[("namespace", "x"), ("pod", "gone-1"), ("statefulset", "db")])).unwrap().selector.unwrap();
        assert_eq!((owner.owner_kind.as_str(), owner.owner_name.as_str()), ("StatefulSet", "db"));
    }

    #[test]
    fn a_firing_alert_lasts_until_now_and_a_long_one_its_last_month() {
        let about = [("namespace", "shop"), ("deployment", "web")];
        let firing = Alert { status: "firing".into(), ends_at: "0001-01-01T00:00:00Z".into(), ..alert(&about) };
        let long = Alert { starts_at: "2026-01-01T00:00:00Z".into(), ..firing.clone() };

        let firing = labelled(&firing).unwrap();
        let long = labelled(&long).unwrap().range.unwrap();

        assert_eq!((firing.range.unwrap().end_unix_ms, firing.attributes["status"].as_str()), (NOW, "firing"));
        assert_eq!(long.end_unix_ms - long.start_unix_ms, MAX_RANGE_MS);
    }

    #[test]
    fn times_that_make_no_sense_are_refused_and_controls_removed() {
        let about = [("namespace", "shop"), ("deployment", "web")];
        for time in ["", "yesterday", "2090-01-01T00:00:00Z"] {
            assert_eq!(labelled(&Alert { starts_at: time.into(), ..alert(&about) }), Err(Skipped::Time), "{time}");
        }
        let mut hostile = alert(&about);
        hostile.annotations.insert("summary".into(), "a\u{1b}[2J\nb".into());
        assert_eq!(labelled(&hostile).unwrap().note, "a [2J b");
    }
}
