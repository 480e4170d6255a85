//! The services for people and tools, each behind the gate: query, labels, export, the console, reflection.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::transport::server::Router;
use vedette_proto::v1::{
    console_service_server::ConsoleServiceServer, export_service_server::ExportServiceServer, label_service_server::LabelServiceServer,
    model_service_server::ModelServiceServer, policy_service_server::PolicyServiceServer, query_service_server::QueryServiceServer,
};

use crate::{
    Shared,
    auth::{Auth, Gate},
    console::{ConsoleService, Files},
    export::ExportService,
    ingest::Work,
    label::LabelService,
    model::{ModelService, Registry},
    policy::PolicyService,
    query::QueryService,
    serve::StartError,
};

/// Adds them to the server.
///
/// # Errors
/// The descriptors cannot be read: a broken build.
pub(crate) fn add(
    router: Router,
    shared: &Shared,
    auth: &Arc<Auth>,
    work: &mpsc::Sender<Work>,
    models: &Arc<Registry>,
) -> Result<Router, StartError> {
    let query = QueryService::new(shared.clone()).map_err(StartError::Threads)?;
    let console = ConsoleService::new(shared.clone()).map_err(StartError::Threads)?;
    let export = ExportService::new(shared.clone()).map_err(StartError::Threads)?;
    let policy = PolicyService::new(shared.clone()).map_err(StartError::Threads)?;
    let model = ModelServiceServer::new(ModelService::new(shared.clone(), Arc::clone(models))).max_decoding_message_size(20 << 20);
    // 10,000 labels with full selectors are more than the usual 4 MiB.
    let label = LabelServiceServer::new(LabelService::new(shared.clone(), work.clone())).max_decoding_message_size(16 << 20);
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vedette_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(router
        .add_service(Gate::new(auth, QueryServiceServer::new(query)))
        .add_service(Gate::new(auth, label))
        .add_service(Gate::new(auth, model))
        .add_service(Gate::new(auth, PolicyServiceServer::new(policy)))
        .add_service(Gate::new(auth, ExportServiceServer::new(export)))
        .add_service(Gate::new(auth, ConsoleServiceServer::new(console)))
        .add_service(Gate::new(auth, Files))
        .add_service(Gate::new(auth, descriptors().build_v1()?))
        .add_service(Gate::new(auth, descriptors().build_v1alpha()?)))
}
