//! Bodies on their way through.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tower::BoxError;
use tower_outbound::body::{ReplayBody, ReplayError, Resend};

/// The part that a body has of the room for all of them, given back when no copy of the body is left.
pub(crate) type Share = Arc<OwnedSemaphorePermit>;

/// A request's body: in memory, or streamed as it comes and kept as far as it may have to go again. What is large and rare is
/// in a box: a request is moved about a good deal.
#[derive(Debug)]
pub(crate) enum Upload {
    Whole { content: Bytes, trailers: Option<Box<HeaderMap>>, share: Option<Share> },
    Streamed { body: Box<ReplayBody<Rest>>, share: Option<Share> },
}

impl Upload {
    pub(crate) fn empty() -> Self {
        Self::Whole { content: Bytes::new(), trailers: None, share: None }
    }
}

impl Resend for Upload {
    fn resend(&self) -> Option<Self> {
        Some(match self {
            Self::Whole { content, trailers, share } => {
                Self::Whole { content: content.clone(), trailers: trailers.clone(), share: share.clone() }
            }
            Self::Streamed { body, share } => Self::Streamed { body: Box::new(body.resend()?), share: share.clone() },
        })
    }

    fn can_resend(&self) -> bool {
        match self {
            Self::Whole { .. } => true,
            Self::Streamed { body, .. } => body.can_resend(),
        }
    }

    fn in_memory(&self) -> Option<Bytes> {
        match self {
            Self::Whole { content, .. } => Some(content.clone()),
            Self::Streamed { .. } => None,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = ReplayError<hyper::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole { content, .. } if !content.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(content)))))
            }
            Self::Whole { trailers, .. } => Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(*trailers)))),
            Self::Streamed { body, .. } => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { content, trailers, .. } => content.is_empty() && trailers.is_none(),
            Self::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { content, trailers: None, .. } => SizeHint::with_exact(content.len() as u64),
            // What is of a known length is sent without trailers.
            Self::Whole { .. } => SizeHint::new(),
            Self::Streamed { body, .. } => body.size_hint(),
        }
    }
}

/// What was read of a body already, and then the rest of it.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) read: Bytes,
    pub(crate) body: Incoming,
}

impl Body for Rest {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, read) = (self.body.size_hint(), self.read.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

pin_project! {
    /// A body that keeps something until it ends or is dropped. What came before an error goes out first: hyper closes a
    /// connection with all that it has not yet written.
    pub(crate) struct Keeping<B, K> {
        #[pin]
        body: B,
        kept: Option<K>,
        error: Option<BoxError>,
    }
}

impl<B, K> Keeping<B, K> {
    pub(crate) fn new(body: B, kept: K) -> Self {
        Self { body, kept: Some(kept), error: None }
    }
}

impl<B: Body<Error: Into<BoxError>>, K> Body for Keeping<B, K> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if let Some(error) = this.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(this.body.poll_frame(cx)) {
            Some(Err(error)) => {
                *this.error = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                *this.kept = None;
                Poll::Ready(None)
            }
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.error.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
