//! The body of a mocked response, and the errors of mocked connections.

use std::{
    collections::VecDeque,
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tower::BoxError;

/// One step in the giving of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    Data(Bytes),
    Wait(Duration),
    Fail(MockErrorKind),
}

/// The body of a mocked response: whole, or in pieces over time, or broken off.
#[derive(Debug, Default)]
pub struct MockBody {
    pieces: VecDeque<Piece>,
    sleep: Option<Pin<Box<Sleep>>>,
    reset: Option<Arc<AtomicBool>>,
}

impl MockBody {
    pub(crate) fn whole(data: impl Into<Bytes>) -> Self {
        Self::in_pieces([Piece::Data(data.into())])
    }

    pub(crate) fn in_pieces(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| match piece {
            Piece::Data(data) => !data.is_empty(),
            Piece::Wait(time) => !time.is_zero(),
            Piece::Fail(_) => true,
        });
        Self { pieces: pieces.collect(), ..Self::default() }
    }

    /// The length, where it is one that a `Content-Length` can announce: neither streamed nor broken.
    pub(crate) fn length(&self) -> Option<u64> {
        self.pieces.iter().try_fold(0_u64, |sum, piece| match piece {
            Piece::Data(data) => sum.checked_add(data.len() as u64),
            Piece::Wait(_) | Piece::Fail(_) => None,
        })
    }

    /// Breaks off within the data: half of it goes out, then the failure. Says how long the whole would have been.
    pub(crate) fn broken(mut self, how: MockErrorKind) -> (Self, u64) {
        let total: u64 = self.data().map(|data| data.len() as u64).sum();
        let mut left = total / 2;
        let mut pieces = VecDeque::new();
        for piece in self.pieces.drain(..) {
            if left == 0 {
                break;
            }
            pieces.push_back(match piece {
                Piece::Data(mut data) => {
                    data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= data.len() as u64;
                    Piece::Data(data)
                }
                other => other,
            });
        }
        // A moment between the two, so that a server has flushed what goes before.
        pieces.extend([Piece::Wait(Duration::from_millis(2)), Piece::Fail(how)]);
        (Self { pieces, ..self }, total)
    }

    fn data(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Data(data) => Some(data),
            Piece::Wait(_) | Piece::Fail(_) => None,
        })
    }

    /// Raises the flag when the body fails by a reset, for the server whose socket it is.
    pub(crate) fn on_reset(mut self, flag: Arc<AtomicBool>) -> Self {
        self.reset = Some(flag);
        self
    }
}

impl Body for MockBody {
    type Data = Bytes;
    type Error = MockError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.pieces.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Piece::Wait(time)) => self.sleep = Some(Box::pin(sleep(time))),
                Some(Piece::Fail(kind)) => {
                    self.pieces.clear();
                    if let (MockErrorKind::Reset, Some(reset)) = (kind, &self.reset) {
                        reset.store(true, Ordering::Release);
                    }
                    return Poll::Ready(Some(Err(kind.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.sleep.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length() {
            Some(length) if self.sleep.is_none() => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

/// What kind of [`MockError`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MockErrorKind {
    /// The connection was reset, before the head of the response or in its body.
    Reset,
    /// The response ended before its announced length.
    Truncated,
    /// The request's own body failed while it was read.
    RequestBody,
    /// A strict [`Script`](super::Script) was called on a clone that had not said it is ready.
    NotReady,
    /// A [`Script`](super::Script) was told to be ready no more, and to say so as an error.
    Closed,
    /// A [`Script`](super::Script) was called more often than it has answers.
    ScriptEnded,
    /// A [`Script`](super::Script) has an answer that cannot be given, such as a status of 42.
    BadScript,
}

/// A mocked connection failed, or the mock was used against its rules.
///
/// Failures of the connection have a [`std::io::Error`] of the usual kind as their source, as a real client's have.
#[derive(Debug)]
pub struct MockError {
    kind: MockErrorKind,
    what: Option<String>,
    source: Option<BoxError>,
}

impl MockError {
    pub(crate) fn new(kind: MockErrorKind, what: impl Into<String>) -> Self {
        Self { what: Some(what.into()), ..kind.into() }
    }

    pub(crate) fn request_body(source: BoxError) -> Self {
        Self { kind: MockErrorKind::RequestBody, what: None, source: Some(source) }
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> MockErrorKind {
        self.kind
    }
}

impl From<MockErrorKind> for MockError {
    fn from(kind: MockErrorKind) -> Self {
        let source = match kind {
            MockErrorKind::Reset => Some(io::ErrorKind::ConnectionReset),
            MockErrorKind::Truncated => Some(io::ErrorKind::UnexpectedEof),
            _ => None,
        };
        Self { kind, what: None, source: source.map(|kind| io::Error::from(kind).into()) }
    }
}

impl fmt::Display for MockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            MockErrorKind::Reset => "the connection was reset",
            MockErrorKind::Truncated => "the response ended before its announced length",
            MockErrorKind::RequestBody => "the request's body failed",
            MockErrorKind::NotReady => "called without being ready",
            MockErrorKind::Closed => "ready no more",
            MockErrorKind::ScriptEnded => "the script has no answer left",
            MockErrorKind::BadScript => "the script has an answer that cannot be given",
        })?;
        self.what.as_ref().map_or(Ok(()), |what| write!(f, ": {what}"))
    }
}

impl Error for MockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
