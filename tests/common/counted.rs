//! Bodies that are counted while they are held, and bodies that never end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Map};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Duration, Sleep, sleep};
use tower::Service;

/// How many bodies are held at this moment, how many were at once, and how many were read to their end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    ended: AtomicUsize,
    bytes: AtomicUsize,
}

impl Open {
    pub(crate) fn now(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }

    pub(crate) fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }

    /// Read to their end.
    pub(crate) fn ended(&self) -> usize {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Bytes read of all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// A body that counts.
    pub(crate) fn body<B>(&self, inner: B) -> OpenBody<B> {
        let now = self.0.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most.fetch_max(now, Ordering::Relaxed);
        OpenBody { inner, open: self.clone() }
    }
}

#[derive(Debug)]
pub(crate) struct OpenBody<B> {
    inner: B,
    open: Open,
}

impl<B> Drop for OpenBody<B> {
    fn drop(&mut self) {
        self.open.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for OpenBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            None => drop(self.open.0.ended.fetch_add(1, Ordering::Relaxed)),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.open.0.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A service whose answers' bodies are counted.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    open: Open,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S) -> (Self, Open) {
        let open = Open::default();
        (Self { inner, open: open.clone() }, open)
    }
}

type Answer<B, E> = Result<Response<B>, E>;

impl<S, B, RB> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: 'static,
    RB: 'static,
{
    type Response = Response<OpenBody<RB>>;
    type Error = S::Error;
    type Future = Map<S::Future, Box<dyn FnOnce(Answer<RB, S::Error>) -> Answer<OpenBody<RB>, S::Error> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let open = self.open.clone();
        self.inner.call(request).map(Box::new(move |answer| answer.map(|answer| answer.map(|body| open.body(body)))))
    }
}

/// A body without an end: a chunk, a pause, a chunk …
#[derive(Debug)]
pub(crate) struct Endless {
    chunk: Bytes,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Endless {
    pub(crate) fn new(chunk: &'static [u8], pause: Duration) -> Self {
        Self { chunk: Bytes::from_static(chunk), pause, sleep: None }
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.pause.is_zero() {
            let pause = self.pause;
            ready!(self.sleep.get_or_insert_with(|| Box::pin(sleep(pause))).as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}
