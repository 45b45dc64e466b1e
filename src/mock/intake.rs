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

pin_project! {
    /// Reads a body to its end, or to its cap.
    pub(crate) struct Intake<B> {
        #[pin]
        body: B,
        taken: Vec<u8>,
        cap: usize,
    }
}

impl<B> Intake<B> {
    pub(crate) fn new(body: B, cap: usize) -> Self {
        Self { body, taken: Vec::new(), cap }
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
        if this.body.size_hint().lower() > *this.cap as u64 {
            return Poll::Ready(Ok(None));
        }
        loop {
            match ready!(this.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(Some(std::mem::take(this.taken).into()))),
                Some(Err(error)) => return Poll::Ready(Err(MockError::request_body(error.into()))),
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    if this.taken.len().saturating_add(data.remaining()) > *this.cap {
                        return Poll::Ready(Ok(None));
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
