//! Bodies of every kind: whole, in pieces over time, large, slow, broken off; and such as go only once.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::{Sleep, sleep};
use tower::BoxError;
use tower_outbound::body::{Once, ReplayBody, Resend};

/// A body that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<Bytes>,
    gap: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// In place of its end.
    failure: Option<io::ErrorKind>,
}

impl Pieces {
    pub(crate) fn new(pieces: impl IntoIterator<Item = Bytes>, gap: Duration) -> Self {
        Self { pieces: pieces.into_iter().collect(), gap, ..Self::default() }
    }

    pub(crate) fn broken(self, failure: io::ErrorKind) -> Self {
        Self { failure: Some(failure), ..self }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        let Some(piece) = self.pieces.pop_front() else {
            return Poll::Ready(self.failure.take().map(|kind| Err(io::Error::from(kind).into())));
        };
        if !self.gap.is_zero() {
            self.sleep = Some(Box::pin(sleep(self.gap)));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.sleep.is_none() && self.failure.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.failure {
            None => SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum()),
            Some(_) => SizeHint::default(),
        }
    }
}

/// A request's body.
pub(crate) enum Upload {
    Whole(Full<Bytes>),
    Stream(ReplayBody<Pieces>),
    Once(Once<Full<Bytes>>),
}

impl Upload {
    /// The same content, in one of several ways.
    pub(crate) fn new(content: Bytes, way: u32) -> Self {
        let halves = |content: Bytes| [content.slice(..content.len() / 2), content.slice(content.len() / 2..)];
        match way % 8 {
            0 => Self::Once(Once::new(Full::new(content))),
            1 => Self::Stream(ReplayBody::new(Pieces::new(halves(content), Duration::ZERO), 1024)),
            2 => Self::Stream(ReplayBody::new(Pieces::new(halves(content), Duration::from_millis(3)), 1024)),
            // More than is kept: it goes once, if it was read.
            3 => Self::Stream(ReplayBody::new(Pieces::new(halves(content), Duration::ZERO), 4)),
            _ => Self::Whole(Full::new(content)),
        }
    }
}

impl Resend for Upload {
    fn resend(&self) -> Option<Self> {
        match self {
            Self::Whole(body) => body.resend().map(Self::Whole),
            Self::Stream(body) => body.resend().map(Self::Stream),
            Self::Once(body) => body.resend().map(Self::Once),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Stream(body) => Pin::new(body).poll_frame(cx).map_err(|error| error.to_string().into()),
            Self::Once(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
            Self::Once(body) => body.is_end_stream(),
        }
    }
}
