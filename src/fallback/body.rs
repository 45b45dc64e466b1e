//! The body of a response that went through a [`Fallback`](super::Fallback).

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::record::Recorder;

pin_project! {
    /// A service's own body, copied on its way where the last good answer is asked for; or one that was kept or made.
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<B> {
        Own { #[pin] body: B, recorder: Option<Box<Recorder>> },
        Whole { #[pin] body: Full<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn own(body: B) -> Self {
        Self { inner: Inner::Own { body, recorder: None } }
    }

    pub(super) fn whole(body: Bytes) -> Self {
        Self { inner: Inner::Whole { body: Full::new(body) } }
    }
}

impl<B: Body> ResponseBody<B> {
    /// Copies what passes for `recorder`.
    pub(super) fn recorded(body: B, recorder: Box<Recorder>) -> Self {
        if body.is_end_stream() {
            (*recorder).store();
            return Self::own(body);
        }
        Self { inner: Inner::Own { body, recorder: Some(recorder) } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let (mut body, recorder) = match self.project().inner.project() {
            InnerProj::Whole { body } => return body.poll_frame(cx).map_err(|never| match never {}),
            InnerProj::Own { body, recorder } => (body, recorder),
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        if let Some(mut copy) = recorder.take() {
            match &frame {
                // Broken off: what there is, is no answer.
                Some(Err(_)) => {}
                None => (*copy).store(),
                Some(Ok(frame)) => {
                    let is_kept = frame.data_ref().is_none_or(|data| copy.push(data));
                    if is_kept && body.is_end_stream() {
                        // Who reads may know it too, and not ask for more.
                        (*copy).store();
                    } else if is_kept {
                        *recorder = Some(copy);
                    }
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own { body, .. } => body.is_end_stream(),
            Inner::Whole { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own { body, .. } => body.size_hint(),
            Inner::Whole { body } => body.size_hint(),
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::own(B::default())
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = matches!(self.inner, Inner::Own { .. });
        f.debug_struct("ResponseBody").field("own", &own).finish_non_exhaustive()
    }
}
