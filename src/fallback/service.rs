//! [`Fallback`], the service.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Sleep, sleep};
use tower::BoxError;
use tower_service::Service;

use super::{Breaker, ResponseBody, ResponseFuture, breaker::Said, future::Held, layer::Settings};
use crate::{ApiError, ErrorKind, Refused, RetryHint, body::Resend};

/// Answers from elsewhere when a call has finally failed. See the [module](super).
///
/// A failed response of the first service is held, unread, until another has answered: it is what comes out if none does.
///
/// # Readiness
/// It is ready when the first service is. One that fails there, or takes longer than
/// [`ready_within`](super::FallbackLayer::ready_within), is a failure that is covered: it is ready then, and the call goes to
/// the others. The first is asked again before each call. The others are made ready when they are needed.
///
/// # Errors
/// The first service's, in a [`FallbackError`](super::FallbackError) where others were asked too; with nobody to ask, and an
/// open breaker, [`Refused`] with a [`BreakerOpen`](super::BreakerOpen).
///
/// # Cancel safety
/// Its future may be dropped at any point; the call that is under way, with whomever, is dropped with it. A probe of the
/// breaker that is dropped leaves its place to the next call.
pub struct Fallback<S, B, RB> {
    inner: S,
    settings: Arc<Settings<B, RB>>,
    /// Whether it took too long to get ready, and has not been since.
    stalled: Arc<AtomicBool>,
    /// Why the first is not asked next time.
    not_ready: Option<BoxError>,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<S, B, RB> Fallback<S, B, RB> {
    pub(super) fn new(inner: S, settings: Arc<Settings<B, RB>>) -> Self {
        Self { inner, settings, stalled: Arc::default(), not_ready: None, limit: None }
    }

    /// Waits for the first service no longer than it may take.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stalled.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        let within = self.settings.ready_within;
        ready!(self.limit.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(cx));
        self.stalled.store(true, Ordering::Relaxed);
        Poll::Ready(())
    }
}

impl<S: Clone, B, RB> Clone for Fallback<S, B, RB> {
    fn clone(&self) -> Self {
        Self { stalled: Arc::clone(&self.stalled), ..Self::new(self.inner.clone(), Arc::clone(&self.settings)) }
    }
}

impl<S: fmt::Debug, B, RB> fmt::Debug for Fallback<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("inner", &self.inner).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<S, B, RB> Service<Request<B>> for Fallback<S, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Resend + Send + 'static,
    RB: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody<RB>>;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, B, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let is_alone = self.settings.ways.is_empty();
        self.not_ready = match self.inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                if self.stalled.load(Ordering::Relaxed) {
                    self.stalled.store(false, Ordering::Relaxed);
                }
                None
            }
            Poll::Ready(Err(error)) if is_alone => return Poll::Ready(Err(error.into())),
            Poll::Ready(Err(error)) => Some(error.into()),
            Poll::Pending if is_alone => return Poll::Pending,
            Poll::Pending => {
                ready!(self.poll_limit(cx));
                let error = ApiError::new(ErrorKind::Timeout, RetryHint::Backoff)
                    .with_may_have_reached_server(false)
                    .with_message("the service did not get ready in time");
                Some(error.into())
            }
        };
        self.limit = None;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let settings = &self.settings;
        let held = (!settings.ways.is_empty()).then(|| Held::of(settings, &request));
        let admit = |breaker: &Breaker| breaker.admit(request.uri(), request.headers());
        let pass = settings.breaker.as_ref().map_or(Ok(None), admit);
        let why = match (self.not_ready.take(), pass) {
            (None, Ok(pass)) => return ResponseFuture::first(self.inner.call(request), held, pass),
            (None, Err(open)) => Refused::from(open).into(),
            (Some(error), pass) => {
                if let Ok(Some(pass)) = pass {
                    pass.report(Said::Down(None));
                }
                error
            }
        };
        // The first goes, and with it any permit it holds or stands in line for: the others may need that very one.
        self.inner = self.inner.clone();
        ResponseFuture::not_asked(why, held)
    }
}
