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

use super::{
    StopReason,
    trip::{Next, Trip},
};
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
        // Until the next attempt is due; from then on, until the deadline.
        #[pin]
        sleep: Option<Sleep>,
        due: bool,
        deadline: Option<Instant>,
        service: S,
        request: Option<Request<B>>,
    }
}

/// Why there is no next attempt after all.
struct Missed {
    error: BoxError,
    reason: StopReason,
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
                            let wait = Wait::new(trip.fresh_service(), request, until, trip.deadline(), rest);
                            State::Waiting { wait: Box::pin(wait) }
                        }
                    }
                }
                StateProj::Waiting { wait } => match ready!(wait.as_mut().poll_send(cx)) {
                    Ok(future) => State::Attempt { future },
                    Err(Missed { error, reason }) => {
                        return Poll::Ready(match this.trip {
                            Some(trip) => trip.give_up(error, reason),
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
    fn new(service: S, request: Request<B>, until: Instant, deadline: Option<Instant>, rest: Option<RB>) -> Self {
        let sleep = (until > Instant::now()).then(|| sleep_until(until));
        let rest = rest.and_then(|rest| Drain::new(rest, deadline));
        Self { rest, sleep, due: false, deadline, service, request: Some(request) }
    }

    /// Ready once the rest of the failed response is read, the time has come, the service is ready, and it has the
    /// request.
    fn poll_send(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Future, Missed>>
    where
        S: Service<Request<B>>,
        S::Error: Into<BoxError>,
    {
        let mut this = self.project();
        if let Some(rest) = this.rest.as_mut().as_pin_mut() {
            ready!(rest.poll(cx));
            this.rest.set(None);
        }
        if !*this.due {
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                ready!(sleep.poll(cx));
            }
            *this.due = true;
            this.sleep.set(this.deadline.map(sleep_until));
        }
        match this.service.poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(Missed { error: error.into(), reason: StopReason::NotReady }));
            }
            Poll::Pending => {
                let Some(sleep) = this.sleep.as_mut().as_pin_mut() else { return Poll::Pending };
                ready!(sleep.poll(cx));
                let error = "the service was not ready again before the deadline".into();
                return Poll::Ready(Err(Missed { error, reason: StopReason::PastDeadline }));
            }
        }
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
