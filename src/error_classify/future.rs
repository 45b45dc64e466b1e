use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Response, response::Parts};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    ResponseBody,
    layer::Settings,
    look::{Stream, StreamErrors, Watch},
};
use crate::{
    ApiError,
    body::media::{Media, is_compressed},
    body::peek::Peek,
    provider::{Choice, Reply, grpc_head_fails, judge, judge_success},
};

pin_project! {
    /// The call, and the reading of its response where it failed.
    pub struct ResponseFuture<F, B: Body> {
        #[pin]
        pub(super) call: F,
        pub(super) peeking: Option<Peeking<B>>,
        pub(super) settings: Arc<Settings>,
        pub(super) choice: Choice,
    }
}

/// A body that is being read, in a box with the head: the path of a success has room for neither.
type Peeking<B> = Pin<Box<Peek<B, Watch>>>;

/// What a body is read for.
enum Sought {
    Failure,
    Json,
    Event,
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.peeking.is_none() {
            // Spelled out, for `ready!` and `?` would each move the response once more.
            match this.call.poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(response)) => {
                    if response.status().as_u16() < 400 && !this.settings.successes {
                        return Poll::Ready(Ok(response.map(ResponseBody::untouched)));
                    }
                    match begin(response, this.settings, *this.choice) {
                        Ok(response) => return Poll::Ready(Ok(response)),
                        Err(peeking) => *this.peeking = Some(peeking),
                    }
                }
            }
        }
        poll_peeking(this.peeking, this.settings, *this.choice, cx).map(Ok)
    }
}

#[cold]
#[inline(never)]
fn poll_peeking<B: Body>(
    peeking: &mut Option<Peeking<B>>,
    settings: &Settings,
    choice: Choice,
    cx: &mut Context<'_>,
) -> Poll<Response<ResponseBody<B>>> {
    if let Some(peeking) = peeking {
        ready!(peeking.as_mut().poll_peek(cx));
    }
    // There is always one; a future that is polled after it was ready fails in the call.
    peeking.take().and_then(|peeking| finish(peeking, settings, choice)).map_or(Poll::Pending, Poll::Ready)
}

/// The response, where nothing has to be read; else the reading of it.
#[cold]
#[inline(never)]
fn begin<B: Body>(
    response: Response<B>,
    settings: &Arc<Settings>,
    choice: Choice,
) -> Result<Response<ResponseBody<B>>, Peeking<B>> {
    let (mut parts, body) = response.into_parts();
    let untouched = |parts, body| Ok(Response::from_parts(parts, ResponseBody::untouched(body)));
    // Classified further in already, and its body given back by that layer.
    if parts.extensions.get::<ApiError>().is_some() {
        return untouched(parts, body);
    }
    let Some(sought) = sought(&parts, settings) else { return untouched(parts, body) };
    let readable = !is_compressed(&parts.headers) && !body.is_end_stream();
    if !readable {
        if matches!(sought, Sought::Failure) {
            let in_memory = body.is_end_stream();
            let error = judge(settings.providers.get(choice), reply(&parts, settings, &[], in_memory));
            parts.extensions.insert(error);
        }
        return untouched(parts, body);
    }
    let (stream, limits) = match sought {
        Sought::Failure | Sought::Json => (None, settings.failure),
        Sought::Event => {
            let errors = StreamErrors::default();
            parts.extensions.insert(errors.clone());
            let stream = Stream::new(settings.clone(), choice, parts.status, errors);
            (Some(Box::new(stream)), settings.stream)
        }
    };
    Err(Box::pin(Peek::new(body, Watch { parts: Some(parts), stream }, limits)))
}

/// `None` only if it had been handed on before.
fn finish<B: Body>(mut peek: Peeking<B>, settings: &Settings, choice: Choice) -> Option<Response<ResponseBody<B>>> {
    let provider = settings.providers.get(choice);
    let whole = peek.is_whole();
    let watch = peek.as_mut().look();
    let mut parts = watch.parts.take()?;
    let failure = if let Some(stream) = &mut watch.stream {
        stream.hand_on().map(|error| error.with_body_in_memory(whole))
    } else {
        peek.with_data(|data| {
            let reply = reply(&parts, settings, data, whole);
            if reply.status.as_u16() >= 400 {
                Some(judge(provider, reply))
            } else {
                judge_success(provider, reply, settings.incomplete)
            }
        })
    };
    if let Some(failure) = failure {
        parts.extensions.insert(failure);
    }
    Some(Response::from_parts(parts, ResponseBody::peeked(peek)))
}

fn reply<'a>(parts: &'a Parts, settings: &'a Settings, body: &'a [u8], in_memory: bool) -> Reply<'a> {
    Reply { status: parts.status, headers: &parts.headers, body, in_memory, clock: &settings.clock }
}

fn sought(parts: &Parts, settings: &Settings) -> Option<Sought> {
    if parts.status.as_u16() >= 400 {
        return Some(Sought::Failure);
    }
    if !parts.status.is_success() {
        return None;
    }
    if settings.grpc && grpc_head_fails(&parts.headers) {
        return Some(Sought::Failure);
    }
    match Media::of(&parts.headers)? {
        Media::Events if settings.streams => Some(Sought::Event),
        Media::Json if settings.json => Some(Sought::Json),
        Media::Events | Media::Json => None,
    }
}

impl<F, B: Body> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("reading", &self.peeking.is_some()).finish_non_exhaustive()
    }
}
