//! Stands before a service: lets a request pass with its grant, or answers it with the reason.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tonic::{
    body::Body,
    codegen::{Service, http},
    server::NamedService,
    transport::server::TcpConnectInfo,
};

use super::{Auth, held::Held};

/// A service and who decides about its callers.
#[derive(Clone)]
pub struct Gate<S> {
    auth: Arc<Auth>,
    service: S,
}

impl<S> Gate<S> {
    /// Before this service.
    #[must_use]
    pub fn new(auth: &Arc<Auth>, service: S) -> Self {
        Self { auth: Arc::clone(auth), service }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that was made ready is the one to call.
        let fresh = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, fresh);
        let auth = Arc::clone(&self.auth);
        Box::pin(async move {
            let source = request
                .extensions()
                .get::<TcpConnectInfo>()
                .and_then(TcpConnectInfo::remote_addr)
                .map(|address| address.ip().to_canonical());
            let admitted = auth.admit(request.uri().path(), bearer(request.headers()), source).await;
            let grant = match admitted {
                Ok(grant) => grant,
                Err(refused) => return Ok(refused.status("").into_http()),
            };
            // Ingest ends its streams itself: it still acknowledges what is under way.
            let held = (grant.ends() && !request.uri().path().starts_with("/vedette.v1.IngestService/")).then(|| grant.clone());
            request.extensions_mut().insert(grant);
            let response = service.call(request).await?;
            Ok(match held {
                Some(grant) => response.map(|body| Body::new(Held::new(body, grant, Arc::clone(&auth.counters)))),
                None => response,
            })
        })
    }
}

/// The token that a request shows.
fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let shown = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    shown.strip_prefix("Bearer ").or_else(|| shown.strip_prefix("bearer "))
}
