//! The RPCs of the label service.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};
use tracing::warn;
use vedette_proto::v1::{
    self, AddLabelsRequest, AddLabelsResponse, Answer, AnswerIncidentRequest, AnswerIncidentResponse, HandleIncidentRequest,
    HandleIncidentResponse, Incident, IncidentChange, Kind, Label, LabelSource, ListLabelsRequest, ListLabelsResponse, RetractLabelRequest,
    RetractLabelResponse, Selector, TimeRange, WatchIncidentsResponse,
};

use super::{check, handling};
use crate::{
    Shared,
    auth::caller,
    ingest::Work,
    policy,
    store::{LabelFilter, NewAnswer, StoreError, now_unix_ms},
};

/// Most authors of one request that the audit log names.
const MAX_CLAIMED: usize = 8;
/// Most containers of one incident that an answer labels one by one; beyond it the workload is labelled.
const MAX_ANSWERED_CONTAINERS: usize = 64;

/// Answers the label service's calls.
#[derive(Clone)]
pub struct LabelService {
    shared: Shared,
    /// To the detector: what is said of a level changes what it serves.
    work: mpsc::Sender<Work>,
}

impl LabelService {
    /// Over the aggregator's shared state; `work` is the pipeline's.
    #[must_use]
    pub fn new(shared: Shared, work: mpsc::Sender<Work>) -> Self {
        Self { shared, work }
    }

    async fn tell_detector(&self, work: Work) -> Result<(), Status> {
        self.shared.counters.pipeline_queue.inc();
        self.work.send(work).await.map_err(|_| {
            self.shared.counters.pipeline_queue.dec();
            Status::unavailable("the detector has stopped")
        })
    }

    async fn accept_level(&self, incident_id: u64) -> Result<(), Status> {
        let (reply, accepted) = oneshot::channel();
        self.tell_detector(Work::Accept { incident_id, reply }).await?;
        let accepted = accepted.await.map_err(|_| Status::unavailable("the detector has stopped"))?;
        accepted.map_err(|error| Status::failed_precondition(error.to_string()))
    }
}

/// The one place where what the store says becomes a code.
impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Missing { .. } | StoreError::NoSuch { .. } | StoreError::NoAnswer { .. } => Self::not_found(message),
            StoreError::Exists { .. } => Self::already_exists(message),
            StoreError::AlreadyRetracted { .. }
            | StoreError::IsRetraction { .. }
            | StoreError::AlreadyJudged { .. }
            | StoreError::Resolved { .. } => Self::failed_precondition(message),
            StoreError::Full { .. } => Self::resource_exhausted(message),
            StoreError::Sqlite { .. } | StoreError::Read { .. } => {
                warn!(%error, "the store failed");
                Self::unavailable(message)
            }
            StoreError::Corrupt { .. } | StoreError::NotOurs { .. } | StoreError::Version { .. } => {
                warn!(%error, "the store cannot be read");
                Self::data_loss(message)
            }
        }
    }
}

#[tonic::async_trait]
impl v1::label_service_server::LabelService for LabelService {
    async fn add_labels(&self, request: Request<AddLabelsRequest>) -> Result<Response<AddLabelsResponse>, Status> {
        let caller = caller(&request);
        let labels = check::labels(request.into_inner().labels, &self.shared.cluster)?;
        let ids = self.shared.store.add_labels(&labels).await?;
        self.shared.counters.labelled(&labels);
        let span = ids.first().zip(ids.last()).map_or(String::new(), |(first, last)| format!("added labels {first} to {last}"));
        let claimed = claimed(&caller, labels.iter().map(|label| &*label.author));
        self.shared.store.audit(&caller, "label", &format!("{claimed}{span}")).await?;
        Ok(Response::new(AddLabelsResponse { ids }))
    }

    async fn list_labels(&self, request: Request<ListLabelsRequest>) -> Result<Response<ListLabelsResponse>, Status> {
        let request = request.into_inner();
        let range = check::open_range("range", request.range.as_ref())?;
        check::known_or_any("kind", Kind::WORDS, request.kind)?;
        check::known_or_any("source", LabelSource::WORDS, request.source)?;
        let limit = check::limit("limit", request.limit, 1_000, 100_000)? as usize;
        let filter = LabelFilter {
            cluster: None,
            range,
            kind: request.kind(),
            source: request.source(),
            include_retracted: request.include_retracted,
            limit: limit as u64 + 1,
        };
        let mut labels = self.shared.store.labels(&filter).await?;
        let truncated = labels.len() > limit;
        labels.truncate(limit);
        Ok(Response::new(ListLabelsResponse { labels, truncated }))
    }

