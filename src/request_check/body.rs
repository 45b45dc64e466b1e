//! [`CheckedBody`]: a request body that ends with an error where it grows past the limit.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

use super::{fault::BadRequest, head::too_large};
use crate::body::Resend;

pin_project! {
    /// The body of a request that went through [`RequestCheck`](super::RequestCheck).
    ///
    /// Past the limit it fails with a [`BadRequest`]; until then its frames, trailers and size are the inner body's.
    #[derive(Clone, Debug, Default)]
    pub struct CheckedBody<B> {
        #[pin]
        body: B,
        left: u64,
        max: u64,
    }
}

impl<B> CheckedBody<B> {
    pub(super) fn new(body: B, max: u64) -> Self {
        Self { body, left: max, max }
    }

    /// The inner body.
    #[must_use]
    pub fn into_inner(self) -> B {
        self.body
    }
}

impl<B> Body for CheckedBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let Some(frame) = ready!(this.body.poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        let bytes = frame.data_ref().map_or(0, |data| u64::try_from(data.remaining()).unwrap_or(u64::MAX));
        match this.left.checked_sub(bytes) {
            Some(left) => *this.left = left,
            None => {
                *this.left = 0;
                let fault = too_large("more".into(), *this.max);
                return Poll::Ready(Some(Err(BadRequest::new(vec![fault]).into())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Resend> Resend for CheckedBody<B> {
    fn resend(&self) -> Option<Self> {
        Some(Self::new(self.body.resend()?, self.max))
    }

    fn can_resend(&self) -> bool {
        self.body.can_resend()
    }

    fn in_memory(&self) -> Option<Bytes> {
        self.body.in_memory()
    }
}
