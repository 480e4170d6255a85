//! One attack on fifty replicas: one notification, none for a restart, one for its end.

use std::{fs, path::Path};

use serde_json::Value;
use vedette_tests::{
    agent::value,
    aggregator::{self, Aggregator},
    prerequisite, process,
};

use crate::{
    ALERTMANAGER, alertmanager,
    attack::{deliver, identity, node},
    inbox::Inbox,
    until,
};

fn config(inbox: &Inbox) -> String {
    let to = inbox.address;
    format!(
        "route:\n  receiver: incidents\n  group_by: [alertname, cluster, namespace, owner_kind, owner]\n  group_wait: 1s\n  group_interval: 1s\n  \
         repeat_interval: 4h\n  routes:\n    - matchers: ['alertname=\"VedetteAlive\"']\n      receiver: alive\nreceivers:\n  - name: \
         incidents\n    webhook_configs: [{{url: 'http://{to}/incidents', send_resolved: true}}]\n  - name: alive\n    webhook_configs: [{{url: \
         'http://{to}/alive'}}]\n"
    )
}

/// Calls that a receiver accepted since the aggregator started.
fn sent(aggregator: &Aggregator, receiver: &str) -> f64 {
    let (_, text) = process::get(aggregator.http, "/metrics").unwrap();
    let lines: String =
        text.lines().filter(|line| line.contains(&format!("receiver=\"{receiver}\""))).map(|line| format!("{line}\n")).collect();
    value(&lines, "vedette_aggregator_notifications_sent_total").unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attack_on_fifty_replicas_is_one_notification_whatever_restarts() {
    if !prerequisite::file(Path::new(ALERTMANAGER), "make prepare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inbox = Inbox::start().await;
    let (_alertmanager, address) = alertmanager(folder.path(), &config(&inbox));
    let node = node(50);
    fs::write(folder.path().join("secret"), "sixteen bytes or more\n").unwrap();
    let dead = process::free_port().unwrap();
    let more = format!(
        "{}[notify]\nresend_seconds = 1\nalive_seconds = 1\nlink = \"https://vedette.example/incidents/{{id}}\"\n[[notify.receivers]]\nname = \
         \"am\"\nkind = \"alertmanager\"\nurls = [\"http://{address}\"]\n[[notify.receivers]]\nname = \"away\"\nkind = \"alertmanager\"\nurls = \
         [\"http://127.0.0.1:{dead}\"]\n[[notify.receivers]]\nname = \"hook\"\nkind = \"webhook\"\nurls = [\"http://{}/hook\"]\nsecret_file = {:?}\n",
        identity(folder.path(), &node),
        inbox.address,
        folder.path().join("secret").display().to_string(),
    );
    let (grpc, http) = aggregator::configure(folder.path(), &more).unwrap();
    let mut aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();

    deliver(&aggregator, &node, 1..=1, true).await;
    until("a person is told", || !inbox.calls("/incidents", "firing").is_empty() && !inbox.calls("/hook", "firing").is_empty()).await;
    let starts = started(address);
    aggregator.process.kill().unwrap();
    aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    deliver(&aggregator, &node, 2..=3, false).await;
    until("it fires again after the restart", || sent(&aggregator, "am") >= 4.0 && sent(&aggregator, "hook") >= 2.0).await;
    let (firing, over) = (inbox.calls("/incidents", "firing"), inbox.calls("/incidents", "resolved"));
    let (restarted, readiness) = (started(address), process::get(http, "/readyz").unwrap());
    deliver(&aggregator, &node, 4..=45, false).await;
    until("its end is told", || !inbox.calls("/incidents", "resolved").is_empty() && !inbox.calls("/hook", "resolved").is_empty()).await;
    let until_now = sent(&aggregator, "am");
    until("what resolved is sent again", || sent(&aggregator, "am") >= until_now + 4.0).await;

    assert_eq!((firing.len(), over.len()), (1, 0), "{firing:#?}");
    let alerts = firing[0].body["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    let labels = &alerts[0]["labels"];
    assert_eq!(
        (labels["namespace"].as_str(), labels["owner"].as_str(), labels["severity"].as_str()),
        (Some("shop"), Some("web"), Some("ticket"))
    );
    assert_eq!(alerts[0]["generatorURL"], "https://vedette.example/incidents/1");
    assert_eq!(alerts[0]["annotations"]["explain"], "vedette explain 1");
    assert_eq!((starts.len(), &starts), (1, &restarted), "the same alert, since the same time");
    assert_eq!(inbox.calls("/incidents", "firing").len(), 1);
    assert_eq!(inbox.calls("/incidents", "resolved").len(), 1);
    assert!(!inbox.calls("/alive", "firing").is_empty());
    let hooked = inbox.calls("/hook", "firing");
    assert_eq!((hooked.len(), inbox.calls("/hook", "resolved").len()), (1, 1), "{hooked:#?}");
    assert_eq!(hooked[0].id, "test-1-ticket-0");
    assert!(hooked[0].signature.starts_with("t=") && hooked[0].signature.contains(",v1="), "{}", hooked[0].signature);
    assert!(!inbox.calls("/hook", "alive").is_empty());
    assert!(readiness.0 == 200 && readiness.1.contains("notifications: away: cannot reach"), "{readiness:?}");
}

/// When the alerts about incidents started, as Alertmanager has it.
fn started(address: std::net::SocketAddr) -> Vec<String> {
    let (_, text) = process::get(address, "/api/v2/alerts").unwrap();
    // The answer may come in chunks.
    let text = &text[text.find('[').unwrap()..=text.rfind(']').unwrap()];
    let alerts: Vec<Value> = serde_json::from_str(&text.replace("\r\n", "")).unwrap_or_default();
    let ours = alerts.iter().filter(|alert| alert["labels"]["alertname"] == "VedetteIncident");
    ours.map(|alert| alert["startsAt"].as_str().unwrap().to_owned()).collect()
}
