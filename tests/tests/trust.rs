//! Who may do what: every token that is not good enough is refused with a reason, counted, and hurts nobody else.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use serde_json::json;
use tonic::{Code, Status, transport::Channel};
use vedette_proto::v1::{
    AddLabelsRequest, ExportRequest, GetStatusRequest, Hello, Kind, Label, LabelSource, Origin, QueryRequest, Selector, TimeRange,
    WatchIncidentsRequest, export_service_client::ExportServiceClient, label_service_client::LabelServiceClient,
    query_service_client::QueryServiceClient, stream_request,
};
use vedette_tests::{
    aggregator::{self, Aggregator, with_token},
    apiserver::{ApiServer, tokens::Wanted},
    feeder::{Feed, Node, now_unix_ms},
};

const AUDIENCE: &str = "vedette-aggregator";
/// A pod of the agents on each of two nodes, and one that is on none.
const PODS: [(&str, &str, Option<&str>); 3] =
    [("vedette-agent-1", "uid-1", Some("node-1")), ("vedette-agent-2", "uid-2", Some("node-2")), ("vedette-agent-3", "uid-3", None)];

/// An aggregator that asks the stand-in, again after a second.
async fn start(folder: &Path) -> (ApiServer, Aggregator) {
    start_asking(folder, 1).await
}

async fn start_asking(folder: &Path, recheck_seconds: u32) -> (ApiServer, Aggregator) {
    let server = ApiServer::start().await.unwrap();
    for (name, uid, node) in PODS {
        let metadata = json!({"namespace": "vedette-agent", "name": name, "uid": uid});
        server.set("pods", json!({"metadata": metadata, "spec": {"nodeName": node}}));
    }
    let kubeconfig = server.kubeconfig(folder).unwrap();
    server.empty_config_map("vedette-agent", "vedette-ca");
    let more = format!(
        "[tls]\nca_config_map = \"vedette-agent/vedette-ca\"\n[kubernetes]\nenabled = true\nkubeconfig = {:?}\n\
         [auth]\ntoken_review = true\nrecheck_seconds = {recheck_seconds}\nrefused_seconds = 1\n",
        kubeconfig.display().to_string()
    );
    let (grpc, http) = aggregator::configure(folder, &more).unwrap();
    (server, Aggregator::start_configured(folder, grpc, http).unwrap())
}

fn agent(server: &ApiServer, pod: usize) -> String {
    let pod = Some((PODS[pod].0, PODS[pod].1));
    server.issue(&Wanted { namespace: "vedette-agent", account: "vedette-agent", audience: AUDIENCE, seconds: 3_600, pod })
}

fn person(server: &ApiServer, role: &str) -> String {
    let account = format!("vedette-{role}");
    server.issue(&Wanted { namespace: "vedette", account: &account, audience: AUDIENCE, seconds: 3_600, pod: None })
}

async fn refused(channel: &Channel, token: &str, hello: Hello) -> Status {
    let error = Feed::open_as(channel.clone(), token, hello).await.err().expect("it must be refused");
    error.downcast().unwrap()
}

