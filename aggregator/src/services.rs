//! The services for people and tools, each behind the admin token: query, labels, export, reflection.

use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::server::Router,
};

use vedette_proto::v1::{
    export_service_server::ExportServiceServer, label_service_server::LabelServiceServer, query_service_server::QueryServiceServer,
};

use crate::{Shared, export::ExportService, label::LabelService, query::QueryService, serve::StartError};

/// Largest request: ten thousand labels with their notes.
const MAX_REQUEST_BYTES: usize = 16 << 20;

/// Adds them to the server. `admin` makes the interceptor that lets only the admin token pass.
///
/// # Errors
/// The descriptors cannot be read: a broken build; no threads for questions.
pub(crate) fn add<I>(router: Router, shared: &Shared, admin: impl Fn() -> I) -> Result<Router, StartError>
where
    I: FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static,
{
    let query = QueryServiceServer::new(QueryService::new(shared.clone()).map_err(StartError::Threads)?);
    let labels = LabelServiceServer::new(LabelService::new(shared.clone())).max_decoding_message_size(MAX_REQUEST_BYTES);
    let export = ExportServiceServer::new(ExportService::new(shared.clone()).map_err(StartError::Threads)?);
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vedette_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(router
        .add_service(InterceptedService::new(query, admin()))
        .add_service(InterceptedService::new(labels, admin()))
        .add_service(InterceptedService::new(export, admin()))
        .add_service(InterceptedService::new(descriptors().build_v1()?, admin()))
        .add_service(InterceptedService::new(descriptors().build_v1alpha()?, admin())))
}
