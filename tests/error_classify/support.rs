//! A body by script, and a call through the layer.

use std::{
    collections::VecDeque,
    convert::Infallible,
    marker::PhantomPinned,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, buf::Chain};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{ErrorClassifyLayer, error_classify::ResponseBody};

/// What a body does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Data(Bytes),
    /// One frame in two pieces of memory.
    Split(Bytes, Bytes),
    Trailers(HeaderMap),
    Wait(Duration),
    Break,
}

impl Step {
    pub(crate) fn data(text: impl Into<Bytes>) -> Self {
        Self::Data(text.into())
    }
}

/// The error of a body that breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

pub(crate) type Pieces = Chain<Bytes, Bytes>;

pin_project! {
    /// A body that follows its script, must not move, and counts how often it was asked.
    pub(crate) struct Script {
        steps: VecDeque<Step>,
        hint: SizeHint,
        #[pin]
        sleep: Option<Sleep>,
        asked: std::sync::Arc<std::sync::atomic::AtomicUsize>,
        #[pin]
        pinned: PhantomPinned,
    }
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            hint: SizeHint::default(),
            sleep: None,
            asked: std::sync::Arc::default(),
            pinned: PhantomPinned,
        }
    }

    pub(crate) fn with_hint(mut self, hint: SizeHint) -> Self {
        self.hint = hint;
        self
    }

    pub(crate) fn asked(&self) -> std::sync::Arc<std::sync::atomic::AtomicUsize> {
        self.asked.clone()
    }
}

impl Body for Script {
    type Data = Pieces;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Pieces>, Broken>>> {
        let mut this = self.project();
        this.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        loop {
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
                std::task::ready!(sleep.poll(cx));
                this.sleep.set(None);
            }
            return Poll::Ready(match this.steps.pop_front() {
                None => None,
                Some(Step::Data(data)) => Some(Ok(Frame::data(data.chain(Bytes::new())))),
                Some(Step::Split(first, second)) => Some(Ok(Frame::data(first.chain(second)))),
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Some(Step::Break) => {
                    this.steps.clear();
                    Some(Err(Broken))
                }
                Some(Step::Wait(time)) => {
                    this.sleep.set(Some(sleep(time)));
                    continue;
                }
            });
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::clone(&self.hint)
    }
}

/// Sends one call through the layer, which this response answers.
pub(crate) async fn call<B: Body>(layer: ErrorClassifyLayer, response: Response<B>) -> Response<ResponseBody<B>> {
    let mut response = Some(response);
    let api = service_fn(|_: Request<()>| {
        let response = response.take().expect("one call");
        std::future::ready(Ok::<_, Infallible>(response))
    });
    ServiceBuilder::new()
        .layer(layer)
        .service(api)
        .oneshot(Request::new(()))
        .await
        .unwrap_or_else(|never| match never {})
}

/// A frame as one can compare it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Got {
    Data(Bytes),
    Trailers(HeaderMap),
    Broken,
}

/// Everything a body gives, frame by frame.
pub(crate) async fn frames<B>(body: B) -> Vec<Got>
where
    B: Body,
    B::Error: std::fmt::Debug,
{
    let mut body = std::pin::pin!(body);
    let mut got = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        got.push(match frame.map(Frame::into_data) {
            Ok(Ok(mut data)) => Got::Data(data.copy_to_bytes(data.remaining())),
            Ok(Err(frame)) => Got::Trailers(frame.into_trailers().unwrap_or_default()),
            Err(_) => Got::Broken,
        });
    }
    got
}