async fn counted(aggregator: &Aggregator, reason: &str) -> u64 {
    let mut client = QueryServiceClient::new(aggregator.channel().await.unwrap());
    let status = client.get_status(aggregator.request(GetStatusRequest {}).unwrap()).await.unwrap().into_inner();
    status.refused.get(reason).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_token_is_refused_with_its_reason_and_an_honest_agent_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (server, aggregator) = start(folder.path()).await;
    let channel = aggregator.channel().await.unwrap();
    let honest = Node::new("node-1", 4, 120);
    let mut feed = Feed::open_as(aggregator.channel().await.unwrap(), &agent(&server, 0), honest.hello()).await.unwrap();
    let wanted = Wanted {
        namespace: "vedette-agent",
        account: "vedette-agent",
        audience: AUDIENCE,
        seconds: 3_600,
        pod: Some(("vedette-agent-2", "uid-2")),
    };
    let revoked = agent(&server, 1);
    server.invalidate(&revoked);
    let (mine, forged) = (Node::new("node-2", 1, 60).hello(), format!("{}x", agent(&server, 1)));
    let gone = Some(("vedette-agent-2", "uid-of-the-pod-before"));
    let cases = [
        ("no token of anybody", "no-token".to_owned(), mine.clone(), Code::Unauthenticated, "unauthenticated"),
        ("forged", forged, mine.clone(), Code::Unauthenticated, "unauthenticated"),
        ("revoked before", revoked, mine.clone(), Code::Unauthenticated, "unauthenticated"),
        ("expired", server.issue(&Wanted { seconds: -1, ..wanted.clone() }), mine.clone(), Code::Unauthenticated, "expired"),
        (
            "another audience",
            server.issue(&Wanted { audience: "vault", ..wanted.clone() }),
            mine.clone(),
            Code::Unauthenticated,
            "audience",
        ),
        (
            "another account",
            server.issue(&Wanted { account: "default", ..wanted.clone() }),
            mine.clone(),
            Code::PermissionDenied,
            "permission_denied",
        ),
        ("another node's", agent(&server, 1), Node::new("node-1", 1, 60).hello(), Code::PermissionDenied, "other_node"),
        ("a pod of before", server.issue(&Wanted { pod: gone, ..wanted.clone() }), mine.clone(), Code::PermissionDenied, "unknown_pod"),
        ("a pod on no node", agent(&server, 2), Node::new("node-3", 1, 60).hello(), Code::PermissionDenied, "unknown_pod"),
        ("bound to no pod", server.issue(&Wanted { pod: None, ..wanted.clone() }), mine.clone(), Code::PermissionDenied, "unknown_pod"),
        ("a viewer delivering", person(&server, "viewer"), mine.clone(), Code::PermissionDenied, "permission_denied"),
        ("an admin delivering", person(&server, "admin"), mine.clone(), Code::PermissionDenied, "permission_denied"),
        (
            "an agent replaying",
            agent(&server, 1),
            Hello { origin: Origin::Replay.into(), replay_session: "again".into(), ..mine.clone() },
            Code::PermissionDenied,
            "permission_denied",
        ),
    ];

    for (place, (what, token, hello, code, reason)) in (1..).zip(cases) {
        let before = counted(&aggregator, reason).await;
        let status = refused(&channel, &token, hello).await;

        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert!(status.message().len() > 10, "{what}: {status:?}");
        assert_eq!(counted(&aggregator, reason).await, before + 1, "{what}");
        feed.deliver(&honest, place * 2 - 1..=place * 2).await.unwrap();
    }

    let no_token = QueryServiceClient::new(channel).get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(no_token.code(), Code::Unauthenticated);
    assert_eq!(aggregator.number("select count(*) from observations where node = 'node-1'").await.unwrap(), 26 * 4);
    assert_eq!(aggregator.number("select count(*) from observations where node <> 'node-1'").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_ends_when_its_token_is_revoked_and_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let (server, aggregator) = start(folder.path()).await;
    let (one, two) = (Node::new("node-1", 2, 60), Node::new("node-2", 2, 60));
    let (token, viewer) = (agent(&server, 0), person(&server, "viewer"));
    let mut revoked = Feed::open_as(aggregator.channel().await.unwrap(), &token, one.hello()).await.unwrap();
    revoked.deliver(&one, 1..=5).await.unwrap();
    let mut other = Feed::open_as(aggregator.channel().await.unwrap(), &agent(&server, 1), two.hello()).await.unwrap();
    let mut client = QueryServiceClient::new(aggregator.channel().await.unwrap());
    let mut watch = client.watch_incidents(with_token(WatchIncidentsRequest::default(), &viewer).unwrap()).await.unwrap().into_inner();

    server.invalidate(&token);
    server.invalidate(&viewer);
    let status = revoked.ended().await.unwrap();
    let watched = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the watch ended without a reason"),
            Err(status) => break status,
        }
    };

    assert_eq!((status.code(), watched.code()), (Code::Unauthenticated, Code::Unauthenticated), "{status:?} {watched:?}");
    assert!(status.message().contains("node-1"), "{status:?}");
    assert_eq!(counted(&aggregator, "revoked").await, 2);
    other.deliver(&two, 1..=20).await.unwrap();
    assert_eq!(aggregator.number("select count(*) from observations").await.unwrap(), 5 * 2 + 20 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_goes_on_with_a_fresh_one_and_nothing_is_stored_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (server, aggregator) = start(folder.path()).await;
    let node = Node::new("node-1", 2, 60);
    let pod = Some(("vedette-agent-1", "uid-1"));
    let short = server.issue(&Wanted { namespace: "vedette-agent", account: "vedette-agent", audience: AUDIENCE, seconds: 4, pod });
    let mut feed = Feed::open_as(aggregator.channel().await.unwrap(), &short, node.hello()).await.unwrap();
    feed.deliver(&node, 1..=7).await.unwrap();

    let status = feed.ended().await.unwrap();
    let mut again = Feed::open_as(aggregator.channel().await.unwrap(), &agent(&server, 0), node.hello()).await.unwrap();
    let welcomed = again.welcomed;
    // What was acknowledged is delivered once more, as a thief of batches would.
    for sequence in 1..=7 {
        again.send(stream_request::Message::Batch(node.batch(sequence))).await.unwrap();
    }
    again.deliver(&node, 8..=9).await.unwrap();

    assert_eq!((status.code(), welcomed), (Code::Unauthenticated, 7), "{status:?}");
    assert!(status.message().contains("expired"), "{status:?}");
    assert_eq!(counted(&aggregator, "expired").await, 1);
    assert_eq!(aggregator.number("select count(*) from observations").await.unwrap(), 9 * 2);
}

