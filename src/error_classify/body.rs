use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::look::Watch;
use crate::body::peek::Peek;

pin_project! {
    /// The body of a response that went through [`ErrorClassify`](super::ErrorClassify): the inner one, or what was read of it and the rest.
    ///
    /// Frames, trailers, errors and the size hint are those of the inner body, in their order.
    pub struct ResponseBody<B: Body> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<B: Body> {
        Untouched { #[pin] body: B },
        Peeked { peek: Pin<Box<Peek<B, Watch>>> },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        Self { inner: Inner::Untouched { body } }
    }

    pub(super) fn peeked(peek: Pin<Box<Peek<B, Watch>>>) -> Self {
        Self { inner: Inner::Peeked { peek } }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().inner.project() {
            InnerProj::Untouched { body } => body.poll_frame(cx),
            InnerProj::Peeked { peek } => peek.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Untouched { body } => body.is_end_stream(),
            Inner::Peeked { peek } => peek.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Untouched { body } => body.size_hint(),
            Inner::Peeked { peek } => peek.size_hint(),
        }
    }
}

impl<B: Body + Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::untouched(B::default())
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = matches!(self.inner, Inner::Peeked { .. });
        f.debug_struct("ResponseBody").field("read", &read).finish_non_exhaustive()
    }
}
