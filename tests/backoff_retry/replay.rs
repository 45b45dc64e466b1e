//! `ReplayBody` and `Remake` by themselves: two sendings of one body, and one that nobody waits for any more.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use futures_util::stream;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc;
use tower_outbound::body::{Remake, ReplayBody, ReplayError, Resend};

/// A body of what is sent into it.
fn piped() -> (mpsc::UnboundedSender<&'static str>, impl Body<Data = Bytes, Error = Infallible>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let chunks = stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|chunk| Some(Ok(Frame::data(Bytes::from_static(str::as_bytes(chunk?))))))
    });
    (sender, StreamBody::new(chunks))
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type Polled<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

fn poll<B: Body + Unpin>(body: &mut B, waker: &Waker) -> Polled<B> {
    Pin::new(body).poll_frame(&mut Context::from_waker(waker))
}

/// An empty body would go in its place, and be taken for the whole of it.
#[tokio::test]
async fn who_can_no_longer_have_it_is_not_at_its_end() {
    let body = ReplayBody::new(Full::new(Bytes::from_static(b"more than is kept")), 4);
    let again = body.resend().expect("nothing has gone yet");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "more than is kept");
    assert!(!again.is_end_stream() && again.size_hint().exact().is_none());
    assert!(again.resend().is_none() && !again.can_resend());
    assert!(matches!(again.collect().await, Err(ReplayError::Gone)));

    let body = ReplayBody::new(Full::new(Bytes::from_static(b"more than is kept")), 4);
    let (kept, mut first) = (body.resend().expect("a body"), body);
    poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await.expect("a frame").expect("data");
    assert!(first.is_end_stream() && !kept.is_end_stream());
}

/// The source knows one waker; the sending that it belonged to may be gone.
#[test]
fn a_reader_is_woken_though_another_asked_last_and_was_dropped() {
    let (sender, source) = piped();
    let mut stays = ReplayBody::new(source, 100);
    let mut goes = stays.resend().expect("a body");
    let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
    let [one, other] = woken.clone().map(Waker::from);
    assert!(poll(&mut stays, &one).is_pending() && poll(&mut goes, &other).is_pending());
    drop(goes);
    sender.send("at last").unwrap();
    assert_eq!(woken[0].0.load(Ordering::Relaxed), 1);
    assert!(poll(&mut stays, &one).is_ready());
}

#[test]
fn both_readers_are_woken_and_neither_is_given_a_chunk_twice() {
    let (sender, source) = piped();
    let mut first = ReplayBody::new(source, 100);
    let mut second = first.resend().expect("a body");
    let woken = [Arc::new(Woken::default()), Arc::new(Woken::default())];
    let [one, other] = woken.clone().map(Waker::from);
    for (turn, chunk) in ["a", "b", "c"].into_iter().enumerate() {
        assert!(poll(&mut first, &one).is_pending() && poll(&mut second, &other).is_pending());
        sender.send(chunk).unwrap();
        assert!(woken.iter().all(|woken| woken.0.load(Ordering::Relaxed) > turn));
        for (body, waker) in [(&mut first, &one), (&mut second, &other)] {
            let Poll::Ready(Some(Ok(frame))) = poll(body, waker) else { panic!("a frame") };
            assert_eq!(frame.into_data().unwrap(), chunk);
        }
    }
}

/// An upload that goes on after its answer came must not read away what its successor needs.
#[test]
fn past_the_bound_it_goes_on_for_the_one_that_began_last() {
    let (sender, source) = piped();
    let mut orphan = ReplayBody::new(source, 4);
    let mut next = orphan.resend().expect("a body");
    let kept = orphan.resend().expect("a body");
    let waker = Waker::noop();
    sender.send("kept").unwrap();
    assert!(poll(&mut orphan, waker).is_ready() && poll(&mut next, waker).is_ready());
    for chunk in ["more", "than", "that"] {
        sender.send(chunk).unwrap();
    }
    drop(sender);
    assert!(matches!(poll(&mut orphan, waker), Poll::Ready(Some(Err(ReplayError::Gone)))));
    let mut rest = Vec::new();
    while let Poll::Ready(Some(frame)) = poll(&mut next, waker) {
        rest.extend(frame.unwrap().into_data().unwrap());
        assert!(matches!(poll(&mut orphan, waker), Poll::Ready(Some(Err(ReplayError::Gone)))));
    }
    assert_eq!(rest, b"morethanthat");
    assert!(next.is_end_stream() || matches!(poll(&mut next, waker), Poll::Ready(None)));
    assert!(kept.resend().is_none() && !kept.is_end_stream() && !orphan.is_end_stream());
}

