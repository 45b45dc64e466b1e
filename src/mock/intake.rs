//! Takes in a request's body, up to a cap.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::body::MockError;

/// So much past the cap is read and thrown away: a server that closes with bytes unread resets the connection, and its
/// answer may be lost on the way.
const LINGER: usize = 64 << 20;

pin_project! {
    /// Reads a body to its end, or to its cap.
    pub(crate) struct Intake<B> {
        #[pin]
        body: B,
        taken: Vec<u8>,
        cap: usize,
        // What came in all.
        length: usize,
    }
}

impl<B> Intake<B> {
    pub(crate) fn new(body: B, cap: usize) -> Self {
        Self { body, taken: Vec::new(), cap, length: 0 }
    }
}

impl<B> Intake<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The whole body; `None` where it is longer than the cap.
    pub(crate) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, MockError>> {
        let mut this = self.project();
        loop {
            match ready!(this.body.as_mut().poll_frame(cx)) {
                None if *this.length > *this.cap => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Ok(Some(std::mem::take(this.taken).into()))),
                Some(Err(error)) => return Poll::Ready(Err(MockError::request_body(error.into()))),
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    *this.length = this.length.saturating_add(data.remaining());
                    if *this.length > this.cap.saturating_add(LINGER) {
                        return Poll::Ready(Ok(None));
                    }
                    if *this.length > *this.cap {
                        this.taken.clear();
                        continue;
                    }
                    while data.has_remaining() {
                        let chunk = data.chunk();
                        let length = chunk.len();
                        this.taken.extend_from_slice(chunk);
                        data.advance(length);
                    }
                }
            }
        }
    }
}
