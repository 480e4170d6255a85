//! The contract's services over the state of the tests.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, stream};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};
use vedette_proto::v1::export_service_server::ExportService;
use vedette_proto::v1::label_service_server::LabelService;
use vedette_proto::v1::query_service_server::QueryService;
use vedette_proto::v1::query_value::Value;
use vedette_proto::v1::*;

use super::{HOSTILE, State, TOKEN, answers};

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub struct Services(pub Arc<Mutex<State>>);

/// Refuses whoever does not show the token.
pub fn check(request: Request<()>) -> Result<Request<()>, Status> {
    let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    if shown == Some(&format!("Bearer {TOKEN}")) { Ok(request) } else { Err(Status::unauthenticated("unknown token")) }
}

#[tonic::async_trait]
impl QueryService for Services {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(answers::status()))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse { nodes: answers::nodes() }))
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Result<Response<ListContainersResponse>, Status> {
        let namespace = request.into_inner().selector.unwrap_or_default().namespace;
        let matches = namespace.is_empty() || namespace == "shop";
        Ok(Response::new(ListContainersResponse { containers: matches.then(answers::container).into_iter().collect(), truncated: false }))
    }

    async fn list_incidents(&self, request: Request<ListIncidentsRequest>) -> Result<Response<ListIncidentsResponse>, Status> {
        let asked = request.into_inner();
        let mut incidents = self.0.lock().unwrap().incidents.clone();
        incidents.retain(|incident| asked.kind() == Kind::Unspecified || incident.kind() == asked.kind());
        incidents.retain(|incident| incident.severity >= asked.minimum_severity);
        incidents.retain(|incident| !asked.open_only || incident.resolved_unix_ms == 0);
        Ok(Response::new(ListIncidentsResponse { incidents, truncated: false }))
    }

    type WatchIncidentsStream = Parts<WatchIncidentsResponse>;

    async fn watch_incidents(&self, _: Request<WatchIncidentsRequest>) -> Result<Response<Self::WatchIncidentsStream>, Status> {
        let state = self.0.lock().unwrap();
        let changes = BroadcastStream::new(state.changes.subscribe()).map(|change| change.map_err(|_| Status::data_loss("lagged")));
        let open = state.incidents.iter().filter(|incident| incident.resolved_unix_ms == 0).cloned();
        let open = open.map(|incident| Ok(WatchIncidentsResponse { change: IncidentChange::Current.into(), incident: Some(incident) }));
        Ok(Response::new(Box::pin(stream::iter(open.collect::<Vec<_>>()).chain(changes))))
    }

    async fn explain_incident(&self, request: Request<ExplainIncidentRequest>) -> Result<Response<ExplainIncidentResponse>, Status> {
        let id = request.into_inner().incident_id;
        let found = self.0.lock().unwrap().incidents.iter().find(|incident| incident.id == id).cloned();
        let incident = found.ok_or_else(|| Status::not_found(format!("no incident {id}")))?;
        Ok(Response::new(answers::explained(incident)))
    }

    async fn list_cross_checks(&self, _: Request<ListCrossChecksRequest>) -> Result<Response<ListCrossChecksResponse>, Status> {
        Ok(Response::new(ListCrossChecksResponse::default()))
    }

    type QueryStream = Parts<QueryResponse>;

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let asked = request.into_inner();
        if !asked.sql.starts_with("select") {
            return Err(Status::invalid_argument(format!("not a SELECT:\n{}", asked.sql)));
        }
        let column = |name: &str, data_type: &str| QueryColumn { name: name.into(), data_type: data_type.into() };
        let columns = vec![column("comm", "Utf8"), column("n", "Int64"), column("time", "Timestamp"), column("score", "Float64")];
        let row = |values: [Option<Value>; 4]| QueryRow { values: values.map(|value| QueryValue { value }).into() };
        let rows = [
            row([Some(Value::Text(HOSTILE.into())), Some(Value::Integer(-7)), Some(Value::UnixMs(answers::T0)), Some(Value::Number(0.5))]),
            row([Some(Value::Text("=1+1".into())), None, None, Some(Value::Number(f64::NAN))]),
        ];
        let all = asked.max_rows as usize >= rows.len();
        let kept: Vec<_> = rows.into_iter().take(asked.max_rows as usize).collect();
        let parts = [
            QueryResponse { columns, rows: Vec::new(), truncated: false },
            QueryResponse { columns: Vec::new(), rows: kept, truncated: !all },
        ];
        Ok(Response::new(Box::pin(stream::iter(parts.map(Ok)))))
    }
}

