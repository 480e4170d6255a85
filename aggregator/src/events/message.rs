//! An incident in the words of an Event. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use vedette_proto::v1::{Incident, Severity};

/// Longest message, in bytes: what the newer API allows.
const MAX_BYTES: usize = 1_024;
/// Ends a message that was cut.
const CUT: &str = "...";
/// Where the Events of objects without a namespace belong.
const OF_NODES: &str = "default";

/// The object that an Event is about: its first pod that the API server knows, or the node. `uid_of` says a pod's uid by namespace and name.
fn object(incident: &Incident, uid_of: impl Fn(&str, &str) -> Option<String>) -> Option<ObjectReference> {
    let workload = incident.workload.as_ref()?;
    if workload.owner_kind == "Node" {
        // An agent's node by name; kubelets use the name as uid as well.
        let name = Some(workload.owner_name.clone());
        return Some(ObjectReference { kind: Some("Node".into()), uid: name.clone(), name, ..ObjectReference::default() });
    }
    let pod = |name: &String| {
        let uid = uid_of(&workload.namespace, name)?;
        Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(workload.namespace.clone()),
            name: Some(name.clone()),
            uid: Some(uid),
            ..ObjectReference::default()
        })
    };
    incident.pods.iter().find_map(pod)
}

/// The Event of an incident as it stands; `None` where no object of the API server has it.
pub(super) fn event(incident: &Incident, uid_of: impl Fn(&str, &str) -> Option<String>) -> Option<Event> {
    let involved_object = object(incident, uid_of)?;
    let (reason, word) = match incident.severity() {
        Severity::Page => ("VedettePage", "page"),
        _ => ("VedetteTicket", "ticket"),
    };
    let time = Timestamp::from_millisecond(incident.updated_unix_ms).ok().map(Time);
    // The same for the same news, whichever run tells it; the time tells apart the incidents of two databases.
    let name = format!("vedette-{}-{word}-{:x}", incident.id, incident.opened_unix_ms);
    let namespace = involved_object.namespace.clone().unwrap_or_else(|| OF_NODES.to_owned());
    Some(Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object,
        reason: Some(reason.into()),
        message: Some(message(incident)),
        type_: Some("Warning".into()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        source: Some(EventSource { component: Some("vedette-aggregator".into()), host: None }),
        reporting_component: Some("vedette-aggregator".into()),
        ..Event::default()
    })
}

/// One line: effect, container, summary and how to go on, what others wrote escaped.
fn message(incident: &Incident) -> String {
    let container = incident.workload.as_ref().map(|workload| &*workload.container_name).filter(|name| !name.is_empty());
    let place = container.map_or_else(String::new, |container| format!(" in container {container}"));
    let text = plain(&format!("{}{place}: {}", incident.effect, incident.summary));
    let end = format!(" (incident {}: vedette explain {})", incident.id, incident.id);
    let room = MAX_BYTES - end.len();
    if text.len() <= room {
        return text + &end;
    }
    // ASCII throughout, so any byte is a boundary.
    format!("{}{CUT}{end}", &text[..room - CUT.len()])
}

/// The text in printable ASCII: names of processes and pods are the attacker's words, and who shows Events escapes nothing.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' '..='~' => out.push(character),
            other => out.extend(other.escape_default()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use vedette_proto::v1::Workload;

    use super::*;

    fn incident() -> Incident {
        Incident {
            id: 41,
            workload: Some(Workload {
                cluster: "prod".into(),
                namespace: "shop".into(),
                owner_kind: "Deployment".into(),
                owner_name: "web".into(),
                container_name: "main".into(),
            }),
            severity: Severity::Ticket.into(),
            effect: "unexplained CPU (mining?)".into(),
            summary: "0.9 cores, expected 0.1".into(),
            pods: vec!["web-gone".into(), "web-1".into()],
            opened_unix_ms: 0x18b_cfe5_6800,
            updated_unix_ms: 1_700_000_000_000,
            ..Incident::default()
        }
    }

    fn uid(namespace: &str, pod: &str) -> Option<String> {
        (namespace == "shop" && pod == "web-1").then(|| "u-1".to_owned())
    }

    #[test]
    fn it_is_about_the_first_pod_that_is_known() {
        let event = serde_json::to_value(event(&incident(), uid).unwrap()).unwrap();

        assert_eq!(event["metadata"], serde_json::json!({"name": "vedette-41-ticket-18bcfe56800", "namespace": "shop"}));
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u-1"});
        assert_eq!(event["involvedObject"], object);
        assert_eq!((&event["reason"], &event["type"]), (&"VedetteTicket".into(), &"Warning".into()));
        let message = "unexplained CPU (mining?) in container main: 0.9 cores, expected 0.1 (incident 41: vedette explain 41)";
        assert_eq!(event["message"], message);
        assert_eq!(event["lastTimestamp"], "2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_page_has_a_name_of_its_own() {
        let event = event(&Incident { severity: Severity::Page.into(), ..incident() }, uid).unwrap();

        assert_eq!(event.metadata.name.as_deref(), Some("vedette-41-page-18bcfe56800"));
        assert_eq!(event.reason.as_deref(), Some("VedettePage"));
    }

    #[test]
    fn a_node_has_its_events_where_kubelets_put_them() {
        let workload = Workload { owner_kind: "Node".into(), owner_name: "n1".into(), ..Workload::default() };

        let event = event(&Incident { workload: Some(workload), pods: Vec::new(), ..incident() }, |_, _| None).unwrap();

        assert_eq!(event.metadata.namespace.as_deref(), Some("default"));
        assert_eq!((event.involved_object.kind.as_deref(), event.involved_object.name.as_deref()), (Some("Node"), Some("n1")));
    }

    #[test]
    fn what_no_object_has_is_not_told() {
        assert!(event(&incident(), |_, _| None).is_none());
    }

    #[test]
    fn an_attackers_words_are_escaped_and_the_message_is_bounded() {
        let hostile = format!("\u{1b}[2J\u{202e}\n<b>{}", "ä".repeat(4_000));

        let message = message(&Incident { summary: hostile, ..incident() });

        assert!(message.contains("\\u{1b}[2J\\u{202e}\\n<b>\\u{e4}"), "{message}");
        assert!(message.is_ascii() && message.len() == MAX_BYTES, "{}", message.len());
        assert!(message.ends_with("... (incident 41: vedette explain 41)"), "{message}");
    }
}
