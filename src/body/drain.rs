//! Reads a body that nobody wants to its end, so that its connection lives on: within bounds.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// Past this, a new connection is cheaper than reading on.
const MAX_BYTES: usize = 64 * 1024;
/// A server that trickles is not waited for: no longer than there is to wait anyway, and this at the least and the most.
const LEAST_TIME: Duration = Duration::from_millis(100);
const MAX_TIME: Duration = Duration::from_secs(1);

pin_project! {
    /// Completes when the body has ended, failed, or gone past the bounds.
    pub(crate) struct Drain<B> {
        #[pin]
        body: B,
        left: usize,
        until: Instant,
        // Only once there is something to wait for.
        #[pin]
        limit: Option<Sleep>,
    }
}

impl<B: Body> Drain<B> {
    /// Starts to read `body`, while the wait until `due` lasts, and until `deadline` at the longest; `None` if it has ended
    /// already.
    pub(crate) fn new(body: B, now: Instant, due: Instant, deadline: Option<Instant>) -> Option<Self> {
        let until = due.clamp(now + LEAST_TIME, now + MAX_TIME);
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        (!body.is_end_stream()).then_some(Self { body, left: MAX_BYTES, until, limit: None })
    }
}

impl<B: Body> Future for Drain<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // A frame without bytes counts too: an endless row of them is no end of the body.
                    let bytes = frame.data_ref().map_or(0, Buf::remaining);
                    match this.left.checked_sub(bytes.max(1)) {
                        Some(left) => *this.left = left,
                        None => return Poll::Ready(()),
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if this.limit.is_none() {
            this.limit.set(Some(sleep_until(*this.until)));
        }
        this.limit.as_pin_mut().map_or(Poll::Pending, |limit| limit.poll(cx))
    }
}
