//! The RPCs of the model service.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vedette_proto::v1::{
    self, AddModelRequest, AddModelResponse, GetModelRequest, GetModelResponse, ListModelChangesRequest, ListModelChangesResponse,
    ListModelsRequest, ListModelsResponse, ModelComparison, PromoteModelRequest, PromoteModelResponse, RemoveModelRequest,
    RemoveModelResponse, RollBackModelRequest, RollBackModelResponse, ShadowModelRequest, ShadowModelResponse,
};

use super::{ModelError, Registry};
use crate::{Shared, auth::caller, label::check};

/// Most conditions of a comparison, and bytes of each.
const MAX_CONDITIONS: usize = 64;
const MAX_CONDITION: usize = 512;
/// Most sessions of a comparison, and bytes of a name in it: a recording's name has 63.
const MAX_SESSIONS: usize = 1_000;
const MAX_NAME: usize = 64;

/// Answers the model service's calls.
#[derive(Clone)]
pub struct ModelService {
    shared: Shared,
    registry: Arc<Registry>,
}

impl ModelService {
    /// Over the aggregator's shared state and its models.
    #[must_use]
    pub fn new(shared: Shared, registry: Arc<Registry>) -> Self {
        Self { shared, registry }
    }

    async fn audit(&self, who: &str, detail: &str) -> Result<(), Status> {
        Ok(self.shared.store.audit(who, "model", detail).await?)
    }
}

/// Nobody writes more than this into the database.
fn checked(given: &ModelComparison) -> Result<(), Status> {
    let ModelComparison { conditions, session_names, kinds, model, against, .. } = given;
    let lists = [
        ("comparison.conditions", conditions.len(), MAX_CONDITIONS, conditions.iter().map(String::len).max(), MAX_CONDITION),
        ("comparison.session_names", session_names.len(), MAX_SESSIONS, session_names.iter().map(String::len).max(), MAX_NAME),
        ("comparison.kinds", kinds.len(), MAX_CONDITIONS, kinds.iter().map(|kind| kind.kind.len()).max(), MAX_NAME),
    ];
    for (field, found, most, longest, most_bytes) in lists {
        if found > most || longest.is_some_and(|longest| longest > most_bytes) {
            return Err(check::invalid(field, format!("at most {most} of {most_bytes} bytes each")));
        }
    }
    if model.len().max(against.len()) > MAX_NAME {
        return Err(check::invalid("comparison", format!("model and against are ids of at most {MAX_NAME} bytes")));
    }
    Ok(())
}

impl From<ModelError> for Status {
    fn from(error: ModelError) -> Self {
        let message = error.to_string();
        match error {
            ModelError::Missing(_) => Self::not_found(message),
            ModelError::File(_) | ModelError::Unfit(_) | ModelError::Ambiguous(_) => Self::invalid_argument(message),
            ModelError::InUse { .. } | ModelError::NotGranted(_) | ModelError::NothingBefore => Self::failed_precondition(message),
            ModelError::Full => Self::resource_exhausted(message),
            ModelError::Store(error) => error.into(),
        }
    }
}

#[tonic::async_trait]
impl v1::model_service_server::ModelService for ModelService {
    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse { models: self.registry.list() }))
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        let request = request.into_inner();
        let model = self.registry.find(&request.id)?;
        let (file, public_key) = match request.with_file {
            true => self.registry.file(&model.id).await?,
            false => Default::default(),
        };
        Ok(Response::new(GetModelResponse { model: Some(model), file, public_key }))
    }

    async fn add_model(&self, request: Request<AddModelRequest>) -> Result<Response<AddModelResponse>, Status> {
        let who = caller(&request);
        let AddModelRequest { file, public_key, note } = request.into_inner();
        check::note(&note)?;
        let (model, known) = self.registry.add(file, public_key, note, &who).await?;
        self.audit(&who, &format!("added {}", model.id)).await?;
        Ok(Response::new(AddModelResponse { model: Some(model), known }))
    }

    async fn remove_model(&self, request: Request<RemoveModelRequest>) -> Result<Response<RemoveModelResponse>, Status> {
        let who = caller(&request);
        let id = request.into_inner().id;
        self.registry.remove(&id, &who).await?;
        self.audit(&who, &format!("removed {id}")).await?;
        Ok(Response::new(RemoveModelResponse {}))
    }

    async fn promote_model(&self, request: Request<PromoteModelRequest>) -> Result<Response<PromoteModelResponse>, Status> {
        let who = caller(&request);
        let PromoteModelRequest { id, comparison, force, reason } = request.into_inner();
        check::note(&reason).map_err(|status| check::invalid("reason", status.message()))?;
        if force && reason.trim().is_empty() {
            return Err(check::invalid("reason", "required with force"));
        }
        comparison.as_ref().map_or(Ok(()), checked)?;
        let model = self.registry.promote(&id, comparison, force.then_some(reason.clone()), &who).await?;
        let how = if force { format!(", forced: {reason}") } else { String::new() };
        self.audit(&who, &format!("promoted {}{how}", model.id)).await?;
        Ok(Response::new(PromoteModelResponse { model: Some(model) }))
    }

    async fn shadow_model(&self, request: Request<ShadowModelRequest>) -> Result<Response<ShadowModelResponse>, Status> {
        let who = caller(&request);
        let model = self.registry.shadow(&request.into_inner().id, &who).await?;
        let id = model.as_ref().map_or("none", |model| &model.id);
        self.audit(&who, &format!("watches: {id}")).await?;
        Ok(Response::new(ShadowModelResponse { model }))
    }

    async fn roll_back_model(&self, request: Request<RollBackModelRequest>) -> Result<Response<RollBackModelResponse>, Status> {
        let who = caller(&request);
        let reason = request.into_inner().reason;
        check::note(&reason).map_err(|status| check::invalid("reason", status.message()))?;
        let model = self.registry.roll_back(reason, &who).await?;
        self.audit(&who, &format!("rolled back to {}", model.id)).await?;
        Ok(Response::new(RollBackModelResponse { model: Some(model) }))
    }

    async fn list_model_changes(&self, request: Request<ListModelChangesRequest>) -> Result<Response<ListModelChangesResponse>, Status> {
        let limit = check::limit("limit", request.into_inner().limit, 100, 10_000)?;
        Ok(Response::new(ListModelChangesResponse { changes: self.shared.store.model_changes(limit).await? }))
    }
}
