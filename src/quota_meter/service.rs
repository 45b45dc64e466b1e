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
    Permit, ResponseBody, ResponseFuture, Snapshot,
    scope::{Arriving, Entry},
    shared::Shared,
};
use crate::{Call, Refused, body::Resend, call::next_seq};

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
    shared: Arc<Shared>,
}

impl<S> QuotaMeter<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// What the meter knows now of the scope used last.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.scopes.latest().snapshot()
    }
}

impl<S: Clone> Clone for QuotaMeter<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, B, RB> Service<Request<B>> for QuotaMeter<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Body + Resend,
{
    type Response = Response<ResponseBody<RB>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (scope, demand) = self.shared.inquire(&request);
        if let Some(refusal) = self.shared.book.over_budget() {
            scope.refuse();
            return ResponseFuture::refused(refusal.into());
        }
        let permit = request.extensions().get::<Permit>();
        if let Some(mut flight) = permit.and_then(|permit| permit.take(&scope))
            && flight.send()
        {
            return ResponseFuture::sent(self.inner.call(request), flight);
        }
        let call = request.extensions().get::<Call>();
        let seq = call.map_or_else(next_seq, Call::seq);
        let deadline = call.and_then(Call::deadline);
        let had_its_turn = call.is_some_and(|call| call.resends() > 0);
        let class = Shared::class(&request);
        match scope.arrive(&Arriving { class, seq, had_its_turn, demand }, deadline) {
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
