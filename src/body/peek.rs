//! Reads the head of a body, under a cap of bytes and one of time, and gives it all back: frame by frame, as it came.

use std::{
    collections::VecDeque,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;

/// Sees the data as it arrives, at the time of reading and when the rest streams by.
pub(crate) trait Look {
    /// Sees some data, in order. `true`: it has seen enough, and the reading may end.
    fn data(&mut self, data: &[u8]) -> bool;

    /// Sees the end.
    fn end(&mut self);
}

/// How much is read, and for how long. The frame that goes past the cap is in memory already, and is kept as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// What a body gives when it is polled.
type NextFrame<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

/// A body of many tiny frames takes more room for the frames than for what is in them.
const MAX_FRAMES: usize = 1024;

pin_project! {
    /// A body that is being read, and then replays what was read before it goes on.
    ///
    /// It lives in a box from the start: a body that must not move has to be read where it stays.
    pub(crate) struct Peek<B: Body, L> {
        // Dropped at its end: the connection under it is free then, though the response is kept.
        #[pin]
        body: Option<B>,
        #[pin]
        sleep: Option<Sleep>,
        look: L,
        limits: Limits,
        // Nearly every error is one frame, which needs no list.
        first: Option<Frame<B::Data>>,
        more: VecDeque<Frame<B::Data>>,
        error: Option<B::Error>,
        // As it was before anything was read, less what has been given back.
        hint: SizeHint,
        read: usize,
    }
}

impl<B: Body, L: Look> Peek<B, L> {
    pub(crate) fn new(body: B, look: L, limits: Limits) -> Self {
        let hint = body.size_hint();
        Self {
            body: Some(body),
            sleep: None,
            look,
            limits,
            first: None,
            more: VecDeque::new(),
            error: None,
            hint,
            read: 0,
        }
    }

    /// Reads until the end, a cap, or until the look has seen enough. What is ready when it is called costs no timer.
    ///
    /// Dropping the future that polls this loses nothing but the response.
    pub(crate) fn poll_peek(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        while let Some(body) = this.body.as_mut().as_pin_mut() {
            match body.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let mut enough = false;
                    if let Some(data) = frame.data_ref() {
                        *this.read = this.read.saturating_add(data.remaining());
                        each_chunk(data, |chunk| enough |= this.look.data(chunk));
                    }
                    if this.first.is_none() {
                        *this.first = Some(frame);
                    } else {
                        this.more.push_back(frame);
                    }
                    if this.body.as_ref().as_pin_ref().is_some_and(|body| body.is_end_stream()) {
                        break;
                    }
                    if enough || *this.read > this.limits.bytes || this.more.len() >= MAX_FRAMES {
                        this.sleep.set(None);
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    *this.error = Some(error);
                    break;
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    if this.sleep.is_none() {
                        this.sleep.set(Some(tokio::time::sleep(this.limits.time)));
                    }
                    if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                        ready!(sleep.poll(cx));
                    }
                    this.sleep.set(None);
                    return Poll::Ready(());
                }
            }
        }
        this.sleep.set(None);
        this.body.set(None);
        this.look.end();
        Poll::Ready(())
    }

    /// Whether it was read to its end, be that an error; then nothing below it is held any more.
    pub(crate) fn is_whole(&self) -> bool {
        self.body.is_none()
    }

    pub(crate) fn look(self: Pin<&mut Self>) -> &mut L {
        self.project().look
    }

    /// What was read, in one piece: where it is one piece already, without a copy.
    pub(crate) fn with_data<R>(&self, then: impl FnOnce(&[u8]) -> R) -> R {
        let mut frames =
            self.first.iter().chain(&self.more).filter_map(Frame::data_ref).filter(|data| data.has_remaining());
        match (frames.next(), frames.next()) {
            (None, _) => then(&[]),
            (Some(data), None) if data.chunk().len() == data.remaining() => then(data.chunk()),
            (Some(first), second) => {
                // Of what is read only what the cap allows is judged, though the frame past it is kept.
                let most = self.limits.bytes;
                let mut joined = Vec::with_capacity(self.read.min(most));
                for data in std::iter::once(first).chain(second).chain(frames) {
                    each_chunk(data, |chunk| {
                        let room = most.saturating_sub(joined.len());
                        joined.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
                    });
                }
                then(&joined)
            }
        }
    }

    /// The next frame: what was read, then where it broke off, then the rest.
    pub(crate) fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame<B>> {
        let mut this = self.project();
        if let Some(frame) = this.first.take().or_else(|| this.more.pop_front()) {
            if let Some(data) = frame.data_ref() {
                *this.hint = less(this.hint, data.remaining());
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = this.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let frame = ready!(body.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    each_chunk(data, |chunk| {
                        this.look.data(chunk);
                    });
                }
            }
            Some(Err(_)) => {}
            None => {
                this.body.set(None);
                this.look.end();
            }
        }
        Poll::Ready(frame)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.first.is_none()
            && self.more.is_empty()
            && self.error.is_none()
            && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) if self.first.is_none() && self.more.is_empty() => body.size_hint(),
            _ => less(&self.hint, 0),
        }
    }
}

/// What a body still expects after it gave so many bytes.
fn less(hint: &SizeHint, given: usize) -> SizeHint {
    let given = u64::try_from(given).unwrap_or(u64::MAX);
    let mut rest = SizeHint::new();
    if let Some(upper) = hint.upper() {
        rest.set_upper(upper.saturating_sub(given));
    }
    rest.set_lower(hint.lower().saturating_sub(given));
    rest
}

/// Every piece of a buffer in its order, none consumed. One that does not tell all its pieces shows its first.
fn each_chunk(data: &impl Buf, mut then: impl FnMut(&[u8])) {
    if data.chunk().len() == data.remaining() {
        return then(data.chunk());
    }
    let mut pieces = [IoSlice::new(&[]); 16];
    let known = data.chunks_vectored(&mut pieces);
    pieces.iter().take(known).for_each(|piece| then(piece));
}
