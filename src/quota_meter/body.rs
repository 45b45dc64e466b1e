//! The response body as it leaves the meter.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::tap::Tap;

pin_project! {
    /// The inner service's body, unchanged.
    ///
    /// Of a good answer in JSON or events the meter reads `usage` as it passes: nothing is held back, delayed or changed.
    /// What was used is settled when the body ends or is dropped; of one that was dropped before it said, the estimate
    /// stands, and so does that of an answer that cannot be read: compressed, or of another type.
    #[derive(Debug, Default)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        // Settles when it is dropped.
        tap: Option<Box<Tap>>,
    }
}

impl<B> ResponseBody<B> {
    #[inline]
    pub(super) fn new(inner: B) -> Self {
        Self { inner, tap: None }
    }

    #[inline]
    pub(super) fn set_tap(&mut self, tap: Option<Box<Tap>>) {
        self.tap = tap;
    }

    /// The inner service's body. What is read of it from here on the meter does not see.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(tap) = this.tap {
            // Many do not ask again after the last piece.
            let is_end = frame.is_none() || this.inner.is_end_stream();
            let goes_on = match &frame {
                Some(Ok(frame)) => frame.data_ref().is_none_or(|data| tap.read(data, is_end)),
                Some(Err(_)) | None => false,
            };
            if is_end {
                tap.end();
            }
            if !goes_on {
                *this.tap = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
