//! [`RequestCheck`], the service.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{CheckedBody, ResponseFuture, layer::Settings};
use crate::body::Resend;

/// Refuses what can only fail. See the [module](super).
///
/// The content of a body is looked at where it is [in memory](Resend::in_memory); a stream passes, and is held to the size
/// limit on its way.
///
/// # Errors
/// The inner service's; and [`Refused`](crate::Refused) with a [`BadRequest`](super::BadRequest) as its cause: nothing was
/// sent. A body that grows past the limit while it is sent fails with a `BadRequest`, which the client then gives as the
/// cause of its own error.
///
/// # Cancel safety
/// Its future may be dropped at any point.
#[derive(Clone, Debug)]
pub struct RequestCheck<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> RequestCheck<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

impl<S, B, RB> Service<Request<B>> for RequestCheck<S>
where
    S: Service<Request<CheckedBody<B>>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Body + Resend,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.settings.check(&request) {
            None => {
                let request = request.map(|body| CheckedBody::new(body, self.settings.max_body));
                ResponseFuture::sent(self.inner.call(request))
            }
            Some(bad) => {
                // The ready one goes, and with it any permit it holds: nothing is sent with it.
                self.inner = self.inner.clone();
                ResponseFuture::refused((*bad).into())
            }
        }
    }
}
