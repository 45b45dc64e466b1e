//! [`StackService`]: all layers over a service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, util::Either};
use tower_service::Service;

use super::front::Front;
use crate::{
    BackoffRetry, ErrorClassify, KeyCheck, QuotaMeter, Refused,
    body::Resend,
    quota_meter::{Contents, Permit, Sight},
    request_check::ResponseFuture,
};

type Metered<S> = QuotaMeter<ErrorClassify<S>>;

/// The layers of a [`Stack`](super::Stack), outermost first.
pub type Parts<S> = BackoffRetry<Either<KeyCheck<Metered<S>>, Metered<S>>>;

/// A service under all layers. See the [module](super).
///
/// # Errors
/// Those of its parts; [`Refused`] with a [`BadRequest`](crate::request_check::BadRequest) as its cause for a request that
/// can only fail, and with a [`StackFault`](super::StackFault) where key or base URL are not sound. A request
/// that carries its own `Authorization` needs no key.
///
/// # Cancel safety
/// Its future may be dropped at any point.
pub struct StackService<S> {
    pub(super) inner: Parts<S>,
    pub(super) front: Arc<Front>,
}

impl<S: Clone> Clone for StackService<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), front: Arc::clone(&self.front) }
    }
}

impl<S> fmt::Debug for StackService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackService")
            .field("base", &self.front.base)
            .field("fault", &self.front.fault)
            .finish_non_exhaustive()
    }
}

impl<S, B, RB> Service<Request<B>> for StackService<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Body + Resend,
    RB: Body,
{
    type Response = <Parts<S> as Service<Request<B>>>::Response;
    type Error = BoxError;
    type Future = ResponseFuture<<Parts<S> as Service<Request<B>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(refused) = self.front.refusal(&request) {
            return self.refuse(refused);
        }
        if let Some(whole) = self.front.whole(request.uri()) {
            *request.uri_mut() = whole;
        }
        if let Some(refused) = self.front.request_check.refusal(&request) {
            return self.refuse(refused);
        }
        ResponseFuture::sent(self.inner.call(request))
    }
}

impl<S: Clone> StackService<S> {
    /// Nothing is sent: the ready service goes, and with it any permit it holds.
    #[cold]
    fn refuse<F>(&mut self, refused: Refused) -> ResponseFuture<F> {
        self.inner = self.inner.clone();
        ResponseFuture::refused(refused)
    }
}

impl<S> StackService<S> {
    /// How long this request would wait for the quota if it came now: see
    /// [`Stack::expected_wait`](super::Stack::expected_wait).
    pub fn expected_wait<B>(&self, request: &Request<B>) -> Option<Duration>
    where
        Contents: Sight<B>,
    {
        self.front.expected_wait(request)
    }

    /// Takes what this request needs of the quota, if it could leave now: see
    /// [`Stack::try_acquire`](super::Stack::try_acquire).
    ///
    /// # Errors
    /// As there.
    pub fn try_acquire<B>(&self, request: &Request<B>) -> Result<Permit, Refused>
    where
        Contents: Sight<B>,
    {
        self.front.try_acquire(request)
    }
}
