//! `vedette` with nothing but a kubeconfig: a short token, the CA from the ConfigMap, a port-forward, all against a stand-in.

#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};
use vedette_tests::{
    aggregator::{self, Aggregator},
    apiserver::ApiServer,
    checkout,
};

struct Cluster {
    server: ApiServer,
    aggregator: Aggregator,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
}

/// An aggregator that a port-forward leads to.
async fn cluster() -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let server = ApiServer::start().await.unwrap();
    server.empty_config_map("vedette-agent", "vedette-ca");
    let kubeconfig = server.kubeconfig(folder.path()).unwrap();
    let more = format!(
        "[tls]\nca_config_map = \"vedette-agent/vedette-ca\"\n[kubernetes]\nenabled = true\nkubeconfig = {:?}\n[auth]\ntoken_review = true\n",
        kubeconfig.display().to_string()
    );
    let (grpc, http) = aggregator::configure(folder.path(), &more).unwrap();
    let aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    while server.config_map("vedette-agent", "vedette-ca", "ca.crt").is_none() {
        tokio::task::yield_now().await;
    }
    let labels = json!({"app.kubernetes.io/name": "vedette-aggregator"});
    let metadata = json!({"namespace": "vedette", "name": "vedette-aggregator-0", "uid": "u", "labels": labels});
    server.set("pods", json!({"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}));
    server.forward_to(grpc);
    Cluster { server, aggregator, kubeconfig, folder }
}

/// Exit code, output, errors of `vedette`, which finds nothing of this machine but the kubeconfig.
fn vedette(cluster: &Cluster, arguments: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(checkout::binary("vedette"));
    command.env_clear().env("TZ", "UTC").env("USER", "mira").env("HOME", cluster.folder.path()).env("KUBECONFIG", &cluster.kubeconfig);
    let output = command.args(arguments.split(' ').map(|argument| argument.replace('%', " "))).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const LABEL: &str = "label add --kind mining --since 30m --until 10m -n shop";

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_is_all_that_a_question_takes() {
    let cluster = cluster().await;

    let (code, out, err) = vedette(&cluster, "status -o json");

    assert_eq!(code, Some(0), "{err}\n{}", cluster.aggregator.process.log());
    let status: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(status["cluster"], "test", "{status}");
    let asked = cluster.server.asked();
    let tokens: Vec<_> = asked.iter().filter(|asked| asked.path.ends_with("/token")).map(|asked| asked.path.as_str()).collect();
    assert_eq!(tokens, ["/api/v1/namespaces/vedette/serviceaccounts/vedette-viewer/token"]);
    assert_eq!(asked.iter().filter(|asked| asked.path.ends_with("/pods/vedette-aggregator-0/portforward")).count(), 1);
    assert_eq!(cluster.server.reviewed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_takes_the_operators_token_and_who_may_not_have_it_is_told_what_to_ask_for() {
    let cluster = cluster().await;

    let labelled = vedette(&cluster, LABEL);
    let as_viewer = vedette(&cluster, &format!("{LABEL} --role viewer"));
    cluster.server.forbid_tokens_of("vedette-operator");
    let forbidden = vedette(&cluster, LABEL);
    let listed = vedette(&cluster, "label list -o json");

    assert_eq!(labelled.0, Some(0), "{}", labelled.2);
    assert_eq!(as_viewer.0, Some(5), "{}", as_viewer.2);
    assert!(as_viewer.2.contains("needs the role operator"), "{}", as_viewer.2);
    assert_eq!(forbidden.0, Some(5), "{}", forbidden.2);
    for part in ["serviceaccounts/token", "vedette-operator", "--clusterrole=vedette-operator", "--role viewer"] {
        assert!(forbidden.2.contains(part), "{part}: {}", forbidden.2);
    }
    assert_eq!(forbidden.2.lines().count(), 1, "{}", forbidden.2);
    assert_eq!(listed.1.matches("\"kind\":\"mining\"").count(), 1, "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_in_the_cluster_is_named() {
    let cluster = cluster().await;

    let elsewhere = vedette(&cluster, "status --vedette-namespace other");
    let context = vedette(&cluster, "status --context nowhere");
    cluster
        .server
        .set("pods", json!({"metadata": {"namespace": "vedette", "name": "vedette-aggregator-0"}, "status": {"phase": "Pending"}}));
    let pending = vedette(&cluster, "status");
    cluster.server.set_down(true);
    let down = vedette(&cluster, "status");

    let codes = [&elsewhere, &context, &pending, &down].map(|ran| ran.0);
    assert_eq!(codes, [Some(4), Some(2), Some(4), Some(4)], "{elsewhere:?} {context:?} {pending:?} {down:?}");
    assert!(elsewhere.2.contains("ConfigMap vedette-ca") && elsewhere.2.contains("--vedette-namespace"), "{}", elsewhere.2);
    assert!(context.2.contains("nowhere"), "{}", context.2);
    assert!(pending.2.contains("no pod") && pending.2.contains("namespace vedette"), "{}", pending.2);
    assert!(down.2.contains("API server"), "{}", down.2);
}
