//! Other tools' alerts, by way of a real Alertmanager, become weak labels; our own never do.

use std::{fs, path::Path};

use serde_json::json;
use vedette_tests::{
    aggregator::{self, Aggregator},
    prerequisite,
    process::get,
};

use crate::{
    ALERTMANAGER, alertmanager,
    attack::{deliver, identity, node},
    post, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn another_tools_alert_becomes_a_weak_label_and_our_own_does_not() {
    if !prerequisite::file(Path::new(ALERTMANAGER), "make prepare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = node(60);
    let more = format!("{}[receive]\nenabled = true\n", identity(folder.path(), &node));
    let (grpc, http) = aggregator::configure(folder.path(), &more).unwrap();
    let aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    deliver(&aggregator, &node, 1..=3, false).await;
    let config = format!(
        "route: {{receiver: vedette, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 4h}}\nreceivers:\n  - name: \
         vedette\n    webhook_configs:\n      - url: 'http://{http}/v1/alerts'\n        send_resolved: true\n        http_config: \
         {{authorization: {{credentials_file: '{}'}}}}\n",
        aggregator.token_file().display()
    );
    let (_alertmanager, address) = alertmanager(folder.path(), &config);
    let alert = |name: &str, source: &str| {
        let labels = json!({"alertname": name, "namespace": "shop", "pod": "web-7", "container": "app", "source": source});
        json!([{"labels": labels, "annotations": {"summary": "a\u{1b}[2Jb"}, "startsAt": "2026-01-01T00:00:00Z"}]).to_string()
    };
    let counted = |outcome: &str| {
        let (_, text) = get(http, "/metrics").unwrap();
        text.contains(&format!("vedette_aggregator_received_alerts_total{{outcome=\"{outcome}\"}} 1\n"))
    };

    let stranger = post(http, "/v1/alerts", None, "{\"alerts\": []}");
    let agent = fs::read_to_string(aggregator.agent_token_file()).unwrap();
    let wrong = post(http, "/v1/alerts", Some(agent.trim()), "{\"alerts\": []}");
    let admin = fs::read_to_string(aggregator.token_file()).unwrap();
    let nonsense = post(http, "/v1/alerts", Some(admin.trim()), "nonsense");
    assert_eq!(post(address, "/api/v2/alerts", None, &alert("KubePodCrashLooping", "mixin")), 200);
    assert_eq!(post(address, "/api/v2/alerts", None, &alert("Other", "vedette")), 200);
    until("both came in", || counted("label") && counted("ours")).await;

    assert_eq!((stranger, wrong, nonsense), (401, 401, 400));
    let columns = "kind, source, owner_name, container_name, note";
    let labels = aggregator.sql(&format!("select {columns} from labels")).await.unwrap();
    assert_eq!(labels, [["crash_loop", "alertmanager", "web", "app", "a [2Jb"].map(serde_json::Value::from).to_vec()]);
}
