//! The RPCs of the console service.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vedette_proto::v1::{
    self, GetCallerRequest, GetCallerResponse, GetSeriesRequest, GetSeriesResponse, ListWorkloadsRequest, ListWorkloadsResponse,
};

use super::{
    series::{self, Asked},
    workloads::{self, Wanted},
};
use crate::{
    Shared,
    auth::Grant,
    clock,
    label::check,
    query::{Questions, checked_selector, session},
    store::IncidentFilter,
};

/// Series that are read at a time; more wait.
const AT_ONCE: usize = 4;
/// Longest text to look for, in bytes: no name is longer.
const MAX_TEXT: usize = 253;

/// Answers the console service's calls.
#[derive(Clone)]
pub struct ConsoleService {
    shared: Shared,
    questions: Arc<Questions>,
}

impl ConsoleService {
    /// Over the aggregator's shared state, with threads of its own for history.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn new(shared: Shared) -> std::io::Result<Self> {
        Ok(Self { shared, questions: Arc::new(Questions::new("picture", AT_ONCE)?) })
    }
}

#[tonic::async_trait]
impl v1::console_service_server::ConsoleService for ConsoleService {
    async fn get_caller(&self, request: Request<GetCallerRequest>) -> Result<Response<GetCallerResponse>, Status> {
        let grant = request.extensions().get::<Grant>().ok_or_else(|| Status::unauthenticated("nobody was admitted"))?;
        Ok(Response::new(GetCallerResponse {
            role: grant.caller.role.word().to_owned(),
            name: grant.caller.name.clone(),
            cluster: self.shared.cluster.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unix_ms: clock::unix_ms(),
        }))
    }

    async fn list_workloads(&self, request: Request<ListWorkloadsRequest>) -> Result<Response<ListWorkloadsResponse>, Status> {
        let request = request.into_inner();
        let selector = checked_selector(request.selector, &self.shared.cluster)?;
        if request.contains.len() > MAX_TEXT {
            return Err(check::invalid("contains", format!("{} bytes, at most {MAX_TEXT} are allowed", request.contains.len())));
        }
        let limit = check::limit("limit", request.limit, 100, 10_000)? as usize;
        let filter = IncidentFilter { open_only: true, cluster: Some(selector.cluster.clone()), ..IncidentFilter::default() };
        let open: Vec<_> =
            self.shared.store.incidents(&filter, usize::MAX, |_| true).await?.into_iter().map(|stored| stored.incident).collect();
        let wanted = Wanted { selector: &selector, contains: &request.contains.to_lowercase(), limit };
        Ok(Response::new(workloads::summarise(&self.shared.fleet, &open, &wanted, clock::unix_ms())))
    }

    async fn get_series(&self, request: Request<GetSeriesRequest>) -> Result<Response<GetSeriesResponse>, Status> {
        let asked = Asked::check(request.into_inner(), &self.shared.cluster)?;
        let session = session(&self.shared)?;
        let slot = self.questions.room().await?;
        let reading = self.questions.spawn(async move {
            let _slot = slot;
            series::read(&session, &asked).await
        });
        reading.await.map_err(|_| Status::internal("the series cannot be read: a fault in the query engine"))?.map(Response::new)
    }
}
