//! Bodies on their way through.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_outbound::body::{ReplayBody, ReplayError, Resend};

/// A request's body: streamed as it comes, and kept as far as it may have to go again.
#[derive(Debug)]
pub(crate) enum Upload {
    Empty,
    Streamed(ReplayBody<Incoming>),
}

impl Upload {
    /// Keeps at most `max_bytes`; nothing of a body that says it is longer.
    pub(crate) fn new(body: Incoming, max_bytes: usize) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        let is_too_long = body.size_hint().lower() > max_bytes as u64;
        Self::Streamed(ReplayBody::new(body, if is_too_long { 0 } else { max_bytes }))
    }
}

impl Resend for Upload {
    fn resend(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Streamed(body) => body.resend().map(Self::Streamed),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = ReplayError<hyper::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

pin_project! {
    /// A body that keeps something until it ends or is dropped.
    pub(crate) struct Keeping<B, K> {
        #[pin]
        body: B,
        kept: Option<K>,
    }
}

impl<B, K> Keeping<B, K> {
    pub(crate) fn new(body: B, kept: K) -> Self {
        Self { body, kept: Some(kept) }
    }
}

impl<B: Body, K> Body for Keeping<B, K> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if frame.is_none() {
            *this.kept = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
