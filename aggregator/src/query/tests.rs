//! The query, watch and label services over a real history and store.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tonic::{Code, Request, Status};
use vedette_proto::v1::{
    Answer, AnswerIncidentRequest, ExplainIncidentRequest, IncidentChange, Kind, LabelSource, ListContainersRequest, ListIncidentsRequest,
    ListLabelsRequest, QueryRequest, QueryResponse, RetractLabelRequest, Selector, Severity, TimeRange, WatchIncidentsRequest,
    WatchIncidentsResponse, label_service_server::LabelService as _, query_service_server::QueryService as _, query_value::Value,
};

use super::*;
use crate::{
    ingest::Work,
    label::LabelService,
    query::world::{T0, World, container_id, incident, label},
    store::IncidentFilter,
};

async fn ask(world: &World, sql: &str, max_rows: u32) -> Result<Vec<QueryResponse>, Status> {
    let service = QueryService::new(world.shared.clone()).unwrap();
    let stream = service.query(Request::new(QueryRequest { sql: sql.into(), max_rows })).await?.into_inner();
    stream.collect::<Vec<_>>().await.into_iter().collect()
}

fn first_value(parts: &[QueryResponse]) -> Option<Value> {
    parts.iter().flat_map(|part| &part.rows).next().and_then(|row| row.values[0].value.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_reads_every_table_and_says_when_there_is_more() {
    let world = World::new().await;
    world.observe(&["cart", "web"], 5).await;
    world.label(vec![label("cart", (T0, T0 + 5), Kind::Scan, LabelSource::Operator)]).await;
    world.shared.store.save_incident(&incident(1, "cart", T0), "because").await.unwrap();

    for (sql, expected) in [
        ("SELECT count(*) FROM observations", Value::Integer(15)),
        ("SELECT kind FROM labels", Value::Text("scan".into())),
        ("SELECT onset FROM incidents WHERE resolved IS NULL", Value::UnixMs(T0)),
        ("SELECT count(*) FROM answers", Value::Integer(0)),
        ("SELECT count(*) FROM handlings WHERE until IS NULL", Value::Integer(0)),
        ("SELECT count(*) FROM incidents WHERE acknowledged IS NULL AND snoozed_until IS NULL", Value::Integer(1)),
        ("SELECT count(*) FROM containers", Value::Integer(0)),
        ("SELECT count(*) FROM nodes", Value::Integer(0)),
        ("SELECT count(*) FROM gaps", Value::Integer(0)),
        ("SELECT sum(o.cpu_usage_us) FROM observations o JOIN labels l ON o.owner_name = l.owner_name", Value::Integer(2_500_000)),
    ] {
        let parts = ask(&world, sql, 0).await.unwrap_or_else(|status| panic!("{sql}: {status}"));
        assert_eq!(first_value(&parts), Some(expected), "{sql}");
        assert!(!parts[0].columns.is_empty() && parts[1..].iter().all(|part| part.columns.is_empty()));
    }
    let parts = ask(&world, "SELECT * FROM observations", 7).await.unwrap();
    assert_eq!(parts.iter().map(|part| part.rows.len()).sum::<usize>(), 7);
    assert!(parts.last().unwrap().truncated);
    assert!(!ask(&world, "SELECT * FROM observations", 15).await.unwrap().last().unwrap().truncated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_writes_or_reads_files_or_makes_no_sense_is_refused() {
    let world = World::new().await;
    world.observe(&["cart"], 2).await;
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("stolen.csv");
    let target = target.display();
    let long = format!("SELECT {}", " ".repeat(70_000) + "1");
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let cases = [
        String::new(),
        "   ".into(),
        "SELEC 1".into(),
        "SELECT nothing FROM observations".into(),
        "SELECT 1; SELECT 2".into(),
        format!("SELECT 1{}", "+1".repeat(10_000)),
        "SELECT * FROM '/etc/passwd'".into(),
        "SELECT * FROM read_csv('/etc/passwd')".into(),
        "DROP TABLE observations".into(),
        "DELETE FROM observations".into(),
        "INSERT INTO labels SELECT * FROM labels".into(),
        "CREATE TABLE t AS SELECT 1".into(),
        "CREATE VIEW v AS SELECT 1".into(),
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".into(),
        format!("COPY observations TO '{target}'"),
        format!("EXPLAIN ANALYZE COPY observations TO '{target}'"),
        "SET datafusion.execution.batch_size = 1".into(),
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t".into(),
        "SELECT repeat('x', 1000000000)".into(),
        "SELECT count(*) FROM generate_series(1, 100000000000)".into(),
        "SELECT 1 / 0".into(),
        long,
        deep,
    ];
    for sql in cases {
        let status = ask(&world, &sql, 0).await.expect_err(&sql[..sql.len().min(80)]);

        assert_eq!(status.code(), Code::InvalidArgument, "{status} of {}", &sql[..sql.len().min(80)]);
        assert!(!status.message().is_empty() && status.message().len() < 5_000);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(ask(&world, "SELECT 1", 1_000_001).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(first_value(&ask(&world, "SELECT count(*) FROM observations", 0).await.unwrap()), Some(Value::Integer(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_would_run_for_ever_is_stopped() {
    let world = World::new().await;
    world.observe(&["a", "b", "c", "d", "e"], 60).await;
    let endless = "SELECT count(*) FROM observations a, observations b, observations c, observations d WHERE a.score + b.score > c.score + d.score + 9";
    let (parts, mut answer) = tokio::sync::mpsc::channel(4);
    let session = session(&world.shared).unwrap();
    let started = Instant::now();

    tokio::spawn(sql::answer(session, endless.into(), 10, Duration::from_millis(300), parts));
    let mut last = None;
    while let Some(part) = answer.recv().await {
        last = Some(part);
    }

    let status = last.unwrap().unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::ResourceExhausted), "{status}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_has_the_series_of_its_evidence_and_what_people_said() {
    let world = World::new().await;
    world.observe(&["cart", "web"], 30).await;
    world.shared.store.save_incident(&incident(1, "cart", T0 + 10_000), "the signature of mining").await.unwrap();
    world.shared.store.save_incident(&incident(2, "web", T0 + 20_000), "").await.unwrap();
    world.label(vec![label("cart", (T0, T0 + 60_000), Kind::Mining, LabelSource::Simulation)]).await;
    world.label(vec![label("web", (T0, T0 + 60_000), Kind::Normal, LabelSource::Operator)]).await;
    let service = QueryService::new(world.shared.clone()).unwrap();

    let explained = service.explain_incident(Request::new(ExplainIncidentRequest { incident_id: 1 })).await.unwrap().into_inner();

    assert_eq!(explained.series.len(), 1);
    let series = &explained.series[0];
    assert_eq!((&series.feature[..], &series.unit[..], &series.container_id), ("cpu_cores", "cores", &container_id("cart")));
    assert_eq!((series.unix_ms.len(), series.unix_ms[0], series.values[29]), (30, T0 + 1_000, 0.5));
    assert_eq!(explained.reasoning, "the signature of mining");
    assert_eq!(explained.related.iter().map(|other| other.id).collect::<Vec<_>>(), [2]);
    assert_eq!(explained.labels.iter().map(|label| label.kind()).collect::<Vec<_>>(), [Kind::Mining]);
    for id in [0, 99, u64::MAX] {
        let status = service.explain_incident(Request::new(ExplainIncidentRequest { incident_id: id })).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_labels_the_incident_and_watchers_hear_of_it() {
    let world = World::new().await;
    world.shared.store.save_incident(&incident(1, "cart", T0), "").await.unwrap();
    let (queries, labels) =
        (QueryService::new(world.shared.clone()).unwrap(), LabelService::new(world.shared.clone(), tokio::sync::mpsc::channel(1).0));
    let mut watch = queries.watch_incidents(Request::new(WatchIncidentsRequest::default())).await.unwrap().into_inner();
    let answer =
        |answer: Answer| AnswerIncidentRequest { incident_id: 1, answer: answer.into(), author: "anna".into(), ..Default::default() };

    let attack = labels.answer_incident(Request::new(answer(Answer::Attack))).await.unwrap().into_inner();
    let nothing = labels.answer_incident(Request::new(answer(Answer::NothingThere))).await.unwrap().into_inner();
    let unsure = labels.answer_incident(Request::new(answer(Answer::Unsure))).await.unwrap().into_inner();

    assert!(attack.label_id > 0 && nothing.label_id > attack.label_id && unsure.label_id == 0);
    let listed = labels.list_labels(Request::new(ListLabelsRequest::default())).await.unwrap().into_inner().labels;
    assert_eq!(
        listed.iter().map(|label| (label.kind(), label.source())).collect::<Vec<_>>(),
        [(Kind::Normal, LabelSource::Operator), (Kind::Mining, LabelSource::Operator)]
    );
    assert_eq!(listed[0].selector.as_ref().unwrap().container_id, container_id("cart"));
    assert_eq!(listed[0].range.unwrap(), TimeRange { start_unix_ms: T0, end_unix_ms: T0 + 5_000 });
    let heard: Vec<_> =
        watch.by_ref().take(4).map(|change| change.unwrap()).map(|c| (c.change(), c.incident.unwrap().answer())).collect().await;
    assert_eq!(
        heard,
        [
            (IncidentChange::Current, Answer::Unspecified),
            (IncidentChange::Updated, Answer::Attack),
            (IncidentChange::Updated, Answer::NothingThere),
            (IncidentChange::Updated, Answer::Unsure)
        ]
    );
    assert_eq!(world.shared.store.answers(1).await.unwrap().len(), 3);
    // What the detector saves later does not undo the answer.
    world.shared.store.save_incident(&incident(1, "cart", T0), "").await.unwrap();
    assert_eq!(world.shared.store.incident(1).await.unwrap().unwrap().incident.answer(), Answer::Unsure);
    assert_eq!(world.shared.store.audit_rows(9).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_level_is_recorded_if_the_detector_takes_it_and_else_refused() {
    let world = World::new().await;
    for id in [1, 2] {
        world.shared.store.save_incident(&incident(id, "cart", T0), "").await.unwrap();
    }
    let (work, mut asked) = tokio::sync::mpsc::channel(4);
    let labels = LabelService::new(world.shared.clone(), work);
    let detector = tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(work) = asked.recv().await {
            match work {
                Work::Accept { incident_id: 1, reply } => reply.send(Ok(())).unwrap(),
                Work::Accept { incident_id, reply } => reply.send(Err(vedette_detect::AcceptError::NotOpen(incident_id))).unwrap(),
                Work::Answered(id, answer) => heard.push((id, answer)),
                other => panic!("{other:?}"),
            }
        }
        heard
    });
    let accept = |incident_id| AnswerIncidentRequest {
        incident_id,
        answer: Answer::Accepted.into(),
        author: "anna".into(),
        note: "version 2.4".into(),
        ..Default::default()
    };

    let accepted = labels.answer_incident(Request::new(accept(1))).await.unwrap().into_inner();
    let refused = labels.answer_incident(Request::new(accept(2))).await.unwrap_err();
    drop(labels);

    assert_eq!((accepted.label_id, refused.code()), (0, Code::FailedPrecondition));
    assert_eq!(refused.message(), "no incident 2 is open");
    assert_eq!(detector.await.unwrap(), [(1, Answer::Accepted)]);
    let recorded = world.shared.store.answers(1).await.unwrap();
    assert_eq!((recorded[0].answer(), &recorded[0].author[..], &recorded[0].note[..]), (Answer::Accepted, "anna", "version 2.4"));
    assert!(world.shared.store.answers(2).await.unwrap().is_empty());
    assert!(world.shared.store.audit_rows(9).await.unwrap()[0].detail.contains("accepted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_too_slow_is_told_so_and_goes_on() {
    let world = World::new().await;
    let service = QueryService::new(world.shared.clone()).unwrap();
    let request = WatchIncidentsRequest { changes_only: true, ..WatchIncidentsRequest::default() };
    let watch = service.watch_incidents(Request::new(request)).await.unwrap().into_inner();

    for id in 1..=3_000 {
        let change = WatchIncidentsResponse { change: IncidentChange::Opened.into(), incident: Some(incident(id, "cart", T0)) };
        world.shared.changes.send(change).unwrap();
    }
    let heard: Vec<_> = watch
        .map(|change| change.unwrap())
        .take_while(|c| std::future::ready(c.incident.as_ref().is_none_or(|i| i.id < 3_000)))
        .collect()
        .await;

    assert!(heard.iter().any(|change| change.change() == IncidentChange::Missed));
    assert!(heard.len() < 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_with_the_field() {
    let world = World::new().await;
    let (queries, labels) =
        (QueryService::new(world.shared.clone()).unwrap(), LabelService::new(world.shared.clone(), tokio::sync::mpsc::channel(1).0));
    let mut refused: Vec<(&str, Status)> = Vec::new();
    macro_rules! refuse {
        ($field:literal, $call:expr) => {
            refused.push(($field, $call.await.map(|_| ()).unwrap_err()))
        };
    }
    let bad = Some(Selector { container_id: "abc".into(), ..Selector::default() });
    let backwards = Some(TimeRange { start_unix_ms: 5, end_unix_ms: 4 });

    refuse!("limit", queries.list_containers(Request::new(ListContainersRequest { limit: u32::MAX, ..Default::default() })));
    refuse!("selector", queries.list_containers(Request::new(ListContainersRequest { selector: bad.clone(), ..Default::default() })));
    refuse!("limit", queries.list_incidents(Request::new(ListIncidentsRequest { limit: 10_001, ..Default::default() })));
    refuse!("kind", queries.list_incidents(Request::new(ListIncidentsRequest { kind: 77, ..Default::default() })));
    refuse!("range", queries.list_incidents(Request::new(ListIncidentsRequest { range: backwards, ..Default::default() })));
    refuse!(
        "minimum_severity",
        queries.watch_incidents(Request::new(WatchIncidentsRequest { minimum_severity: -4, ..Default::default() }))
    );
    refuse!("selector", queries.watch_incidents(Request::new(WatchIncidentsRequest { selector: bad, ..Default::default() })));
    refuse!("limit", labels.list_labels(Request::new(ListLabelsRequest { limit: 100_001, ..Default::default() })));
    refuse!("source", labels.list_labels(Request::new(ListLabelsRequest { source: 9, ..Default::default() })));
    refuse!("author", labels.retract_label(Request::new(RetractLabelRequest { id: 1, ..Default::default() })));
    refuse!(
        "answer",
        labels.answer_incident(Request::new(AnswerIncidentRequest { incident_id: 1, author: "a".into(), ..Default::default() }))
    );
    refuse!(
        "kind",
        labels.answer_incident(Request::new(AnswerIncidentRequest { answer: 2, kind: 2, author: "a".into(), ..Default::default() }))
    );

    for (field, status) in refused {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{field}: {status}");
    }
    let retract = |id| labels.retract_label(Request::new(RetractLabelRequest { id, author: "a".into(), note: String::new() }));
    let missing = retract(u64::MAX).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let id = world.label(vec![label("cart", (T0, T0 + 5), Kind::Scan, LabelSource::Operator)]).await[0];
    let retraction = retract(id).await.unwrap().into_inner().id;
    assert_eq!([retract(id).await.unwrap_err().code(), retract(retraction).await.unwrap_err().code()], [Code::FailedPrecondition; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_goes_on_with_is_closed_and_no_id_is_given_twice() {
    let world = World::new().await;
    let store = &world.shared.store;
    store.save_incident(&incident(41, "cart", T0), "").await.unwrap();

    let open = store.open_incidents().await.unwrap();
    store.close_stale_incident(open[0].clone(), T0 + 60_000).await.unwrap();

    let closed = store.incident(41).await.unwrap().unwrap().incident;
    assert_eq!((open.len(), closed.resolved_unix_ms), (1, T0 + 5_000));
    assert_eq!((store.incidents_open().await.unwrap(), store.next_incident_id().await.unwrap()), (0, 42));
    let filter = IncidentFilter { minimum_severity: Severity::Page, ..IncidentFilter::default() };
    assert!(store.incidents(&filter, 9, |_| true).await.unwrap().is_empty());
    assert_eq!(store.protected_ranges().await.unwrap()[0].end_unix_ms, T0 + 5_000 + 600_000);
}
