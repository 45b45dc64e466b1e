//! The future of a metered call: in line, ready to leave, in flight.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep, sleep_until},
};
use tower::BoxError;
use tower_service::Service;

use super::{
    Refusal, ResponseBody,
    core::{Outcome, Told},
    guards::{Flight, Turn, Waiter},
    tap::Tap,
    usage::Usage,
};
use crate::{
    Again, ApiError, ErrorKind, Gate, Lease, Refused, RetryHint,
    body::media::{Media, is_compressed},
    limits::{Limit, Limits},
    wall_clock::WallClock,
};

pin_project! {
    /// The response of a [`QuotaMeter`](super::QuotaMeter).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
        // Beside the state, so that the inner future is moved but once on its way here.
        flight: Option<Flight>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        Sent { #[pin] future: S::Future },
        Waiting { wait: Pin<Box<Wait<S, B>>> },
        Refused { refused: Option<Refused> },
    }
}

pin_project! {
    /// A call in line: its request, and a service that is made ready only once it is its turn.
    struct Wait<S, B> {
        waiter: Waiter,
        flight: Option<Flight>,
        request: Option<Request<B>>,
        service: S,
        lease: Option<Lease>,
        #[pin]
        lease_ended: Option<OwnedNotified>,
        since: Instant,
        // The longest that it may wait, in line and after it.
        limit: Option<Duration>,
        #[pin]
        look: Sleep,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline(always)]
    pub(super) fn sent(future: S::Future, flight: Flight) -> Self {
        Self { state: State::Sent { future }, flight: Some(flight) }
    }

    pub(super) fn waiting(
        waiter: Waiter,
        service: S,
        request: Request<B>,
        lease: Option<Lease>,
        limit: Option<Duration>,
    ) -> Self {
        let lease_ended = lease.as_ref().map(Lease::ended);
        let since = Instant::now();
        let (look, request) = (sleep_until(since), Some(request));
        let wait = Wait { waiter, flight: None, request, service, lease, lease_ended, since, limit, look };
        Self { state: State::Waiting { wait: Box::pin(wait) }, flight: None }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        Self { state: State::Refused { refused: Some(refused) }, flight: None }
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<RB>>, BoxError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        match (this.state.as_mut().project(), &mut *this.flight) {
            (StateProj::Sent { future }, Some(flight)) => poll_sent(future, flight, cx),
            _ => poll_unsent(this.state, this.flight, cx),
        }
    }
}

