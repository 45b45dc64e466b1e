//! [`StackService`]: all layers over a service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, header::AUTHORIZATION};
use http_body::Body;
use tower::{BoxError, util::Either};
use tower_service::Service;

use super::{StackFault, base::Base};
use crate::{
    BackoffRetry, ErrorClassify, Gate, KeyCheck, QuotaMeter, Refused, RequestCheckLayer, body::Resend,
    request_check::ResponseFuture,
};

type Metered<S> = QuotaMeter<ErrorClassify<S>>;

/// The layers of a [`Stack`](super::Stack), outermost first.
pub type Parts<S> = BackoffRetry<Either<KeyCheck<Metered<S>>, Metered<S>>>;

/// A service under all layers. See the [module](super).
///
/// # Errors
/// Those of its parts; [`Refused`] with a [`BadRequest`](crate::request_check::BadRequest) as its cause for a request that
/// can only fail, and with a [`StackFault`] where key or base URL are not sound. A request
/// that carries its own `Authorization` needs no key.
///
/// # Cancel safety
/// Its future may be dropped at any point.
pub struct StackService<S> {
    pub(super) inner: Parts<S>,
    pub(super) base: Option<Arc<Base>>,
    pub(super) fault: Option<Arc<StackFault>>,
    pub(super) request_check: RequestCheckLayer,
}

impl<S: Clone> Clone for StackService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            base: self.base.clone(),
            fault: self.fault.clone(),
            request_check: self.request_check.clone(),
        }
    }
}

impl<S> fmt::Debug for StackService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackService").field("base", &self.base).field("fault", &self.fault).finish_non_exhaustive()
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
        if let Some(fault) = self.fault_for(&request) {
            let refused = Refused::new(Gate::Key, None, StackFault::clone(fault));
            return self.refuse(refused);
        }
        if let Some(whole) = self.base.as_ref().and_then(|base| base.complete(request.uri())) {
            *request.uri_mut() = whole;
        }
        if let Some(refused) = self.request_check.refusal(&request) {
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
    fn fault_for<B>(&self, request: &Request<B>) -> Option<&StackFault> {
        match self.fault.as_deref()? {
            StackFault::Key(_) if request.headers().contains_key(AUTHORIZATION) => None,
            fault => Some(fault),
        }
    }
}