#[tonic::async_trait]
impl LabelService for Services {
    async fn add_labels(&self, request: Request<AddLabelsRequest>) -> Result<Response<AddLabelsResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        let mut ids = Vec::new();
        for mut label in request.into_inner().labels {
            label.id = state.labels.len() as u64 + 1;
            ids.push(label.id);
            state.labels.push(label);
        }
        Ok(Response::new(AddLabelsResponse { ids }))
    }

    async fn list_labels(&self, request: Request<ListLabelsRequest>) -> Result<Response<ListLabelsResponse>, Status> {
        let with_retracted = request.into_inner().include_retracted;
        let mut labels = self.0.lock().unwrap().labels.clone();
        labels.retain(|label| with_retracted || label.retracted_by == 0);
        Ok(Response::new(ListLabelsResponse { labels, truncated: false }))
    }

    async fn retract_label(&self, request: Request<RetractLabelRequest>) -> Result<Response<RetractLabelResponse>, Status> {
        let id = request.into_inner().id;
        let mut state = self.0.lock().unwrap();
        let label = state.labels.iter_mut().find(|label| label.id == id).ok_or_else(|| Status::not_found(format!("no label {id}")))?;
        label.retracted_by = 99;
        Ok(Response::new(RetractLabelResponse { id: 99 }))
    }

    async fn answer_incident(&self, request: Request<AnswerIncidentRequest>) -> Result<Response<AnswerIncidentResponse>, Status> {
        let asked = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let incident = state.incidents.iter_mut().find(|incident| incident.id == asked.incident_id);
        incident.ok_or_else(|| Status::not_found("no such incident"))?.answer = asked.answer;
        Ok(Response::new(AnswerIncidentResponse { id: 5, label_id: if asked.answer() == Answer::Attack { 6 } else { 0 } }))
    }

    async fn handle_incident(&self, request: Request<HandleIncidentRequest>) -> Result<Response<HandleIncidentResponse>, Status> {
        let asked = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let incident = state.incidents.iter_mut().find(|incident| incident.id == asked.incident_id);
        let incident = incident.ok_or_else(|| Status::not_found("no such incident"))?;
        match asked.handling() {
            Handling::Acknowledged => (incident.acknowledged_by, incident.acknowledged_unix_ms) = (asked.author, 1_800_000_000_000),
            Handling::Snoozed => (incident.snoozed_by, incident.snoozed_until_unix_ms) = (asked.author, asked.until_unix_ms),
            _ => {}
        }
        Ok(Response::new(HandleIncidentResponse { id: 7 }))
    }
}

#[tonic::async_trait]
impl ExportService for Services {
    type ExportStream = Parts<ExportResponse>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let rows: u64 = if request.get_ref().kinds.is_empty() { 2 } else { 0 };
        let part = |data: &[u8], rows: u64| Ok(ExportResponse { data: data.to_vec(), rows, total_rows: rows });
        let mut parts = vec![part(b"timestamp,label\r\n", 0)];
        if rows > 0 {
            parts.push(part(b"1,normal\r\n2,anomaly\r\n", rows));
        }
        if !self.0.lock().unwrap().export_breaks {
            parts.push(part(b"", rows));
        }
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }
}
