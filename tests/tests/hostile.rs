//! Hostile messages on every method: each is refused with a reason, and hurts nobody else.

#![allow(clippy::unwrap_used)]

use std::future::Future;

use tonic::{Code, Status};
use vedette_proto::v1::{
    AddLabelsRequest, AnswerIncidentRequest, Batch, Column, ColumnBlock, ContainerAdded, ContainerRemoved, ExplainIncidentRequest,
    ExportRequest, Heartbeat, Hello, Kind, Label, LabelSource, ListContainersRequest, ListIncidentsRequest, ListLabelsRequest, Origin,
    ProcessSeen, QueryRequest, RetractLabelRequest, Selector, StreamRequest, TimeRange, WatchIncidentsRequest,
    export_service_client::ExportServiceClient,
    ingest_service_client::IngestServiceClient,
    label_service_client::LabelServiceClient,
    query_service_client::QueryServiceClient,
    stream_request::Message::{self, Batch as BatchMessage, Heartbeat as HeartbeatMessage, Hello as HelloMessage},
};
use vedette_tests::{
    aggregator::Aggregator,
    feeder::{Feed, Node, now_unix_ms},
};

/// Bytes that terminals, spreadsheets, HTML and SQL each dislike.
const NASTY: &str = "\u{1b}[2J=cmd|' /C calc'!A0<script>alert(1)</script>'; drop table labels; --\u{202e}\u{0}";

/// What a peer did wrong must be said to be its fault, in words; else this says what is amiss.
fn amiss(what: &str, outcome: Result<(), Status>) -> Option<String> {
    let codes = [
        Code::InvalidArgument,
        Code::OutOfRange,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::ResourceExhausted,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::Unauthenticated,
    ];
    match outcome {
        Ok(()) => Some(format!("{what}: accepted")),
        Err(status) if !codes.contains(&status.code()) => Some(format!("{what}: {:?} {}", status.code(), status.message())),
        Err(status) if status.message().len() <= 5 => Some(format!("{what}: no reason in {status:?}")),
        Err(_) => None,
    }
}

