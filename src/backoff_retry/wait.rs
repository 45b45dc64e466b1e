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
use crate::body::drain::Drain;

pin_project! {
    /// The service is a fresh one, made ready after the wait: a permit held through it would keep others out.
    pub(super) struct Wait<S, RB> {
        #[pin]
        rest: Option<Drain<RB>>,
        // Until the next attempt is due; from then on, until the deadline.
        #[pin]
        sleep: Option<Sleep>,
        due: bool,
        next: Option<S>,
    }
}

/// What a wait is begun with.
pub(super) struct Plan<RB> {
    pub(super) now: Instant,
    pub(super) until: Instant,
    pub(super) deadline: Option<Instant>,
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
        Self { rest: None, sleep: None, due: false, next: None }
    }

    /// From now on it waits to call this service. Not with a body in hand: what may still be read of the last sending's
    /// decides whether there is one at the end.
    pub(super) fn begin(self: Pin<&mut Self>, service: S, plan: Plan<RB>)
    where
        RB: Body,
    {
        let Plan { now, until, deadline, rest } = plan;
        let mut this = self.project();
        if let Some(rest) = rest {
            this.rest.set(Drain::new(rest, now, until, deadline));
        }
        if until > now {
            this.sleep.set(Some(sleep_until(until)));
        }
        *this.due = false;
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
            ready!(rest.poll(cx));
            this.rest.set(None);
        }
        if !*this.due {
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                ready!(sleep.poll(cx));
            }
            *this.due = true;
            this.sleep.set(deadline.map(sleep_until));
        }
        let Some(service) = this.next else { return Poll::Pending };
        match service.poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(Missed { error: error.into(), reason: StopReason::NotReady }));
            }
            Poll::Pending => {
                let Some(sleep) = this.sleep.as_mut().as_pin_mut() else { return Poll::Pending };
                ready!(sleep.poll(cx));
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
