//! An answer that ends with the grant it was given under: a watch does not outlive its token.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, http::HeaderMap},
};

use super::Grant;
use crate::{counters::Counters, ingest::Refused};

/// The body of an answer.
pub(super) struct Held {
    body: Body,
    /// `None` once the grant was over.
    over: Option<BoxFuture<'static, Refused>>,
    counters: Arc<Counters>,
}

impl Held {
    pub fn new(body: Body, grant: Grant, counters: Arc<Counters>) -> Self {
        Self { body, over: Some(Box::pin(grant.over())), counters }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let held = &mut *self;
        let Some(over) = &mut held.over else { return Poll::Ready(None) };
        if let Poll::Ready(refused) = over.as_mut().poll(context) {
            held.over = None;
            held.body = Body::empty();
            held.counters.refuse(refused.reason);
            tracing::info!(reason = refused.reason.word(), problem = %refused.problem, "an open call ended with its token");
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(refused.status("").add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut held.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.over.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
