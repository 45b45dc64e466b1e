//! [`ReplayBody`]: a stream that can go again, as far as its buffer holds it.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Resend;

/// A streamed body that keeps what it has sent, up to a bound, so that it can go again from its start.
///
/// It is read from its source once, whoever reads: a sending that stopped early leaves the rest to the next one. Once
/// more than the bound has passed, what was kept is let go and the body goes only this once; nothing fails by that.
///
/// Put it on once, at the outside, so that all layers share one buffer:
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::{Full, BodyExt};
/// use tower_outbound::body::{ReplayBody, Resend};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let body = ReplayBody::new(Full::new(Bytes::from_static(b"a stream")), 64 * 1024);
/// let again = body.resend().expect("nothing has gone yet");
/// assert_eq!(body.collect().await.unwrap().to_bytes(), "a stream");
/// assert_eq!(again.collect().await.unwrap().to_bytes(), "a stream");
/// # }
/// ```
pub struct ReplayBody<B: Body> {
    shared: Arc<Mutex<Shared<B>>>,
    /// Tells apart those who read.
    id: u64,
    /// Chunks this one has given out.
    next: usize,
    trailers_given: bool,
}

struct Shared<B: Body> {
    source: Pin<Box<B>>,
    /// What came so far, whole; `None` once it was too much.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    max_bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    failed: bool,
    readers: u64,
    /// Those who wait for the source: it knows only the last.
    waiting: Vec<(u64, Waker)>,
}

impl<B: Body> ReplayBody<B> {
    /// Keeps up to `max_bytes` of `body`.
    pub fn new(body: B, max_bytes: usize) -> Self {
        let shared = Shared {
            source: Box::pin(body),
            kept: Some(Vec::new()),
            kept_bytes: 0,
            max_bytes,
            trailers: None,
            ended: false,
            failed: false,
            readers: 1,
            waiting: Vec::new(),
        };
        Self { shared: Arc::new(Mutex::new(shared)), id: 0, next: 0, trailers_given: false }
    }

    fn shared(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a [`ReplayBody`] broke off.
#[derive(Debug)]
pub enum ReplayError<E> {
    /// The source failed.
    Source(E),
    /// It was read again after more had passed than is kept, or after its source had failed.
    Gone,
}

impl<E: fmt::Display> fmt::Display for ReplayError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "the request body failed: {error}"),
            Self::Gone => f.write_str("the request body is gone: more of it had passed than is kept"),
        }
    }
}

impl<E: Error + 'static> Error for ReplayError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            Self::Gone => None,
        }
    }
}

impl<B: Body> Resend for ReplayBody<B> {
    fn resend(&self) -> Option<Self> {
        let mut shared = self.shared();
        if shared.kept.is_none() || shared.failed {
            return None;
        }
        let id = shared.readers;
        shared.readers += 1;
        Some(Self { shared: Arc::clone(&self.shared), id, next: 0, trailers_given: false })
    }
}

impl<B: Body> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let mut shared = this.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &shared.kept {
            Some(kept) => {
                if let Some(chunk) = kept.get(this.next) {
                    this.next += 1;
                    return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
                }
            }
            // Only who stands at the source goes on from here.
            None if this.next != usize::MAX => return Poll::Ready(Some(Err(ReplayError::Gone))),
            None => {}
        }
        if shared.failed {
            return Poll::Ready(Some(Err(ReplayError::Gone)));
        }
        if shared.ended {
            let trailers = shared.trailers.clone().filter(|_| !this.trailers_given);
            this.trailers_given = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match shared.source.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                shared.waiting.retain(|(id, _)| *id != this.id);
                shared.waiting.push((this.id, cx.waker().clone()));
                return Poll::Pending;
            }
        };
        let waiting = std::mem::take(&mut shared.waiting);
        let given = shared.take_in(frame, &mut this.next, &mut this.trailers_given);
        drop(shared);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
        Poll::Ready(given)
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared();
        match &shared.kept {
            Some(kept) => {
                let is_at_source = self.next >= kept.len();
                is_at_source
                    && if shared.ended {
                        shared.trailers.is_none() || self.trailers_given
                    } else {
                        shared.source.is_end_stream()
                    }
            }
            None => shared.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared();
        let rest = shared.source.size_hint();
        let replayed = match &shared.kept {
            Some(kept) => kept.iter().skip(self.next).map(|chunk| chunk.len() as u64).sum(),
            None => 0,
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(replayed));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(replayed)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B: Body> Shared<B> {
    /// Takes in a frame from the source, for the reader at `next`.
    fn take_in(
        &mut self,
        frame: Option<Result<Frame<B::Data>, B::Error>>,
        next: &mut usize,
        trailers_given: &mut bool,
    ) -> Option<Result<Frame<Bytes>, ReplayError<B::Error>>> {
        match frame {
            None => {
                self.ended = true;
                None
            }
            Some(Err(error)) => {
                self.failed = true;
                Some(Err(ReplayError::Source(error)))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(mut data) => {
                    let chunk = data.copy_to_bytes(data.remaining());
                    self.keep(&chunk, next);
                    Some(Ok(Frame::data(chunk)))
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.ended = true;
                    self.trailers = Some(trailers.clone());
                    *trailers_given = true;
                    Some(Ok(Frame::trailers(trailers)))
                }
            },
        }
    }

    fn keep(&mut self, chunk: &Bytes, next: &mut usize) {
        let Some(kept) = &mut self.kept else { return };
        match self.kept_bytes.checked_add(chunk.len()).filter(|bytes| *bytes <= self.max_bytes) {
            Some(bytes) => {
                self.kept_bytes = bytes;
                kept.push(chunk.clone());
                *next += 1;
            }
            None => {
                self.kept = None;
                *next = usize::MAX;
            }
        }
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        f.debug_struct("ReplayBody")
            .field("kept_bytes", &shared.kept.as_ref().map(|_| shared.kept_bytes))
            .field("max_bytes", &shared.max_bytes)
            .finish_non_exhaustive()
    }
}
