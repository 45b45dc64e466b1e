//! [`QuotaMeter`], the service.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{
    Priority, ResponseBody, ResponseFuture, Snapshot,
    core::Comer,
    cost::Cost,
    scope::{Entry, Scope},
};
use crate::{Call, Refused, call::next_seq};

/// Lets each call go when the quota has room for it. See the [module](super).
///
/// # Errors
/// The inner service's; [`Refused`](crate::Refused) with a [`Refusal`](super::Refusal) as its cause for a call
/// that is not sent; and [`Again`](crate::Again) for one whose key died while it waited.
///
/// # Cancel safety
/// Its future may be dropped at any point: in line it gives back its place, granted but not sent its quota, and
/// in flight its slot (the server has counted the request, so its quota stays used).
#[derive(Debug)]
pub struct QuotaMeter<S> {
    inner: S,
    scope: Arc<Scope>,
}

impl<S> QuotaMeter<S> {
    pub(super) fn new(inner: S, scope: Arc<Scope>) -> Self {
        Self { inner, scope }
    }

    /// What the meter knows now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.scope.snapshot()
    }
}

impl<S: Clone> Clone for QuotaMeter<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), scope: Arc::clone(&self.scope) }
    }
}

impl<S, B, RB> Service<Request<B>> for QuotaMeter<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Body,
{
    type Response = Response<ResponseBody<RB>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = request.extensions().get::<Call>();
        let seq = call.map_or_else(next_seq, Call::seq);
        let deadline = call.and_then(Call::deadline);
        let had_its_turn = call.is_some_and(|call| call.resends() > 0);
        let class = request.extensions().get::<Priority>().copied().unwrap_or_default().class();
        match self.scope.arrive(&Comer { class, seq, had_its_turn, cost: Cost::of(&request) }, deadline) {
            Entry::Go(flight) => ResponseFuture::sent(self.inner.call(request), flight),
            Entry::Wait(waiter) => {
                let lease = call.and_then(Call::lease).cloned();
                // The ready service goes, and with it any permit it holds: a call in line must not keep others out.
                self.inner = self.inner.clone();
                ResponseFuture::waiting(waiter, self.inner.clone(), request, lease)
            }
            Entry::Refused(refusal) => ResponseFuture::refused(Refused::from(refusal)),
        }
    }
}
