use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{
    HeaderMap, Response,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    response::Parts,
};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    ResponseBody,
    layer::Settings,
    look::{Stream, StreamErrors, Watch},
};
use crate::{
    ApiError,
    body::peek::Peek,
    provider::{Choice, Reply, judge, judge_success},
};

pin_project! {
    /// The call, and the reading of its response where it failed.
    pub struct ResponseFuture<F, B: Body> {
        #[pin]
        call: F,
        peeking: Option<Peeking<B>>,
        settings: Arc<Settings>,
        choice: Choice,
    }
}

/// A response whose body is being read. Boxed with what it needs: the path of a success has none of it.
struct Peeking<B: Body> {
    parts: Parts,
    peek: Pin<Box<Peek<B, Watch>>>,
}

/// What a body is read for.
enum Sought {
    Failure,
    Json,
    Event,
}

impl<F, B: Body> ResponseFuture<F, B> {
    pub(super) fn new(call: F, settings: Arc<Settings>, choice: Choice) -> Self {
        Self { call, peeking: None, settings, choice }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.peeking.is_none() {
            let response = ready!(this.call.poll(cx))?;
            let failed = response.status().as_u16() >= 400;
            if !failed && !this.settings.successes {
                return Poll::Ready(Ok(response.map(ResponseBody::untouched)));
            }
            match begin(response, this.settings, *this.choice) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(peeking) => *this.peeking = Some(peeking),
            }
        }
        if let Some(peeking) = this.peeking.as_mut() {
            ready!(peeking.peek.as_mut().poll_peek(cx));
        }
        match this.peeking.take() {
            Some(peeking) => Poll::Ready(Ok(finish(peeking, this.settings, *this.choice))),
            // Only if it is polled after it was ready, which futures may answer as they like; this waits.
            None => Poll::Pending,
        }
    }
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
    let readable = !compressed(&parts.headers) && !body.is_end_stream();
    if !readable {
        if matches!(sought, Sought::Failure) {
            let in_memory = body.is_end_stream();
            let error = judge(settings.providers.get(choice), reply(&parts, settings, &[], in_memory));
            parts.extensions.insert(error);
        }
        return untouched(parts, body);
    }
    let (watch, limits) = match sought {
        Sought::Failure | Sought::Json => (Watch::Nothing, settings.failure),
        Sought::Event => {
            let errors = StreamErrors::default();
            parts.extensions.insert(errors.clone());
            let stream = Stream::new(settings.clone(), choice, parts.status, errors);
            (Watch::Stream(Box::new(stream)), settings.stream)
        }
    };
    Err(Peeking { parts, peek: Box::pin(Peek::new(body, watch, limits)) })
}

fn finish<B: Body>(mut peeking: Peeking<B>, settings: &Settings, choice: Choice) -> Response<ResponseBody<B>> {
    let provider = settings.providers.get(choice);
    let whole = peeking.peek.is_whole();
    let failure = if let Watch::Stream(stream) = peeking.peek.as_mut().look() {
        stream.hand_on().map(|error| error.with_body_in_memory(whole))
    } else {
        peeking.peek.with_data(|data| {
            let reply = reply(&peeking.parts, settings, data, whole);
            if reply.status.as_u16() >= 400 {
                Some(judge(provider, reply))
            } else {
                judge_success(provider, reply, settings.incomplete)
            }
        })
    };
    let Peeking { mut parts, peek } = peeking;
    if let Some(failure) = failure {
        parts.extensions.insert(failure);
    }
    Response::from_parts(parts, ResponseBody::peeked(peek))
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
    let kind = parts.headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let ends = |end: &str| {
        let start = kind.len().checked_sub(end.len());
        start.and_then(|start| kind.get(start..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    if settings.streams && kind.eq_ignore_ascii_case("text/event-stream") {
        Some(Sought::Event)
    } else if settings.json && (ends("/json") || ends("+json")) {
        Some(Sought::Json)
    } else {
        None
    }
}

fn compressed(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

impl<F, B: Body> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("reading", &self.peeking.is_some()).finish_non_exhaustive()
    }
}