/// Sends messages on a stream of their own and gives how it ended.
async fn stream(aggregator: &Aggregator, messages: Vec<Option<Message>>) -> Result<(), Status> {
    let requests: Vec<_> = messages.into_iter().map(|message| StreamRequest { message }).collect();
    let mut client = IngestServiceClient::new(aggregator.channel().await.unwrap());
    let mut answers = client.stream(aggregator.agent_request(tokio_stream::iter(requests)).unwrap()).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

fn hello() -> Hello {
    Node::new("hostile", 2, 60).hello()
}

fn batch(change: impl FnOnce(&mut Batch)) -> Option<Message> {
    let mut batch = Node::new("hostile", 2, 60).batch(1);
    change(&mut batch);
    Some(BatchMessage(batch))
}

fn block(change: impl FnOnce(&mut ColumnBlock)) -> Option<Message> {
    batch(|batch| change(batch.block.as_mut().unwrap()))
}

fn opened(change: impl FnOnce(&mut Hello)) -> Vec<Option<Message>> {
    let mut hello = hello();
    change(&mut hello);
    vec![Some(HelloMessage(hello))]
}

fn after_hello(message: Option<Message>) -> Vec<Option<Message>> {
    vec![Some(HelloMessage(hello())), message]
}

fn added(change: impl FnOnce(&mut ContainerAdded)) -> Vec<Option<Message>> {
    let mut one = ContainerAdded { container_ref: 9, container_id: "9".repeat(64), cgroup: "/x".into(), ..ContainerAdded::default() };
    change(&mut one);
    after_hello(batch(|batch| batch.added.push(one)))
}

#[tokio::test]
async fn every_hostile_stream_is_refused_with_a_reason_and_an_honest_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let honest = Node::new("honest", 4, 120);
    let mut feed = Feed::open(&aggregator, &honest).await.unwrap();
    feed.deliver(&honest, 1..=10).await.unwrap();
    let long = "x".repeat(10_000);

    let streams: Vec<(&str, Vec<Option<Message>>)> = vec![
        ("an empty message", vec![None]),
        ("no hello first", vec![batch(|_| ())]),
        ("a heartbeat first", vec![Some(HeartbeatMessage(Heartbeat::default()))]),
        ("hello twice", after_hello(Some(HelloMessage(hello())))),
        ("an empty message later", after_hello(None)),
        ("no node name", opened(|hello| hello.node.clear())),
        ("an endless node name", opened(|hello| hello.node.clone_from(&long))),
        ("a spool id of 3 bytes", opened(|hello| hello.spool_id = vec![1, 2, 3])),
        ("no origin", opened(|hello| hello.origin = 0)),
        ("an unknown origin", opened(|hello| hello.origin = 77)),
        ("a replay without a name", opened(|hello| hello.origin = Origin::Replay.into())),
        (
            "a replay with an endless name",
            opened(|hello| {
                hello.origin = Origin::Replay.into();
                hello.replay_session.clone_from(&long);
            }),
        ),
        (
            "two containers with one reference",
            opened(|hello| {
                let mut second = hello.containers[0].clone();
                second.container_id = "f".repeat(64);
                hello.containers.push(second);
            }),
        ),
        ("sequence 0", after_hello(batch(|batch| batch.sequence = 0))),
        ("a container nobody announced", after_hello(block(|block| block.container_refs[0] = 4_000_000))),
        ("a container in two rows", after_hello(block(|block| block.container_refs[0] = block.container_refs[1]))),
        ("more rows than values", after_hello(block(|block| block.container_refs.push(0)))),
        ("more values than rows", after_hello(block(|block| block.columns[0].values.push(1)))),
        ("columns out of order", after_hello(block(|block| block.columns.reverse()))),
        ("a column twice", after_hello(block(|block| block.columns.insert(0, block.columns[0].clone())))),
        ("a presence bitmap too long", after_hello(block(|block| block.columns[0].presence = vec![3; 100]))),
        ("presence beyond the rows", after_hello(block(|block| block.columns[0].presence = vec![0xff]))),
        ("a counter beyond any counter", after_hello(block(|block| block.columns[0].values[0] = u64::MAX))),
        (
            "ten thousand columns",
            after_hello(block(|block| {
                block.columns = (1..10_000).map(|id| Column { id, presence: vec![], values: vec![1, 1] }).collect();
            })),
        ),
        ("from before time", after_hello(block(|block| block.unix_ms = i64::MIN))),
        ("a container without id", added(|one| one.container_id.clear())),
        ("a container with an endless id", added(|one| one.container_id.clone_from(&long))),
        ("a container with an endless cgroup", added(|one| one.cgroup = "/x".repeat(100_000))),
        ("the node as a container", added(|one| one.container_ref = 0)),
        (
            "the end of nobody",
            after_hello(batch(|batch| {
                batch.removed.push(ContainerRemoved { container_ref: 4_000_000, unix_ms: now_unix_ms(), pod_remains: false });
            })),
        ),
        (
            "a process of nobody",
            after_hello(batch(|batch| {
                batch.processes.push(ProcessSeen { container_ref: 4_000_000, comm: NASTY.into(), ..ProcessSeen::default() });
            })),
        ),
    ];
    let mut wrong = Vec::new();
    for (what, messages) in streams {
        wrong.extend(amiss(what, stream(&aggregator, messages).await));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    feed.deliver(&honest, 11..=20).await.unwrap();
    let sql = "select count(*) from observations where node = 'honest'";
    assert_eq!(aggregator.number(sql).await.unwrap(), 80);
}

async fn drain<T>(call: impl Future<Output = Result<tonic::Response<tonic::Streaming<T>>, Status>>) -> Result<(), Status> {
    let mut stream = call.await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

async fn done<T>(call: impl Future<Output = Result<T, Status>>) -> Result<(), Status> {
    call.await.map(|_| ())
}

fn label(change: impl FnOnce(&mut Label)) -> AddLabelsRequest {
    let now = now_unix_ms();
    let mut label = Label {
        selector: Some(Selector { namespace: "shop".into(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms: now - 60_000, end_unix_ms: now }),
        kind: Kind::Scan.into(),
        source: LabelSource::Operator.into(),
        author: "test".into(),
        ..Label::default()
    };
    change(&mut label);
    AddLabelsRequest { labels: vec![label] }
}

#[tokio::test]
async fn hostile_questions_and_labels_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let channel = aggregator.channel().await.unwrap();
    let mut labels = LabelServiceClient::new(channel.clone());
    let long = "x".repeat(100_000);
    let mut wrong = Vec::new();

    for (what, request) in [
        ("no labels", AddLabelsRequest::default()),
        ("a label about nothing", label(|label| label.selector = None)),
        ("a label about everything", label(|label| label.selector = Some(Selector::default()))),
        ("a label without time", label(|label| label.range = None)),
        ("a label that ends before it begins", label(|label| label.range = Some(TimeRange { start_unix_ms: 9_000, end_unix_ms: 8_000 }))),
        ("a label of a year", label(|label| label.range.as_mut().unwrap().start_unix_ms -= 365 * 86_400_000)),
        ("a label without kind", label(|label| label.kind = 0)),
        ("a label of an unknown kind", label(|label| label.kind = 99)),
        ("a label without source", label(|label| label.source = 0)),
        ("a label without author", label(|label| label.author.clear())),
        ("an endless author", label(|label| label.author.clone_from(&long))),
        ("an endless note", label(|label| label.note.clone_from(&long))),
        ("a thousand attributes", label(|label| label.attributes = (0..1_000).map(|n| (n.to_string(), NASTY.into())).collect())),
        ("a short container id", label(|label| label.selector.as_mut().unwrap().container_id = "ab".into())),
    ] {
        wrong.extend(amiss(what, done(labels.add_labels(aggregator.request(request).unwrap())).await));
    }
    let many = AddLabelsRequest { labels: vec![label(|_| ()).labels[0].clone(); 10_001] };
    wrong.extend(amiss("too many labels", done(labels.add_labels(aggregator.request(many).unwrap())).await));
    let nobody = RetractLabelRequest { id: 4_000, author: "test".into(), note: String::new() };
    wrong.extend(amiss("retracting nothing", done(labels.retract_label(aggregator.request(nobody).unwrap())).await));
    let about_nothing = AnswerIncidentRequest { incident_id: 4_000, answer: 1, author: "test".into(), ..AnswerIncidentRequest::default() };
    wrong.extend(amiss("answering nothing", done(labels.answer_incident(aggregator.request(about_nothing).unwrap())).await));
    let unsaid = AnswerIncidentRequest { incident_id: 1, author: "test".into(), ..AnswerIncidentRequest::default() };
    wrong.extend(amiss("an answer that says nothing", done(labels.answer_incident(aggregator.request(unsaid).unwrap())).await));
    let unknown = ListLabelsRequest { kind: 99, ..ListLabelsRequest::default() };
    wrong.extend(amiss("labels of an unknown kind", done(labels.list_labels(aggregator.request(unknown).unwrap())).await));

    let mut questions = QueryServiceClient::new(channel.clone());
    for sql in [
        "",
        "drop table observations",
        "insert into observations select * from observations",
        "create external table t stored as csv location '/etc/passwd'",
        "copy (select 1) to '/tmp/vedette-hostile.csv'",
        "select 1; select 2",
        "select * from nowhere",
        "set datafusion.execution.batch_size = 1",
        "select * from observations where",
    ] {
        let request = aggregator.request(QueryRequest { sql: sql.into(), max_rows: 0 }).unwrap();
        wrong.extend(amiss(sql, drain(questions.query(request)).await));
    }
    let greedy = aggregator.request(QueryRequest { sql: "select 1".into(), max_rows: u32::MAX }).unwrap();
    wrong.extend(amiss("four billion rows", drain(questions.query(greedy)).await));
    let nobody = aggregator.request(ExplainIncidentRequest { incident_id: 4_000 }).unwrap();
    wrong.extend(amiss("explaining nothing", done(questions.explain_incident(nobody)).await));
    let short = || Some(Selector { container_id: "a".into(), ..Selector::default() });
    let containers = ListContainersRequest { selector: short(), ..ListContainersRequest::default() };
    wrong.extend(amiss("a short container id", done(questions.list_containers(aggregator.request(containers).unwrap())).await));
    let incidents = ListIncidentsRequest { kind: 99, ..ListIncidentsRequest::default() };
    wrong.extend(amiss("incidents of an unknown kind", done(questions.list_incidents(aggregator.request(incidents).unwrap())).await));
    let watch = WatchIncidentsRequest { minimum_severity: 99, ..WatchIncidentsRequest::default() };
    wrong.extend(amiss("watching an unknown severity", drain(questions.watch_incidents(aggregator.request(watch).unwrap())).await));

    let mut exports = ExportServiceClient::new(channel);
    let format = ExportRequest { format: 99, ..ExportRequest::default() };
    wrong.extend(amiss("an unknown format", drain(exports.export(aggregator.request(format).unwrap())).await));
    let backwards = ExportRequest { range: Some(TimeRange { start_unix_ms: 9_000, end_unix_ms: 8_000 }), ..ExportRequest::default() };
    wrong.extend(amiss("an export that ends before it begins", drain(exports.export(aggregator.request(backwards).unwrap())).await));

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // Nasty text is data, where it has no control characters: stored as it came.
    let text: String = NASTY.chars().filter(|character| !character.is_control()).collect();
    let nasty = label(|label| label.note.clone_from(&text));
    let mut labels_client = labels.clone();
    labels_client.add_labels(aggregator.request(nasty).unwrap()).await.unwrap();
    let listed = labels_client.list_labels(aggregator.request(ListLabelsRequest::default()).unwrap()).await.unwrap().into_inner();
    assert_eq!(listed.labels.iter().map(|label| &label.note).collect::<Vec<_>>(), [&text]);
}

#[tokio::test]
async fn nobody_is_answered_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let channel = aggregator.channel().await.unwrap();

    let no_token = done(QueryServiceClient::new(channel.clone()).list_incidents(ListIncidentsRequest::default())).await;
    let mut wrong = tonic::Request::new(QueryRequest { sql: "select 1".into(), max_rows: 0 });
    wrong.metadata_mut().insert("authorization", "Bearer not-the-token".parse().unwrap());
    let wrong_token = drain(QueryServiceClient::new(channel).query(wrong)).await;

    assert_eq!(no_token.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(wrong_token.unwrap_err().code(), Code::Unauthenticated);
}
