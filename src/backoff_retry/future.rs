//! The future of a retried call: an attempt, or the wait before the next.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;
use tower_service::Service;

use super::trip::{Next, Trip};
use crate::body::{Resend, drain::Drain};

pin_project! {
    /// The response of a [`BackoffRetry`](super::BackoffRetry).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, RB>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, S::Future, RB>,
        // `None`: a retry further out owns the call.
        trip: Option<Trip<S, B, RB>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, F, RB> {
        Attempt { #[pin] future: F },
        Waiting { wait: Pin<Box<Wait<S, B, RB>>> },
    }
}

pin_project! {
    /// Between two attempts. The service is a fresh one, made ready after the wait: a permit held through it would
    /// keep others out.
    struct Wait<S, B, RB> {
        #[pin]
        rest: Option<Drain<RB>>,
        #[pin]
        sleep: Option<Sleep>,
        service: S,
        request: Option<Request<B>>,
    }
}

impl<S, B, RB> ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    pub(super) fn new(future: S::Future, trip: Option<Trip<S, B, RB>>) -> Self {
        Self { state: State::Attempt { future }, trip }
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    B: Resend,
    RB: Body,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Attempt { future } => {
                    let result = ready!(future.poll(cx)).map_err(Into::into);
                    let Some(trip) = this.trip else { return Poll::Ready(result) };
                    match trip.judge(result) {
                        Next::Done(result) => return Poll::Ready(result),
                        Next::Send { request, until, rest } => {
                            State::Waiting { wait: Box::pin(Wait::new(trip.fresh_service(), request, until, rest)) }
                        }
                    }
                }
                StateProj::Waiting { wait } => match ready!(wait.as_mut().poll_send(cx)) {
                    Ok(future) => State::Attempt { future },
                    Err(error) => {
                        return Poll::Ready(match this.trip {
                            Some(trip) => trip.not_ready(error),
                            None => Err(error),
                        });
                    }
                },
            };
            this.state.set(next);
        }
    }
}

impl<S, B, RB: Body> Wait<S, B, RB> {
    fn new(service: S, request: Request<B>, until: Instant, rest: Option<RB>) -> Self {
        let sleep = (until > Instant::now()).then(|| sleep_until(until));
        Self { rest: rest.and_then(Drain::new), sleep, service, request: Some(request) }
    }

    /// Ready once the rest of the failed response is read, the time has come, the service is ready, and it has the
    /// request.
    fn poll_send(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Future, BoxError>>
    where
        S: Service<Request<B>>,
        S::Error: Into<BoxError>,
    {
        let mut this = self.project();
        if let Some(rest) = this.rest.as_mut().as_pin_mut() {
            ready!(rest.poll(cx));
            this.rest.set(None);
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            ready!(sleep.poll(cx));
            this.sleep.set(None);
        }
        ready!(this.service.poll_ready(cx)).map_err(Into::into)?;
        this.request.take().map_or(Poll::Pending, |request| Poll::Ready(Ok(this.service.call(request))))
    }
}

impl<S, B, RB> fmt::Debug for ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Attempt { .. } => "backoff_retry::ResponseFuture(attempt)",
            State::Waiting { .. } => "backoff_retry::ResponseFuture(waiting)",
        })
    }
}
