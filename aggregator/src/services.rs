//! The services for people and tools, each behind the admin token: query, labels, export, reflection.

use tonic::{Request, Status, service::interceptor::InterceptedService, transport::server::Router};
use vedette_proto::v1::{
    export_service_server::ExportServiceServer, label_service_server::LabelServiceServer, query_service_server::QueryServiceServer,
};

use crate::{Shared, export::ExportService, label::LabelService, query::QueryService, serve::StartError};

/// Adds them to the server. `admin` makes the interceptor that lets only the admin token pass.
///
/// # Errors
/// The descriptors cannot be read: a broken build.
pub(crate) fn add<I>(router: Router, shared: &Shared, admin: impl Fn() -> I) -> Result<Router, StartError>
where
    I: FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static,
{
    let query = QueryService::new(shared.clone()).map_err(StartError::Threads)?;
    let export = ExportService::new(shared.clone()).map_err(StartError::Threads)?;
    // 10,000 labels with full selectors are more than the usual 4 MiB.
    let label = LabelServiceServer::new(LabelService::new(shared.clone())).max_decoding_message_size(16 << 20);
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vedette_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(router
        .add_service(InterceptedService::new(QueryServiceServer::new(query), admin()))
        .add_service(InterceptedService::new(label, admin()))
        .add_service(InterceptedService::new(ExportServiceServer::new(export), admin()))
        .add_service(InterceptedService::new(descriptors().build_v1()?, admin()))
        .add_service(InterceptedService::new(descriptors().build_v1alpha()?, admin())))
}