#[cold]
#[inline(never)]
fn poll_unsent<S, B, RB>(
    mut state: Pin<&mut State<S, B>>,
    flight: &mut Option<Flight>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<ResponseBody<RB>>, BoxError>>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
{
    loop {
        let next = match state.as_mut().project() {
            StateProj::Sent { future } => {
                return flight.as_mut().map_or(Poll::Pending, |flight| poll_sent(future, flight, cx));
            }
            StateProj::Waiting { wait } => ready!(wait.as_mut().poll_turn(cx)),
            StateProj::Refused { refused } => {
                return refused.take().map_or(Poll::Pending, |refused| Poll::Ready(Err(refused.into())));
            }
        };
        match next {
            Ok((future, sent)) => {
                state.set(State::Sent { future });
                *flight = Some(sent);
            }
            Err(error) => {
                // What it held is free now, not when its caller drops it.
                state.set(State::Refused { refused: None });
                return Poll::Ready(Err(error));
            }
        }
    }
}

#[inline(always)]
fn poll_sent<F, RB, E>(
    future: Pin<&mut F>,
    flight: &mut Flight,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<ResponseBody<RB>>, BoxError>>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
{
    match future.poll(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(response)) => {
            // Looked at where it lies in the end: an answer is large, and so it moves but once.
            let mut response = response.map(ResponseBody::new);
            let tap = settle(flight, &mut response);
            response.body_mut().set_tap(tap);
            Poll::Ready(Ok(response))
        }
        Poll::Ready(Err(error)) => {
            let error: BoxError = error.into();
            flight.fail(&*error);
            Poll::Ready(Err(error))
        }
    }
}

impl<S, B> Wait<S, B>
where
    S: Service<Request<B>> + Clone,
    S::Error: Into<BoxError>,
{
    /// Ready once the request has been handed to the inner service.
    fn poll_turn(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(S::Future, Flight), BoxError>> {
        loop {
            if self.as_mut().has_dead_key(cx) {
                return Poll::Ready(Err(Again { by: Gate::Key, not_before: Instant::now() }.into()));
            }
            if self.flight.is_none() {
                let flight = ready!(self.as_mut().poll_line(cx))?;
                self.as_mut().project().flight.replace(flight);
            }
            let this = self.as_mut().project();
            if let Poll::Ready(ready) = this.service.poll_ready(cx) {
                ready.map_err(Into::into)?;
            } else {
                return self.poll_limit(cx).map(Err);
            }
            let Some(mut flight) = this.flight.take() else { return Poll::Pending };
            if !flight.send() {
                // Its turn went by while the service was not ready. Back in line it keeps nobody out, as before.
                *this.service = this.service.clone();
                this.waiter.rejoin(flight);
                continue;
            }
            let Some(request) = this.request.take() else { return Poll::Pending };
            return Poll::Ready(Ok((this.service.call(request), flight)));
        }
    }

    fn poll_line(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Flight, BoxError>> {
        let mut this = self.project();
        loop {
            match this.waiter.poll(cx).map_err(Refused::from)? {
                Turn::Now(mut flight) => {
                    flight.hold().map_err(Refused::from)?;
                    return Poll::Ready(Ok(flight));
                }
                Turn::Later(None) => break,
                Turn::Later(Some(look)) => {
                    this.look.as_mut().reset(look);
                    if this.look.as_mut().poll(cx).is_pending() {
                        break;
                    }
                }
            }
        }
        Poll::Pending
    }

    /// Whether its key has died; else it is woken when that happens.
    fn has_dead_key(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        if let Some(ended) = this.lease_ended.as_mut().as_pin_mut()
            && ended.poll(cx).is_ready()
        {
            this.lease_ended.set(None);
        }
        this.lease.as_ref().is_some_and(|lease| !lease.is_alive())
    }

    /// Let go, and held up by the service: ready once that takes longer than it may.
    fn poll_limit(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<BoxError> {
        let mut this = self.project();
        let Some(limit) = *this.limit else { return Poll::Pending };
        // One too far away for a date never comes.
        let Some(ends) = this.since.checked_add(limit) else { return Poll::Pending };
        if this.look.deadline() != ends {
            this.look.as_mut().reset(ends);
        }
        ready!(this.look.as_mut().poll(cx));
        if let Some(flight) = this.flight.take() {
            flight.refuse();
        }
        Poll::Ready(Refused::from(Refusal::TooLong { expected: this.since.elapsed(), limit }).into())
    }
}

/// Takes in what an answer says; what reads along in its body, if there is to be something.
#[inline(always)]
fn settle<RB>(flight: &mut Flight, response: &mut Response<RB>) -> Option<Box<Tap>> {
    let is_silent = flight.is_untimed()
        && response.status().is_success()
        && response.extensions().get::<ApiError>().is_none()
        && !Limits::are_in(response.headers());
    if is_silent && flight.succeed_untimed() {
        return None;
    }
    settle_closely(flight, response)
}

#[inline(never)]
fn settle_closely<RB>(flight: &mut Flight, response: &mut Response<RB>) -> Option<Box<Tap>> {
    let mut limits = Limits::default();
    let outcome = outcome(response, &mut limits, flight.clock());
    let tap = tap(flight, &outcome, response);
    let opens = flight.settle(outcome);
    if let Some(not_before) = opens {
        response.extensions_mut().insert(Again { by: Gate::Quota, not_before });
    }
    tap
}

/// What reads along in a good answer, where it can be read.
fn tap<RB>(flight: &mut Flight, outcome: &Outcome<'_>, response: &Response<RB>) -> Option<Box<Tap>> {
    let Outcome::Success(limits) = outcome else { return None };
    if !flight.counts_tokens() {
        return None;
    }
    let (scope, pending) = (Arc::clone(flight.scope()), flight.pending(Told::by(limits)));
    let media = Media::of(response.headers()).filter(|_| flight.reads_usage() && !is_compressed(response.headers()));
    let Some(media) = media else {
        // What cannot be read was used all the same, and paid for.
        scope.settle_usage(pending, &Usage::default());
        return None;
    };
    Some(Box::new(Tap::new(media, scope, pending)))
}

/// What a response says of the quota: by its [`ApiError`] where it carries one, else by its head alone.
fn outcome<'a, RB>(response: &Response<RB>, limits: &'a mut Limits, clock: &WallClock) -> Outcome<'a> {
    let headers = response.headers();
    let Some(error) = ApiError::of(response) else {
        if !response.status().is_success() {
            return Outcome::Other;
        }
        limits.read(headers, clock);
        return Outcome::Success(limits);
    };
    match (error.kind(), error.retry()) {
        (ErrorKind::RateLimit, RetryHint::After(hint)) => {
            limits.read(headers, clock);
            let hint = Some(hint).filter(|hint| !is_fill_time(*hint, limits, headers));
            Outcome::Limited(limits, hint)
        }
        (ErrorKind::RateLimit, RetryHint::Backoff) => {
            limits.read(headers, clock);
            Outcome::Limited(limits, None)
        }
        (ErrorKind::QuotaExhausted, _) => Outcome::Spent(error),
        _ => Outcome::Other,
    }
}

/// Whether a hint is but the time until a limit is full again. How long one call takes of it the meter knows itself.
fn is_fill_time(hint: Duration, limits: &Limits, headers: &HeaderMap) -> bool {
    let is_said =
        ["retry-after", "retry-after-ms", "x-ms-retry-after-ms"].iter().any(|name| headers.contains_key(*name));
    let is_reset = |limit: &Option<Limit>| limit.and_then(|limit| limit.reset) == Some(hint);
    !is_said && (is_reset(&limits.requests) || is_reset(&limits.tokens))
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Sent { .. } => "quota_meter::ResponseFuture(sent)",
            State::Waiting { .. } => "quota_meter::ResponseFuture(waiting)",
            State::Refused { .. } => "quota_meter::ResponseFuture(refused)",
        })
    }
}