fn label() -> AddLabelsRequest {
    let now = now_unix_ms();
    let label = Label {
        selector: Some(Selector { namespace: "shop".into(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms: now - 60_000, end_unix_ms: now }),
        kind: Kind::Scan.into(),
        source: LabelSource::Operator.into(),
        author: "test".into(),
        ..Label::default()
    };
    AddLabelsRequest { labels: vec![label] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_reads_an_operator_labels_and_an_admin_exports() {
    let folder = tempfile::tempdir().unwrap();
    let (server, aggregator) = start(folder.path()).await;
    let channel = aggregator.channel().await.unwrap();
    let (mut query, mut labels) = (QueryServiceClient::new(channel.clone()), LabelServiceClient::new(channel.clone()));
    let mut export = ExportServiceClient::new(channel);
    let mut outcomes = Vec::new();

    for role in ["viewer", "operator", "admin"] {
        let token = person(&server, role);
        let sql = QueryRequest { sql: "select 1".into(), max_rows: 1 };
        let outcome = [
            query.query(with_token(sql, &token).unwrap()).await.err(),
            labels.add_labels(with_token(label(), &token).unwrap()).await.err(),
            export
                .export(with_token(ExportRequest::default(), &token).unwrap())
                .await
                .err()
                .filter(|status| status.code() == Code::PermissionDenied),
        ];
        outcomes.push(outcome);
    }

    let allowed: Vec<_> = outcomes.iter().map(|outcome| outcome.each_ref().map(Option::is_none)).collect();
    assert_eq!(allowed, [[true, false, false], [true, true, false], [true, true, true]], "{outcomes:?}");
    let said = outcomes[0][1].as_ref().unwrap();
    assert_eq!(said.code(), Code::PermissionDenied);
    assert!(said.message().contains("needs the role operator") && said.message().contains("viewer"), "{said:?}");
    assert_eq!(counted(&aggregator, "permission_denied").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_api_server_stops_nobody_who_was_known() {
    let folder = tempfile::tempdir().unwrap();
    let (server, aggregator) = start(folder.path()).await;
    let (one, two) = (Node::new("node-1", 1, 60), Node::new("node-2", 1, 60));
    let (known, unknown) = (agent(&server, 0), agent(&server, 1));
    let mut feed = Feed::open_as(aggregator.channel().await.unwrap(), &known, one.hello()).await.unwrap();
    let channel = aggregator.channel().await.unwrap();

    server.set_down(true);
    let status = refused(&channel, &unknown, two.hello()).await;
    feed.deliver(&one, 1..=10).await.unwrap();
    // The token is reviewed every second: this stream opens by the grace.
    let fresh = Feed::open_as(aggregator.channel().await.unwrap(), &known, Hello { spool_id: vec![7; 16], ..one.hello() }).await;
    server.set_down(false);
    let mut after = Feed::open_as(channel.clone(), &unknown, two.hello()).await;
    while after.is_err() {
        tokio::task::yield_now().await;
        after = Feed::open_as(channel.clone(), &unknown, two.hello()).await;
    }

    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("API server"), "{status:?}");
    assert!(fresh.is_ok() && counted(&aggregator, "unavailable").await > 0);
    feed.deliver(&one, 11..=20).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_floods_is_bounded_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (server, aggregator) = start_asking(folder.path(), 45).await;
    let (honest, wild) = (Node::new("node-1", 4, 600), Node::new("node-2", 4, 600));
    let (token, forged) = (agent(&server, 1), agent(&server, 1));
    let mut feed = Feed::open_as(aggregator.channel().await.unwrap(), &agent(&server, 0), honest.hello()).await.unwrap();
    feed.deliver(&honest, 1..=10).await.unwrap();
    let channel = aggregator.channel().await.unwrap();

    // Streams without end ...
    let mut streams = Vec::new();
    let mut refusals = Vec::new();
    for spool in 0..40u8 {
        let hello = Hello { spool_id: vec![spool; 16], ..wild.hello() };
        match Feed::open_as(channel.clone(), &token, hello).await {
            Ok(stream) => streams.push(stream),
            Err(error) => refusals.push(error.downcast::<Status>().unwrap().code()),
        }
    }
    // ... batches without reading an answer ...
    let flood = tokio::spawn(async move {
        for sequence in 1..=500 {
            for stream in &streams {
                let _ = stream.send(stream_request::Message::Batch(wild.batch(sequence))).await;
            }
        }
    });
    // ... and tokens that are nobody's.
    let reviewed = server.reviewed();
    let mut guesses = QueryServiceClient::new(channel);
    let mut limited = 0;
    for guess in 0..200 {
        let request = with_token(GetStatusRequest {}, &format!("{forged}{guess}")).unwrap();
        limited += u32::from(guesses.get_status(request).await.unwrap_err().code() == Code::ResourceExhausted);
    }
    feed.deliver(&honest, 11..=300).await.unwrap();
    flood.abort();

    assert_eq!(refusals, [Code::ResourceExhausted; 24]);
    assert!(limited >= 150, "{limited} of 200");
    // Those that the address had tries for, and what came back of these meanwhile.
    assert!(server.reviewed() - reviewed < 32 + 30, "{}", server.reviewed() - reviewed);
    assert_eq!(aggregator.number("select count(*) from observations where node = 'node-1'").await.unwrap(), 300 * 4);
    assert!(counted(&aggregator, "limit").await >= 24 + 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_cas_are_published_while_one_follows_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (server, aggregator) = start(folder.path()).await;
    let (grpc, http) = (aggregator.grpc, aggregator.http);
    let published = || server.config_map("vedette-agent", "vedette-ca", "ca.crt");
    while published().is_none() {
        tokio::task::yield_now().await;
    }
    let first = fs::read_to_string(aggregator.ca_file()).unwrap();
    assert_eq!(published().as_ref(), Some(&first));

    let binary = vedette_tests::checkout::binary("vedette-aggregator");
    let asked =
        std::process::Command::new(binary).arg("--config").arg(folder.path().join("aggregator.toml")).arg("--rotate-ca").output().unwrap();
    drop(aggregator);
    let aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    while published().as_ref() == Some(&first) {
        tokio::task::yield_now().await;
    }
    let both = published().unwrap();

    assert!(asked.status.success(), "{asked:?}");
    assert!(both.starts_with(&first) && both.matches("BEGIN CERTIFICATE").count() == 2, "{both}");
    assert!(!both.contains("KEY"), "{both}");
    // Who has not read the new file yet is served as before.
    fs::write(aggregator.ca_file(), &first).unwrap();
    aggregator.channel().await.unwrap();
}
