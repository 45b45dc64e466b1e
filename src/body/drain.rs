//! Reads a body that nobody wants to its end, so that its connection lives on: within bounds.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;

/// Past this, a new connection is cheaper than reading on.
const MAX_BYTES: usize = 64 * 1024;
/// A server that trickles is not waited for: no longer than there is to wait anyway, and this at the least and the most.
const LEAST_TIME: Duration = Duration::from_millis(100);
const MAX_TIME: Duration = Duration::from_secs(1);

pin_project! {
    /// Completes when the body has ended, failed, or gone past the most bytes. Whoever polls it sees to the time.
    pub(crate) struct Drain<B> {
        #[pin]
        body: B,
        left: usize,
    }
}

impl<B: Body> Drain<B> {
    /// `None` if `body` has ended already.
    pub(crate) fn new(body: B) -> Option<Self> {
        (!body.is_end_stream()).then_some(Self { body, left: MAX_BYTES })
    }
}

/// When to stop reading: while the wait until `due` lasts, if there is one, and not after `deadline`.
pub(crate) fn limit(now: Instant, due: Option<Instant>, deadline: Option<Instant>) -> Instant {
    let until = due.unwrap_or(now).clamp(now + LEAST_TIME, now + MAX_TIME);
    deadline.map_or(until, |deadline| deadline.min(until))
}

impl<B: Body> Future for Drain<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        while let Some(Ok(frame)) = ready!(this.body.as_mut().poll_frame(cx)) {
            // A frame without bytes counts too: an endless row of them is no end of the body.
            let bytes = frame.data_ref().map_or(0, Buf::remaining);
            match this.left.checked_sub(bytes.max(1)) {
                Some(left) => *this.left = left,
                None => break,
            }
        }
        Poll::Ready(())
    }
}
