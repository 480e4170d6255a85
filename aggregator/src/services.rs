//! The services for people and tools, each behind the admin token: query, labels, export, reflection.

use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::server::Router,
};

use crate::{Shared, serve::StartError};

/// Adds them to the server. `admin` makes the interceptor that lets only the admin token pass.
///
/// # Errors
/// The descriptors cannot be read: a broken build.
pub(crate) fn add<I>(router: Router, shared: &Shared, admin: impl Fn() -> I) -> Result<Router, StartError>
where
    I: FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static,
{
    let _ = shared;
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vedette_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(router
        .add_service(InterceptedService::new(descriptors().build_v1()?, admin()))
        .add_service(InterceptedService::new(descriptors().build_v1alpha()?, admin())))
}
