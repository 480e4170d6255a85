//! Events against an API server that is a list of answers.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Mutex,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tonic::codegen::{Service, http};
use vedette_proto::v1::{Origin, Severity};

use super::*;
use crate::kubernetes::{Limits, Watched};

/// Answers each request with the next status code, the last one for ever; remembers what was created.
#[derive(Clone)]
struct Server {
    codes: Arc<Mutex<VecDeque<u16>>>,
    created: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    fn new(codes: &[u16]) -> Self {
        Self { codes: Arc::new(Mutex::new(codes.iter().copied().collect())), created: Arc::default() }
    }

    fn created(&self) -> Vec<(String, Value)> {
        self.created.lock().unwrap().clone()
    }
}

impl Service<http::Request<kube::client::Body>> for Server {
    type Response = http::Response<kube::client::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let path = format!("{} {}", request.method(), request.uri().path());
            let body: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
            let code = {
                let mut codes = server.codes.lock().unwrap();
                let next = codes.front().copied().unwrap();
                if codes.len() > 1 {
                    codes.pop_front();
                }
                next
            };
            server.created.lock().unwrap().push((path, body.clone()));
            let answer = match code {
                201 => body,
                code => json!({"kind": "Status", "status": "Failure", "message": "no room", "reason": "x", "code": code}),
            };
            let body = kube::client::Body::from(serde_json::to_vec(&answer).unwrap());
            Ok(http::Response::builder().status(code).header("content-type", "application/json").body(body).unwrap())
        })
    }
}

fn incident(id: u64, severity: Severity) -> v1::Incident {
    v1::Incident {
        id,
        workload: Some(v1::Workload {
            cluster: "own".into(),
            namespace: "shop".into(),
            owner_kind: "Deployment".into(),
            owner_name: "web".into(),
            container_name: "main".into(),
        }),
        severity: severity.into(),
        effect: "unexplained CPU (mining?)".into(),
        pods: vec!["web-1".into()],
        origin: Origin::Live.into(),
        ..v1::Incident::default()
    }
}

fn events(server: &Server) -> Events {
    let kubernetes = Kubernetes::new("own".into(), Limits { max_pods: 10, max_names: 100 });
    Watched::ALL.into_iter().for_each(|what| kubernetes.lists(what));
    kubernetes.tell(json!({"metadata": {"namespace": "shop", "name": "web-1", "uid": "u-1"}, "spec": {"nodeName": "n"}}), 0);
    Watched::ALL.into_iter().for_each(|what| kubernetes.listed(what, 0));
    Events {
        client: Client::new(server.clone(), "default"),
        kubernetes: Arc::new(kubernetes),
        counters: Arc::default(),
        problems: Arc::default(),
        told: Told::default(),
        budget: Budget::default(),
        dropped: 0,
    }
}

fn counted(events: &Events) -> [u64; 5] {
    Outcome::ALL.map(|outcome| events.counters.events_count(outcome))
}

#[tokio::test(start_paused = true)]
async fn one_event_opens_and_another_says_that_it_pages() {
    let server = Server::new(&[201]);
    let mut events = events(&server);

    for severity in [Severity::Note, Severity::Ticket, Severity::Ticket, Severity::Page, Severity::Page] {
        events.take(&incident(7, severity)).await;
    }

    let created = server.created();
    let seen: Vec<_> = created
        .iter()
        .map(|(path, event)| (&**path, event["reason"].as_str().unwrap(), event["involvedObject"]["uid"].as_str().unwrap()))
        .collect();
    let path = "POST /api/v1/namespaces/shop/events";
    assert_eq!(seen, [(path, "VedetteTicket", "u-1"), (path, "VedettePage", "u-1")]);
    assert_eq!(counted(&events), [2, 0, 0, 0, 0]);
    assert_eq!(events.problems.lines(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_an_earlier_run_told_is_told() {
    let server = Server::new(&[503, 429, 201, 409]);
    let mut events = events(&server);

    events.take(&incident(7, Severity::Ticket)).await;
    events.take(&incident(8, Severity::Ticket)).await;

    assert_eq!(server.created().len(), 4);
    assert_eq!(counted(&events), [2, 0, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_counted_and_told_until_one_succeeds() {
    let server = Server::new(&[403, 201]);
    let mut events = events(&server);

    events.take(&incident(7, Severity::Ticket)).await;
    let told = events.problems.lines();
    events.take(&incident(8, Severity::Ticket)).await;

    assert_eq!(server.created().len(), 2, "a refusal is not tried again");
    assert_eq!(told, ["Events: incident 7 is not told: events: no room"]);
    assert_eq!((events.problems.lines(), counted(&events)), (Vec::new(), [1, 1, 0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_incidents_is_a_burst_of_events_and_a_count() {
    let server = Server::new(&[201]);
    let mut events = events(&server);

    for id in 1..=50 {
        events.take(&incident(id, Severity::Ticket)).await;
    }

    assert_eq!((server.created().len(), counted(&events)), (20, [20, 0, 30, 0, 0]));
    assert_eq!(events.problems.lines(), ["Events: 30 changes of incidents not told since the start: too many at once"]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_tickets_keeps_no_page_from_being_told() {
    let server = Server::new(&[201]);
    let mut events = events(&server);
    for id in 1..=50 {
        events.take(&incident(id, Severity::Ticket)).await;
    }

    events.take(&incident(7, Severity::Page)).await;

    assert_eq!(server.created().last().unwrap().1["reason"], "VedettePage");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_found_no_room_is_told_when_there_is_some() {
    let server = Server::new(&[201]);
    let mut events = events(&server);
    for id in 1..=30 {
        events.take(&incident(id, Severity::Page)).await;
    }
    let at_once = server.created().len();

    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..3 {
        events.take(&incident(30, Severity::Page)).await;
    }

    assert_eq!((at_once, server.created().len(), counted(&events)), (25, 26, [26, 0, 5, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn whoever_changes_more_than_is_kept_is_counted_and_what_has_no_object_is_not_created() {
    let server = Server::new(&[201]);
    let events = events(&server);
    let counters = Arc::clone(&events.counters);
    let changes = broadcast::Sender::new(2);
    let receiver = changes.subscribe();
    let elsewhere = v1::Incident { pods: vec!["unknown".into()], ..incident(6, Severity::Ticket) };
    let other = v1::Workload { cluster: "replay".into(), ..incident(5, Severity::Ticket).workload.unwrap() };
    let replayed = v1::Incident { workload: Some(other), ..incident(5, Severity::Ticket) };
    for incident in [incident(1, Severity::Ticket), incident(2, Severity::Ticket), replayed, elsewhere] {
        changes.send(v1::WatchIncidentsResponse { incident: Some(incident), ..v1::WatchIncidentsResponse::default() }).unwrap();
    }
    drop(changes);

    events.run(receiver, watch::channel(false).1).await;

    assert_eq!(Outcome::ALL.map(|outcome| counters.events_count(outcome)), [0, 0, 0, 2, 1]);
    assert_eq!(server.created(), []);
}