    async fn retract_label(&self, request: Request<RetractLabelRequest>) -> Result<Response<RetractLabelResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        check::author(&request.author)?;
        check::note(&request.note)?;
        let id = self.shared.store.retract_label(request.id, &request.author, &request.note).await?;
        let claimed = claimed(&caller, [&*request.author]);
        let detail = format!("{claimed}label {} by {id}: {}", request.id, request.note);
        self.shared.store.audit(&caller, "retract", &detail).await?;
        Ok(Response::new(RetractLabelResponse { id }))
    }

    async fn answer_incident(&self, request: Request<AnswerIncidentRequest>) -> Result<Response<AnswerIncidentResponse>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        if !check::known(Answer::WORDS, request.answer) {
            return Err(check::invalid("answer", "required, one of the known answers"));
        }
        check::known_or_any("kind", Kind::WORDS, request.kind)?;
        if request.kind() == Kind::Normal || (request.kind() != Kind::Unspecified && request.answer() != Answer::Attack) {
            return Err(check::invalid("kind", "only with the answer attack, and then not normal"));
        }
        check::author(&request.author)?;
        check::note(&request.note)?;
        let missing = || Status::from(StoreError::Missing { what: "incident", id: request.incident_id });
        let incident = self.shared.store.incident(request.incident_id).await?.ok_or_else(missing)?.incident;

        if request.answer() == Answer::Accepted {
            self.accept_level(request.incident_id).await?;
        }
        let now = now_unix_ms();
        let labels = implied_labels(&incident, &request, now);
        let exception = policy::from_answer(&self.shared, &incident, request.answer(), &request.author, &request.note, now);
        let answer = NewAnswer {
            incident_id: request.incident_id,
            answer: request.answer(),
            kind: request.kind(),
            author: &request.author,
            note: &request.note,
            labels: &labels,
            incident: &incident,
            exception,
        };
        let (id, label_id) = self.shared.store.add_answer(&answer).await?;
        self.shared.counters.labelled(&labels);
        self.shared.policy.reload(now).await?;
        let claimed = claimed(&caller, [&*request.author]);
        let detail = format!("{claimed}incident {}: {} {}", request.incident_id, request.answer().word(), request.kind().word());
        self.shared.store.audit(&caller, "answer", detail.trim_end()).await?;
        // A detector that stops needs no answers any more.
        let _ = self.tell_detector(Work::Answered(request.incident_id, request.answer())).await;
        let incident = Incident { answer: request.answer, ..incident };
        // Without a receiver nobody is watching, which is no failure.
        let _ = self.shared.changes.send(WatchIncidentsResponse { change: IncidentChange::Updated.into(), incident: Some(incident) });
        Ok(Response::new(AnswerIncidentResponse { id, label_id }))
    }

    async fn handle_incident(&self, request: Request<HandleIncidentRequest>) -> Result<Response<HandleIncidentResponse>, Status> {
        let caller = caller(&request);
        let id = handling::handle(&self.shared, &caller, &request.into_inner()).await?;
        Ok(Response::new(HandleIncidentResponse { id }))
    }
}

/// Before the detail of an audit line: in whose name the caller spoke, where that is another's. Quoted, as the names are the caller's words.
pub(super) fn claimed<'a>(caller: &str, authors: impl IntoIterator<Item = &'a str>) -> String {
    let others: BTreeSet<&str> = authors.into_iter().filter(|author| *author != caller).collect();
    if others.is_empty() {
        return String::new();
    }
    let named: Vec<String> = others.iter().take(MAX_CLAIMED).map(|author| format!("{author:?}")).collect();
    let more = others.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("in the name of {}{more}: ", named.join(", "))
}

/// The labels that an answer implies: of the stated (or named) kind for an attack, normal for nothing there; one per container that
/// the incident was seen in, over its time. What is expected or unsure teaches nothing.
fn implied_labels(incident: &Incident, request: &AnswerIncidentRequest, now_unix_ms: i64) -> Vec<Label> {
    let kind = match request.answer() {
        Answer::NothingThere => Kind::Normal,
        Answer::Attack if request.kind() != Kind::Unspecified => request.kind(),
        Answer::Attack if incident.kind() != Kind::Unspecified => incident.kind(),
        Answer::Attack => Kind::Unknown,
        _ => return Vec::new(),
    };
    let end = if incident.resolved_unix_ms > 0 {
        incident.resolved_unix_ms
    } else if incident.origin() == v1::Origin::Live {
        // Still going on; what comes later wants another answer.
        incident.updated_unix_ms.max(now_unix_ms)
    } else {
        incident.updated_unix_ms
    };
    let start = incident.onset_unix_ms.max(1);
    let end = end.clamp(start + 1, start + check::MAX_RANGE_MS);
    let workload = incident.workload.clone().unwrap_or_default();
    let whole = Selector {
        cluster: workload.cluster,
        namespace: workload.namespace,
        owner_kind: workload.owner_kind,
        owner_name: workload.owner_name,
        container_name: workload.container_name,
        ..Selector::default()
    };
    let ids = &incident.container_ids;
    let selectors: Vec<Selector> = if ids.is_empty() || ids.len() > MAX_ANSWERED_CONTAINERS {
        vec![whole]
    } else {
        ids.iter().map(|id| Selector { container_id: id.clone(), ..whole.clone() }).collect()
    };
    let label = |selector| Label {
        selector: Some(selector),
        range: Some(TimeRange { start_unix_ms: start, end_unix_ms: end }),
        kind: kind.into(),
        source: LabelSource::Operator.into(),
        author: request.author.clone(),
        note: request.note.clone(),
        attributes: [("incident".to_owned(), incident.id.to_string())].into(),
        ..Label::default()
    };
    selectors.into_iter().map(label).collect()
}

#[cfg(test)]
mod tests;
