//! One attempt: with a limit to the time until its answer begins, and counted.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{BoxError, Service, timeout::error::Elapsed};

use crate::{
    limit::{Limit, Running},
    metrics::Metrics,
};

/// Beneath all layers: each attempt comes through here.
#[derive(Debug)]
pub(crate) struct Attempts<S> {
    inner: S,
    limit: Arc<Limit>,
    metrics: Arc<Metrics>,
}

impl<S> Attempts<S> {
    pub(crate) fn new(inner: S, limit: Arc<Limit>, metrics: Arc<Metrics>) -> Self {
        Self { inner, limit, metrics }
    }
}

/// With timers of its own: each connection has a clone, and need not wait for those of others.
impl<S: Clone> Clone for Attempts<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.limit.apart(), Arc::clone(&self.metrics))
    }
}

impl<S, B, RB> Service<Request<B>> for Attempts<S>
where
    S: Service<Request<B>, Response = Response<RB>, Error: Into<BoxError>>,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = Attempt<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Attempt { limit: self.limit.begin(), metrics: Arc::clone(&self.metrics), answer: self.inner.call(request) }
    }
}

pin_project! {
    /// The answer to one attempt.
    pub(crate) struct Attempt<F> {
        #[pin]
        answer: F,
        #[pin]
        limit: Running,
        metrics: Arc<Metrics>,
    }
}

impl<F, RB, E> Future for Attempt<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.answer.poll(cx) {
            Poll::Ready(answer) => answer.map_err(Into::into),
            Poll::Pending if this.limit.poll(cx).is_ready() => Err(Elapsed::new().into()),
            Poll::Pending => return Poll::Pending,
        };
        this.metrics.answered_upstream(answer.as_ref().ok().map(Response::status));
        Poll::Ready(answer)
    }
}
