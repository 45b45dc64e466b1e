//! [`BackoffRetry`], the service.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{
    ResponseFuture,
    settings::Settings,
    trip::{Arrival, Made, Trip},
};
use crate::{body::Resend, kept::Kept};

/// Sends again what may succeed. See the [module](super).
///
/// Inside another `BackoffRetry` it passes everything through: nested retries multiply.
///
/// # Errors
/// The inner service's, in a [`RetryError`](super::RetryError); one that says "refused" comes out as it is, unless
/// something had been sent before. A failed response is no error: it comes out as the response it is, with a
/// [`RetryReport`](super::RetryReport).
///
/// # Cancel safety
/// Its future may be dropped at any point; an attempt in flight is dropped with it.
pub struct BackoffRetry<S> {
    inner: S,
    shared: Arc<Shared<S>>,
}

/// What every call needs for its retries, and only for those.
pub(super) struct Shared<S> {
    pub(super) settings: Arc<Settings>,
    /// Never made ready: retries clone their service from it.
    spare: Mutex<S>,
}

impl<S: Clone> Shared<S> {
    pub(super) fn fresh_service(&self) -> S {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Clone> BackoffRetry<S> {
    pub(super) fn new(inner: S, settings: Arc<Settings>) -> Self {
        let shared = Shared { settings, spare: Mutex::new(inner.clone()) };
        Self { inner, shared: Arc::new(shared) }
    }
}

impl<S: Clone> Clone for BackoffRetry<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S: fmt::Debug> fmt::Debug for BackoffRetry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackoffRetry").field("inner", &self.inner).field("settings", &self.shared.settings).finish()
    }
}

impl<S, B, RB> Service<Request<B>> for BackoffRetry<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Resend,
    RB: Body,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = &self.shared.settings;
        let Some(arrival) = Arrival::of(&mut request, settings) else {
            return ResponseFuture { attempt: Some(self.inner.call(request)), kept: None, trip: None };
        };
        let kept = Kept::of(&request);
        arrival.mark(&mut request, settings, Made::FIRST, kept.is_some());
        // In one piece and in place: what is kept is too large to be moved about.
        ResponseFuture {
            attempt: Some(self.inner.call(request)),
            kept,
            trip: Some(Trip::new(Arc::clone(&self.shared), arrival)),
        }
    }
}
