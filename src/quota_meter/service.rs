//! [`QuotaMeter`], the service.

use std::{
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;

use super::{
    Contents, Permit, ResponseBody, ResponseFuture, ScopeName, Sight, Snapshot,
    demand::{Arriving, Demand},
    guards::{Entry, Flight, Load},
    permits,
    refusal::Refusal,
    scope::Scope,
    shared::Shared,
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
/// in flight its slot (the server has counted the request, so its quota stays used, and so does the money it was reckoned
/// to cost).
#[derive(Debug)]
pub struct QuotaMeter<S, V = Contents> {
    inner: S,
    shared: Arc<Shared>,
    sight: PhantomData<V>,
}

impl<S, V> QuotaMeter<S, V> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared, sight: PhantomData }
    }

    /// What the meter knows now of the scope used last.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.scopes.latest().snapshot()
    }
}

impl<S: Clone, V> Clone for QuotaMeter<S, V> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared))
    }
}

impl<S, V, B, RB> Service<Request<B>> for QuotaMeter<S, V>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    V: Sight<B>,
{
    type Response = Response<ResponseBody<RB>>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    // A request is large: each call that is not inlined moves it once more.
    #[inline(always)]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (scope, demand) = self.shared.inquire::<V, B>(&request);
        if Permit::of(&request).is_some() {
            return self.call_closely(scope, demand, request);
        }
        match scope.go(&demand) {
            Some((id, stage)) => {
                let flight = Flight::new(scope, Load::of(demand), id, stage);
                ResponseFuture::sent(self.inner.call(request), flight)
            }
            None => self.call_closely(scope, demand, request),
        }
    }
}

impl<S, V> QuotaMeter<S, V> {
    /// A call with a permit, or one that may have to wait.
    #[cold]
    #[inline(never)]
    fn call_closely<B>(&mut self, scope: Arc<Scope>, demand: Demand, request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let permit = Permit::of(&request);
        if let Some(mut flight) = permit.and_then(|permit| permit.take(&scope))
            && flight.send()
        {
            return ResponseFuture::sent(self.inner.call(request), flight);
        }
        if let Some(permit) = permit.and_then(Permit::revoke) {
            return self.call_at_once(permit, scope, demand, request);
        }
        let call = request.extensions().get::<Call>();
        let seq = call.map_or_else(next_seq, Call::seq);
        let limit = longest_wait(call, self.shared.settings.max_wait);
        let had_its_turn = call.is_some_and(|call| call.resends() > 0);
        let class = Shared::class(&request);
        match scope.arrive(&Arriving { class, seq, had_its_turn, demand }, limit) {
            Entry::Go(flight) => ResponseFuture::sent(self.inner.call(request), flight),
            Entry::Wait(waiter) => {
                let lease = call.and_then(Call::lease).cloned();
                // The ready service goes, and with it any permit it holds: a call in line must not keep others out.
                self.inner = self.inner.clone();
                ResponseFuture::waiting(waiter, self.inner.clone(), request, lease, limit)
            }
            Entry::Refused(refusal) => ResponseFuture::refused(Refused::from(refusal)),
        }
    }

    /// A call with a permit of another scope, that of this name: its caller would rather be refused than wait.
    #[cold]
    #[inline(never)]
    fn call_at_once<B>(
        &mut self,
        permit: ScopeName,
        scope: Arc<Scope>,
        demand: Demand,
        request: Request<B>,
    ) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let expected = match Arc::clone(&scope).try_acquire(Shared::class(&request), demand) {
            Ok(own) => {
                if let Some(mut flight) = permits::take(&own, &scope)
                    && flight.send()
                {
                    return ResponseFuture::sent(self.inner.call(request), flight);
                }
                None
            }
            Err(Refusal::TooLong { expected, .. }) => Some(expected),
            Err(refusal) => return ResponseFuture::refused(refusal.into()),
        };
        let (permit, call) = (Box::new(permit), Box::new(scope.name().clone()));
        ResponseFuture::refused(Refusal::OtherPermit { permit, call, expected }.into())
    }
}

/// The longest that a call may wait from now on.
///
/// `max_wait` is for all sendings of an attempt together: what one that a 429 sent back has waited, it need not wait again.
/// The way there and back of those sendings is in it, for they got nothing else; what a retry does between attempts is not.
fn longest_wait(call: Option<&Call>, max_wait: Option<Duration>) -> Option<Duration> {
    let now = Instant::now();
    let until_deadline = call.and_then(Call::deadline).map(|deadline| deadline.saturating_duration_since(now));
    let came_back = call.filter(|call| call.resends() > 0);
    let waited = came_back.map_or(Duration::ZERO, |call| now.saturating_duration_since(call.began()));
    until_deadline.into_iter().chain(max_wait.map(|max_wait| max_wait.saturating_sub(waited))).min()
}
