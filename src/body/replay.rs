//! [`ReplayBody`]: a stream that can go again, as far as its buffer holds it.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Resend;

/// A streamed body that keeps what it has sent, up to a bound, so that it can go again from its start.
///
/// It is read from its source once, whoever reads: a sending that stopped early leaves the rest to the next one. Once
/// more than the bound has passed, what was kept is let go and the body goes only this once; nothing fails by that.
/// Two sendings under way at the same time both get it whole, as far as it is kept. Past that it goes on for the one
/// that began last, and the other breaks off with [`ReplayError::Gone`]: an upload that nobody waits for any more cannot
/// use up the body of its successor.
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
    has_begun: bool,
    /// Kept chunks this one has given out.
    next: usize,
    trailers_given: bool,
}

struct Shared<B: Body> {
    source: Pin<Box<B>>,
    /// What came so far, whole. Past the bound: what the last reader has still to give out.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    max_bytes: usize,
    /// More came than is kept.
    is_past: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
    failed: bool,
    readers: u64,
    /// Those who read, in the order in which they began.
    begun: Vec<u64>,
    waiting: Arc<Waiting>,
    /// Wakes all who wait.
    waker: Waker,
}

/// Those who wait for the source. It knows only one waker, and whose that is may never ask again.
#[derive(Default)]
struct Waiting(Mutex<Vec<(u64, Waker)>>);

impl Waiting {
    fn list(&self) -> MutexGuard<'_, Vec<(u64, Waker)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, id: u64) {
        self.list().retain(|(waiting, _)| *waiting != id);
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = std::mem::take(&mut *self.list());
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl<B: Body> ReplayBody<B> {
    /// Keeps up to `max_bytes` of `body`.
    pub fn new(body: B, max_bytes: usize) -> Self {
        let waiting = Arc::new(Waiting::default());
        let shared = Shared {
            source: Box::pin(body),
            kept: Vec::new(),
            kept_bytes: 0,
            max_bytes,
            is_past: false,
            trailers: None,
            ended: false,
            failed: false,
            readers: 1,
            begun: Vec::new(),
            waker: Arc::clone(&waiting).into(),
            waiting,
        };
        Self::reader(Arc::new(Mutex::new(shared)), 0)
    }

    fn reader(shared: Arc<Mutex<Shared<B>>>, id: u64) -> Self {
        Self { shared, id, has_begun: false, next: 0, trailers_given: false }
    }

    fn shared(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        if self.has_begun {
            let mut shared = self.shared();
            shared.begun.retain(|id| *id != self.id);
            shared.waiting.remove(self.id);
        }
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
        if shared.is_past || shared.failed {
            return None;
        }
        let id = shared.readers;
        shared.readers += 1;
        Some(Self::reader(Arc::clone(&self.shared), id))
    }

    fn can_resend(&self) -> bool {
        let shared = self.shared();
        !shared.is_past && !shared.failed
    }
}

impl<B: Body> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let mut shared = this.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !this.has_begun && !shared.is_past {
            this.has_begun = true;
            shared.begun.push(this.id);
        }
        if shared.is_gone_for(this.id) {
            return Poll::Ready(Some(Err(ReplayError::Gone)));
        }
        if let Some(chunk) = shared.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if shared.is_past {
            this.next = shared.let_go(this.id);
        }
        if shared.failed {
            return Poll::Ready(Some(Err(ReplayError::Gone)));
        }
        if shared.ended {
            let trailers = shared.trailers.clone().filter(|_| !this.trailers_given);
            this.trailers_given = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let Shared { source, waiting, waker, .. } = &mut *shared;
        // Before the source is asked: it may wake at once.
        waiting.remove(this.id);
        waiting.list().push((this.id, cx.waker().clone()));
        let frame = ready!(source.as_mut().poll_frame(&mut Context::from_waker(waker)));
        waiting.remove(this.id);
        let waker = waker.clone();
        let given = shared.take_in(frame, this.id, &mut this.next, &mut this.trailers_given);
        drop(shared);
        waker.wake();
        Poll::Ready(given)
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared();
        // Who can no longer have it is not at its end: an empty body would go in its place.
        if shared.failed || shared.is_gone_for(self.id) || self.next < shared.kept.len() {
            return false;
        }
        if shared.ended {
            return shared.trailers.is_none() || self.trailers_given;
        }
        shared.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared();
        if shared.is_gone_for(self.id) {
            return SizeHint::default();
        }
        let rest = shared.source.size_hint();
        let replayed = shared.kept.iter().skip(self.next).map(|chunk| chunk.len() as u64).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(replayed));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(replayed)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B: Body> Shared<B> {
    /// Past the bound only the last who began goes on.
    fn is_gone_for(&self, id: u64) -> bool {
        self.is_past && self.begun.last() != Some(&id)
    }

    /// The last reader has given out all that was kept: nobody else can go on from here. Its place from now on.
    fn let_go(&mut self, id: u64) -> usize {
        self.kept = Vec::new();
        self.begun.retain(|begun| *begun == id);
        0
    }

    /// Takes in a frame from the source, for this reader, who had given out all that was kept.
    fn take_in(
        &mut self,
        frame: Option<Result<Frame<B::Data>, B::Error>>,
        reader: u64,
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
                    Some(self.keep(&chunk, reader, next).map(|()| Frame::data(chunk)))
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

    fn keep(&mut self, chunk: &Bytes, reader: u64, next: &mut usize) -> Result<(), ReplayError<B::Error>> {
        // Nothing is kept of what holds nothing: an endless row of empty frames would reach no bound.
        if self.is_past || chunk.is_empty() {
            return Ok(());
        }
        if let Some(bytes) = self.kept_bytes.checked_add(chunk.len()).filter(|bytes| *bytes <= self.max_bytes) {
            self.kept_bytes = bytes;
            self.kept.push(chunk.clone());
            *next += 1;
            return Ok(());
        }
        self.is_past = true;
        if self.is_gone_for(reader) {
            // One chunk more than the bound, until the last reader comes to it.
            self.kept.push(chunk.clone());
            return Err(ReplayError::Gone);
        }
        *next = self.let_go(reader);
        Ok(())
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        f.debug_struct("ReplayBody")
            .field("kept_bytes", &(!shared.is_past).then_some(shared.kept_bytes))
            .field("max_bytes", &shared.max_bytes)
            .finish_non_exhaustive()
    }
}
