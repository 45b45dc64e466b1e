//! [`KeyCheck`], the service.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::BoxError;
use tower_service::Service;

use super::{
    Elsewhere, KeySnapshot, ResponseFuture, WrongOrigin,
    pool::{Lent, Loan, Pool},
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let settings = &self.pool.settings;
        if !settings.origin.is_of(request.uri()) {
            return match settings.elsewhere {
                Elsewhere::WithoutKey => ResponseFuture::sent(self.inner.call(request), None),
                Elsewhere::Refuse => {
                    let cause = WrongOrigin::new(&settings.origin, request.uri());
                    ResponseFuture::refused(Refused::new(Gate::Key, None, cause))
                }
            };
        }
        let steady = self.steady.upgrade().filter(|held| held.lease.is_alive());
        let lent = match steady {
            Some(held) => Lent::Now(Loan::of(held)),
            None => self.lend(&request),
        };
        match furnish(&self.pool, lent, &mut request) {
            Furnished::Go(loan) => ResponseFuture::sent(self.inner.call(request), loan),
            Furnished::Wait(fetched) => {
                // The ready service goes, and with it any permit it holds: who waits must not keep others out.
                self.inner = self.inner.clone();
                ResponseFuture::waiting(Arc::clone(&self.pool), fetched, self.inner.clone(), request)
            }
            Furnished::Refused(refused) => ResponseFuture::refused(refused),
        }
    }
}

impl<S> KeyCheck<S> {
    #[cold]
    #[inline(never)]
    fn lend<B>(&mut self, request: &Request<B>) -> Lent {
        let lent = self.pool.lend(is_retried(request));
        if let Some(held) = self.pool.steady() {
            self.steady = Arc::downgrade(&held);
        }
        lent
    }
}

pub(super) fn is_retried<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Call>().is_some_and(Call::is_retried)
}

pub(super) enum Furnished {
    /// With the key lent, or with none: the request has one of its own.
    Go(Option<Loan>),
    Wait(tokio::sync::futures::OwnedNotified),
    Refused(Refused),
}

/// Puts what was lent on the request, for the origin.
#[inline]
pub(super) fn furnish<B>(pool: &Pool, lent: Lent, request: &mut Request<B>) -> Furnished {
    let settings = &pool.settings;
    if settings.replaces_own {
        settings.placement.clear(request);
    }
    match lent {
        Lent::Now(loan) => {
            if !loan.held.key.1.put(request, &settings.placement) {
                return Furnished::Go(None);
            }
            let lease = Some(loan.held.lease.clone());
            match request.extensions_mut().get_mut::<Call>() {
                Some(call) => call.lease = lease,
                None => drop(request.extensions_mut().insert(Call { lease, ..Call::now() })),
            }
            Furnished::Go(Some(loan))
        }
        _ if settings.placement.is_taken(request.headers(), request.uri()) => Furnished::Go(None),
        Lent::Later(fetched) => Furnished::Wait(fetched),
        Lent::Refused(refused) => Furnished::Refused(refused),
    }
}

impl<S: fmt::Debug> fmt::Debug for KeyCheck<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCheck").field("inner", &self.inner).field("pool", &self.pool).finish_non_exhaustive()
    }
}
