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
use tower::BoxError;
use tower_service::Service;

use super::{trip::Trip, wait::Missed};
use crate::{
    ApiError,
    body::Resend,
    kept::{HeaderList, Kept},
};

pin_project! {
    /// The response of a [`BackoffRetry`](super::BackoffRetry).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, RB>
    where
        S: Service<Request<B>>,
    {
        // `None` between two attempts.
        #[pin]
        pub(super) attempt: Option<S::Future>,
        // `None` if the request's body can go only once.
        pub(super) kept: Option<Kept<B, HeaderList>>,
        // `None`: a retry further out owns the call.
        pub(super) trip: Option<Trip<S, RB>>,
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
        let mut has_sent = false;
        loop {
            if let Some(future) = this.attempt.as_mut().as_pin_mut() {
                let mut result = ready!(future.poll(cx)).map_err(Into::into);
                let Some(trip) = this.trip else { return Poll::Ready(result) };
                if let Ok(response) = &mut result
                    && is_good(response)
                {
                    trip.succeed(response);
                    return Poll::Ready(result);
                }
                if let Some(result) = trip.judge(this.kept.as_ref(), result) {
                    return Poll::Ready(result);
                }
                // With its permit, if it held one.
                this.attempt.set(None);
            }
            let (Some(trip), Some(kept)) = (&mut *this.trip, &*this.kept) else { return Poll::Pending };
            if has_sent {
                // Nothing had to be waited for: others have their turn, a time limit further out among them.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut service = match ready!(trip.poll_next(cx)) {
                Ok(service) => service,
                Err(missed) => return Poll::Ready(trip.give_up(missed)),
            };
            let Some(body) = kept.body() else { return Poll::Ready(trip.give_up(Missed::body())) };
            let mut request = kept.again(body);
            trip.send(&mut request);
            this.attempt.set(Some(service.call(request)));
            has_sent = true;
        }
    }
}

/// Asked of every answer; mostly nobody said anything about it.
#[inline]
pub(super) fn is_good<RB>(response: &Response<RB>) -> bool {
    let extensions = response.extensions();
    response.status().as_u16() < 400 && (extensions.is_empty() || extensions.get::<ApiError>().is_none())
}

impl<S, B, RB> fmt::Debug for ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.attempt {
            Some(_) => "backoff_retry::ResponseFuture(attempt)",
            None => "backoff_retry::ResponseFuture(waiting)",
        })
    }
}
