//! What lies between two attempts: the rest of the failed response, the time, and a service made ready anew.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;

use super::StopReason;
use crate::body::drain::{self, Drain};

pin_project! {
    /// The service is a fresh one, made ready after the wait: a permit held through it would keep others out.
    pub(super) struct Wait<S, RB> {
        #[pin]
        rest: Option<Drain<RB>>,
        // While the rest is read, until that has taken too long; then until the next attempt is due; then until the deadline.
        #[pin]
        sleep: Option<Sleep>,
        // `None` once the time has come.
        due: Option<Instant>,
        next: Option<S>,
    }
}

/// What a wait is begun with.
pub(super) struct Plan<RB> {
    /// `None`: at once.
    pub(super) due: Option<Instant>,
    /// What is left of the failed response: read and dropped.
    pub(super) rest: Option<RB>,
}

/// Timers are a hair late: who waits until the deadline itself is still let go.
const TIMERS: Duration = Duration::from_millis(10);

/// Why there is no next attempt after all.
pub(super) struct Missed {
    pub(super) error: BoxError,
    pub(super) reason: StopReason,
}

impl Missed {
    fn deadline() -> Self {
        let error = "the service was not ready again before the deadline".into();
        Self { error, reason: StopReason::PastDeadline }
    }

    /// What was read of the last sending's body in the meantime is too much to go again.
    pub(super) fn body() -> Self {
        let error = "the request body went too far while its answer was here to be sent again".into();
        Self { error, reason: StopReason::BodySpent }
    }
}

impl<S, RB> Wait<S, RB> {
    /// With nothing to wait for.
    pub(super) fn idle() -> Self {
        Self { rest: None, sleep: None, due: None, next: None }
    }

    /// From now on it waits to call this service. Not with a body in hand: what may still be read of the last sending's
    /// decides whether there is one at the end.
    pub(super) fn begin(self: Pin<&mut Self>, service: S, plan: Plan<RB>)
    where
        RB: Body,
    {
        let mut this = self.project();
        this.rest.set(plan.rest.and_then(Drain::new));
        *this.due = plan.due;
        *this.next = Some(service);
    }

    /// Ready once the rest of the failed response is read, the time has come, and the service is ready.
    pub(super) fn poll_next<R>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<Result<S, Missed>>
    where
        S: tower_service::Service<R>,
        S::Error: Into<BoxError>,
        RB: Body,
    {
        let mut this = self.project();
        if let Some(rest) = this.rest.as_mut().as_pin_mut() {
            if rest.poll(cx).is_pending() {
                let limit = || drain::limit(Instant::now(), *this.due, deadline);
                ready!(poll_until(this.sleep.as_mut(), cx, limit));
            }
            this.rest.set(None);
            this.sleep.set(None);
        }
        if let Some(due) = *this.due {
            ready!(poll_until(this.sleep.as_mut(), cx, || due));
            *this.due = None;
        }
        let Some(service) = this.next else { return Poll::Pending };
        match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(Missed { error: error.into(), reason: StopReason::NotReady }));
            }
            Poll::Pending => {
                let Some(deadline) = deadline else { return Poll::Pending };
                ready!(poll_until(this.sleep, cx, || deadline));
                return Poll::Ready(Err(Missed::deadline()));
            }
        }
        // Polled late, it may be ready too late.
        if deadline.is_some_and(|deadline| Instant::now().saturating_duration_since(deadline) > TIMERS) {
            return Poll::Ready(Err(Missed::deadline()));
        }
        this.sleep.set(None);
        this.next.take().map_or(Poll::Pending, |next| Poll::Ready(Ok(next)))
    }
}

/// Ready at the time that is named when it is first polled; then it can be polled for another.
fn poll_until(mut sleep: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>, until: impl FnOnce() -> Instant) -> Poll<()> {
    if sleep.is_none() {
        sleep.set(Some(sleep_until(until())));
    }
    if let Some(sleep) = sleep.as_mut().as_pin_mut() {
        ready!(sleep.poll(cx));
    }
    sleep.set(None);
    Poll::Ready(())
}
