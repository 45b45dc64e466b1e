//! [`KeyCheck`], the service.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use tower::BoxError;
use tower_service::Service;

use super::{
    Elsewhere, KeySnapshot, ResponseFuture, WrongOrigin,
    lending::Lent,
    loan::Loan,
    pool::{Pool, Settings},
    slot::Held,
};
use crate::{Call, Gate, Refused};

/// Puts a key on requests for its origin. See the [module](super).
///
/// A request with a key of its own in the same place passes untouched, and so does one for another origin, unless the
/// layer's settings say otherwise.
///
/// # Errors
/// The inner service's; and [`Refused`](crate::Refused), with [`NoSoundKey`](super::NoSoundKey) as its cause while no
/// key is known to be sound, or with [`WrongOrigin`](super::WrongOrigin): then nothing is sent.
///
/// # Cancel safety
/// Its future may be dropped at any point.
pub struct KeyCheck<S> {
    inner: S,
    pool: Arc<Pool>,
    /// The key in use, where it is the only one and steady: most calls then need no lock.
    steady: Weak<Held>,
}

impl<S> KeyCheck<S> {
    pub(super) fn new(inner: S, pool: Arc<Pool>) -> Self {
        let steady = pool.steady().map_or_else(Weak::new, |held| Arc::downgrade(&held));
        Self { inner, pool, steady }
    }

    /// How each key is now: see [`KeyCheckLayer::snapshot`](super::KeyCheckLayer::snapshot).
    #[must_use]
    pub fn snapshot(&self) -> Vec<KeySnapshot> {
        self.pool.snapshot()
    }
}

impl<S: Clone> Clone for KeyCheck<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pool: Arc::clone(&self.pool), steady: Weak::clone(&self.steady) }
    }
}

impl<S, B, RB> Service<Request<B>> for KeyCheck<S>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    // A request is large: each call that is not inlined moves it once more.
    #[inline(always)]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = &self.pool.settings;
        if !settings.origin.is_of(request.uri()) {
            return self.call_elsewhere(request);
        }
        match self.steady.upgrade() {
            Some(held) if held.lease.is_alive() => {
                if settings.replaces_own {
                    settings.placement.clear(&mut request);
                }
                let loan = hand_over(settings, Loan::of(held), &mut request);
                ResponseFuture::sent(self.inner.call(request), loan)
            }
            _ => self.call_asking(request),
        }
    }
}

impl<S> KeyCheck<S> {
    #[cold]
    #[inline(never)]
    fn call_elsewhere<B>(&mut self, request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let settings = &self.pool.settings;
        match settings.elsewhere {
            Elsewhere::WithoutKey => ResponseFuture::sent(self.inner.call(request), None),
            Elsewhere::Refuse => {
                let cause = WrongOrigin::new(&settings.origin, request.uri());
                self.release();
                ResponseFuture::refused(Refused::new(Gate::Key, None, cause))
            }
        }
    }

    /// A call for which the pool is to be asked: there are several keys, or the one is not steady.
    #[inline(never)]
    fn call_asking<B>(&mut self, mut request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>> + Clone,
    {
        let furnished = furnish(&self.pool, &mut request);
        if let Some(held) = self.pool.steady() {
            self.steady = Arc::downgrade(&held);
        }
        match furnished {
            Furnished::Go(loan) => ResponseFuture::sent(self.inner.call(request), loan),
            Furnished::Wait(fetched) => {
                self.release();
                ResponseFuture::waiting(Arc::clone(&self.pool), fetched, self.inner.clone(), request)
            }
            Furnished::Refused(refused) => {
                self.release();
                ResponseFuture::refused(refused)
            }
        }
    }

    /// The ready service goes, and with it any permit it holds: who waits, or is refused, must not keep others out.
    fn release(&mut self)
    where
        S: Clone,
    {
        self.inner = self.inner.clone();
    }
}

pub(super) enum Furnished {
    /// With the key lent, or with none: the request has one of its own.
    Go(Option<Loan>),
    Wait(tokio::sync::futures::OwnedNotified),
    Refused(Refused),
}

/// Asks the pool for a key, and puts it on the request, which is for the origin.
pub(super) fn furnish<B>(pool: &Pool, request: &mut Request<B>) -> Furnished {
    let settings = &pool.settings;
    if settings.replaces_own {
        settings.placement.clear(request);
    }
    #[cfg(feature = "quota-meter")]
    let wished = crate::quota_meter::Permit::of(request).and_then(crate::quota_meter::Permit::key);
    #[cfg(not(feature = "quota-meter"))]
    let wished = None;
    match pool.lend(request.extensions().get::<Call>(), wished) {
        Lent::Now(loan) => Furnished::Go(hand_over(settings, loan, request)),
        _ if settings.placement.is_taken(request.headers(), request.uri()) => Furnished::Go(None),
        Lent::Later(fetched) => Furnished::Wait(fetched),
        Lent::Refused(refused) => Furnished::Refused(refused),
    }
}

/// Puts on a copy of a request's head what it would have when it goes on, as far as that is known now.
#[cfg(feature = "stack")]
pub(super) fn foresee(pool: &Pool, head: &mut Request<()>) {
    let settings = &pool.settings;
    if !settings.origin.is_of(head.uri()) {
        return;
    }
    if settings.replaces_own {
        settings.placement.clear(head);
    }
    if let Some(held) = pool.next() {
        // Nothing is lent: the loan ends here.
        hand_over(settings, Loan::of(held), head);
    }
}

/// Puts the key lent on the request; `None` if it has one of its own.
#[inline(always)]
fn hand_over<B>(settings: &Settings, mut loan: Loan, request: &mut Request<B>) -> Option<Loan> {
    loan.has_own_organization = loan.held.key.1.put(request, &settings.placement)?;
    let lease = Some(loan.held.lease.clone());
    match request.extensions_mut().get_mut::<Call>() {
        Some(call) => call.lease = lease,
        None if settings.marks => mark(request.extensions_mut(), Call { lease, ..Call::now() }),
        None => {}
    }
    Some(loan)
}

/// Apart, for under a retry there is a [`Call`] already.
#[inline(never)]
fn mark(extensions: &mut Extensions, call: Call) {
    extensions.insert(call);
}

impl<S: fmt::Debug> fmt::Debug for KeyCheck<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCheck").field("inner", &self.inner).field("pool", &self.pool).finish_non_exhaustive()
    }
}