/// They would fill no bound on bytes.
#[tokio::test]
async fn empty_frames_are_not_kept_and_use_up_nothing() {
    let chunks =
        ["", "", "four", "", ""].map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from_static(chunk.as_bytes()))));
    let body = ReplayBody::new(StreamBody::new(stream::iter(chunks)), 4);
    let mut again = body.resend().expect("a body");
    assert_eq!(body.collect().await.unwrap().to_bytes(), "four");
    let mut frames = 0;
    while let Some(frame) = again.frame().await {
        assert_eq!(frame.unwrap().into_data().unwrap(), "four");
        frames += 1;
    }
    assert_eq!(frames, 1);
}

#[tokio::test]
async fn a_body_made_anew_is_made_once_for_each_sending_that_begins() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let body = Remake::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Full::new(Bytes::from_static(b"made"))
    });
    let again = body.resend().expect("a body").resend().expect("a body");
    let _never_sent = body.resend();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "made");
    assert_eq!(made.load(Ordering::Relaxed), 1);
    assert_eq!(
        (again.size_hint().exact(), again.is_end_stream()),
        (Some(4), false),
        "its length is known before it is sent"
    );
    assert_eq!(again.collect().await.unwrap().to_bytes(), "made");
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

/// Frames of any kind, of a source that says how long it is, or does not.
fn framed(frames: Vec<Result<Frame<Bytes>, &'static str>>) -> impl Body<Data = Bytes, Error = &'static str> {
    StreamBody::new(stream::iter(frames))
}

#[tokio::test]
async fn trailers_go_again_after_the_data_and_once() {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let frames = vec![Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers.clone()))];
    let body = ReplayBody::new(framed(frames), 100);
    let (again, early) = (body.resend().expect("a body"), body.resend().expect("a body"));
    for body in [body, again] {
        assert!(!body.is_end_stream());
        let whole = body.collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "data");
    }
    let mut early = early;
    for is_data in [true, false] {
        assert!(!early.is_end_stream(), "the trailers are to come");
        let frame = poll_fn(|cx| Pin::new(&mut early).poll_frame(cx)).await.expect("a frame").expect("no error");
        assert_eq!(frame.is_data(), is_data);
    }
    assert!(early.is_end_stream());
    assert!(poll_fn(|cx| Pin::new(&mut early).poll_frame(cx)).await.is_none());
    // Without data, and past the bound.
    let body = ReplayBody::new(framed(vec![Ok(Frame::trailers(trailers.clone()))]), 0);
    let again = body.resend().expect("a body");
    assert_eq!(body.collect().await.unwrap().trailers(), Some(&trailers));
    assert_eq!(again.collect().await.unwrap().trailers(), Some(&trailers));
    let frames = vec![Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers.clone()))];
    let whole = ReplayBody::new(framed(frames), 3).collect().await.unwrap();
    assert_eq!(whole.trailers(), Some(&trailers));
    assert_eq!(whole.to_bytes(), "data");
}

#[tokio::test]
async fn its_length_is_known_wherever_the_source_knows_it() {
    let body = ReplayBody::new(Full::new(Bytes::from_static(b"0123456789")), 10);
    let exact = |body: &ReplayBody<_>| body.size_hint().exact();
    let mut first = body.resend().expect("a body");
    assert_eq!((exact(&body), exact(&first)), (Some(10), Some(10)));
    poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await.expect("a frame").expect("no error");
    assert_eq!((exact(&first), exact(&body), body.is_end_stream()), (Some(0), Some(10), false));
    assert!(first.is_end_stream());
    let empty = ReplayBody::new(Full::<Bytes>::default(), 10);
    assert!(empty.is_end_stream() && empty.resend().expect("a body").is_end_stream());
    assert_eq!(empty.size_hint().exact(), Some(0));
}

#[tokio::test]
async fn a_source_that_fails_goes_no_more() {
    let body = ReplayBody::new(framed(vec![Ok(Frame::data(Bytes::from_static(b"half"))), Err("no more")]), 100);
    let kept = body.resend().expect("a body");
    let error = body.collect().await.expect_err("it fails");
    assert!(matches!(error, ReplayError::Source("no more")));
    assert!(kept.resend().is_none() && !kept.is_end_stream());
    assert!(matches!(kept.collect().await, Err(ReplayError::Gone)));
}
