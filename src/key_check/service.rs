//! [`KeyCheck`], the service.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    Request, Response,
    header::{AUTHORIZATION, Entry},
};
use tower::BoxError;
use tower_service::Service;

use super::{ResponseFuture, health::Shared};
use crate::Call;

/// Puts the key on requests for its origin. See the [module](super).
///
/// A request with an `Authorization` of its own, or for another origin, passes untouched.
///
/// # Errors
/// The inner service's; and [`Refused`](crate::Refused) with a [`KeyRejected`](super::KeyRejected) as its cause while
/// the key is known to be refused: nothing is sent.
///
/// # Cancel safety
/// Its future may be dropped at any point.
#[derive(Debug)]
pub struct KeyCheck<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> KeyCheck<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S: Clone> Clone for KeyCheck<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S, B, RB> Service<Request<B>> for KeyCheck<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !self.shared.origin.is_of(request.uri()) {
            return ResponseFuture::sent(self.inner.call(request), None);
        }
        // No room for one more header, as for a key of the caller's own: it goes as it is.
        let Ok(Entry::Vacant(place)) = request.headers_mut().try_entry(AUTHORIZATION) else {
            return ResponseFuture::sent(self.inner.call(request), None);
        };
        let (loan, lease) = match self.shared.lend() {
            Ok(lent) => lent,
            Err(refused) => return ResponseFuture::refused(refused),
        };
        place.insert(self.shared.key.bearer().clone());
        match request.extensions_mut().get_mut::<Call>() {
            Some(call) => call.lease = Some(lease),
            None => drop(request.extensions_mut().insert(Call { lease: Some(lease), ..Call::now() })),
        }
        ResponseFuture::sent(self.inner.call(request), Some(loan))
    }
}
