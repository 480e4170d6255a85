//! The RPCs of the query service.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::error;
use vedette_proto::v1::{
    self, CrossCheckOutcome, ExplainIncidentRequest, ExplainIncidentResponse, GetStatusRequest, GetStatusResponse, Kind,
    ListContainersRequest, ListContainersResponse, ListCrossChecksRequest, ListCrossChecksResponse, ListIncidentsRequest,
    ListIncidentsResponse, ListNodesRequest, ListNodesResponse, QueryRequest, QueryResponse, Severity, WatchIncidentsRequest,
};

use super::{Questions, about, checked_selector, explain, session, sql, status_of, tables};
use crate::{
    Shared,
    auth::caller,
    label::check,
    store::{IncidentFilter, now_unix_ms},
    watch,
};

/// SQL questions that run at a time; more wait.
const AT_ONCE: usize = 4;
/// Parts of an answer that wait for a slow client.
const PARTS: usize = 4;

/// Answers the query service's calls.
#[derive(Clone)]
pub struct QueryService {
    shared: Shared,
    questions: Arc<Questions>,
    watchers: Arc<Semaphore>,
}

impl QueryService {
    /// Over the aggregator's shared state, with threads of its own for SQL.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn new(shared: Shared) -> std::io::Result<Self> {
        let questions = Arc::new(Questions::new("question", AT_ONCE)?);
        Ok(Self { shared, questions, watchers: Arc::new(Semaphore::new(watch::MAX_WATCHERS)) })
    }
}

#[tonic::async_trait]
impl v1::query_service_server::QueryService for QueryService {
    type WatchIncidentsStream = watch::Changes;
    type QueryStream = ReceiverStream<Result<QueryResponse, Status>>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let shared = &self.shared;
        let (fleet, history) = (shared.fleet.status(), shared.history.stats());
        let mut problems = shared.problems.lines();
        problems.extend(history.problems.into_iter().map(|line| format!("history: {line}")));
        problems.dedup();
        Ok(Response::new(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: shared.cluster.to_string(),
            started_unix_ms: shared.started_unix_ms,
            nodes_connected: fleet.nodes_connected,
            nodes_known: fleet.nodes_known,
            containers_alive: fleet.containers_alive,
            observations_stored: shared.counters.observations.get(),
            duplicate_batches: shared.counters.duplicate_batches.get(),
            refused: shared.counters.refused(),
            incidents_open: shared.store.incidents_open().await?,
            history_bytes: history.bytes,
            history_observations: history.rows,
            history_oldest_unix_ms: history.oldest_unix_ms.unwrap_or(0),
            problems,
        }))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse { nodes: self.shared.fleet.nodes(now_unix_ms()) }))
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Result<Response<ListContainersResponse>, Status> {
        let request = request.into_inner();
        let selector = checked_selector(request.selector, &self.shared.cluster)?;
        let limit = check::limit("limit", request.limit, 1_000, 100_000)?;
        let fleet = &self.shared.fleet;
        let (containers, truncated) = match request.include_told {
            true => fleet.told(&selector, request.include_gone, limit as usize),
            false => fleet.containers(&selector, request.include_gone, limit as usize),
        };
        Ok(Response::new(ListContainersResponse { containers, truncated }))
    }

    async fn list_incidents(&self, request: Request<ListIncidentsRequest>) -> Result<Response<ListIncidentsResponse>, Status> {
        let request = request.into_inner();
        let range = check::open_range("range", request.range.as_ref())?;
        check::known_or_any("kind", Kind::WORDS, request.kind)?;
        check::known_or_any("minimum_severity", Severity::WORDS, request.minimum_severity)?;
        let limit = check::limit("limit", request.limit, 100, 10_000)? as usize;
        let filter = IncidentFilter {
            range,
            kind: request.kind(),
            minimum_severity: request.minimum_severity(),
            open_only: request.open_only,
            cluster: None,
        };
        let selector = checked_selector(request.selector, &self.shared.cluster)?;
        let filter = IncidentFilter { cluster: Some(selector.cluster.clone()), ..filter };
        let stored = self.shared.store.incidents(&filter, limit + 1, |incident| about(&selector, incident)).await?;
        let truncated = stored.len() > limit;
        let incidents = stored.into_iter().take(limit).map(|stored| stored.incident).collect();
        Ok(Response::new(ListIncidentsResponse { incidents, truncated }))
    }

    async fn watch_incidents(&self, request: Request<WatchIncidentsRequest>) -> Result<Response<Self::WatchIncidentsStream>, Status> {
        watch::watch(&self.shared, &self.watchers, request.into_inner()).await.map(Response::new)
    }

    async fn explain_incident(&self, request: Request<ExplainIncidentRequest>) -> Result<Response<ExplainIncidentResponse>, Status> {
        let (shared, id) = (self.shared.clone(), request.into_inner().incident_id);
        let slot = self.questions.room().await?;
        let explained = self.questions.spawn(async move {
            let _slot = slot;
            explain::explain(&shared, id).await
        });
        explained.await.map_err(|_| Status::internal("the explanation failed"))?.map(Response::new)
    }

    async fn list_cross_checks(&self, request: Request<ListCrossChecksRequest>) -> Result<Response<ListCrossChecksResponse>, Status> {
        let request = request.into_inner();
        let selector = checked_selector(request.selector, &self.shared.cluster)?;
        check::known_or_any("outcome", CrossCheckOutcome::WORDS, request.outcome)?;
        let limit = check::limit("limit", request.limit, 1_000, 100_000)? as usize;
        let outcome = CrossCheckOutcome::try_from(request.outcome).unwrap_or_default();
        let (compared, truncated, nodes) = self.shared.fleet.compared(&selector, outcome, limit);
        Ok(Response::new(ListCrossChecksResponse { compared, truncated, nodes }))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        let sql = sql::checked(&request.sql)?.to_owned();
        let max_rows = check::limit("max_rows", request.max_rows, sql::DEFAULT_ROWS, sql::MAX_ROWS)? as usize;
        self.shared.store.audit(&caller, "query", &sql).await?;
        let slot = self.questions.room().await?;
        let session = session(&self.shared)?;
        tables::register(&session, &self.shared).map_err(|error| status_of(&error))?;

        let (parts, receiver) = mpsc::channel(PARTS);
        let failed = parts.clone();
        let question = self.questions.spawn(async move {
            let _slot = slot;
            sql::answer(session, sql, max_rows, sql::TIME_LIMIT, parts).await;
        });
        self.questions.spawn(async move {
            // A panic in the planner must not look like the end of the answer.
            if let Err(panic) = question.await {
                error!(%panic, "a question failed");
                let _ = failed.send(Err(Status::internal("the question could not be answered: a fault in the query engine"))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
