//! What every row of the table is made of: one request, a bare service, and a loop that sends the one to the other.
//!
//! The request is a POST with 4 static headers and a shared body of 256 bytes, cloned from a template for each call. The bare
//! service answers at once, with a clone of one response. A call is: clone the request, `poll_ready`, `call`, poll the
//! future with a waker that does nothing until it is ready, drop the response.

use std::{
    fmt::Debug,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::Full;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{BoxError, Service, ServiceExt};

/// Counts for all threads, by atomics: an allocation and its release cost some 10 instructions more than without.
#[global_allocator]
pub(crate) static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

pub(crate) type Body = Full<Bytes>;

/// One row.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The row that it is compared with; `None` for one that others are compared with.
    pub(crate) over: Option<&'static str>,
    /// Size of the future of one call; 0 where it is not one future.
    pub(crate) future_bytes: usize,
    /// Makes so many calls, one after the other.
    pub(crate) run: Box<dyn FnMut(u32)>,
}

impl Case {
    /// Calls that are answered without a wait.
    pub(crate) fn new<S, RB>(name: &'static str, mut service: S, request: Request<Body>) -> Self
    where
        S: Service<Request<Body>, Response = Response<RB>, Error: Debug> + 'static,
    {
        let future_bytes = size_of_val(&service.call(request.clone()));
        let run = move |calls| (0..calls).for_each(|_| call(&mut service, &request));
        Self { name, over: None, future_bytes, run: Box::new(run) }
    }

    /// Calls that wait, each awaited to its good end, in a runtime whose time is paused.
    pub(crate) fn paused<S, RB>(name: &'static str, mut service: S, request: Request<Body>) -> Self
    where
        S: Service<Request<Body>, Response = Response<RB>, Error: Debug> + 'static,
    {
        let runtime = paused_runtime();
        let future_bytes = runtime.block_on(async {
            let future = service.ready().await.expect("ready").call(request.clone());
            let bytes = size_of_val(&future);
            future.await.expect("an answer");
            bytes
        });
        let run = move |calls| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let request = black_box(&request).clone();
                    let response = service.ready().await.expect("ready").call(request).await.expect("an answer");
                    assert_eq!(black_box(response).status(), StatusCode::OK);
                }
            });
        };
        Self { name, over: None, future_bytes, run: Box::new(run) }
    }

    pub(crate) fn over(self, other: &'static str) -> Self {
        Self { over: Some(other), ..self }
    }
}

/// One that is answered without a wait.
pub(crate) fn call<S, RB>(service: &mut S, request: &Request<Body>)
where
    S: Service<Request<Body>, Response = Response<RB>>,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready(), "ready at once");
    // No name for what need not be moved: a copy of a request here would be charged to the layers.
    let mut future = pin!(service.call(black_box(request).clone()));
    let answer = future.as_mut().poll(&mut context);
    assert!(matches!(black_box(&answer), Poll::Ready(Ok(_))), "a good answer at once");
}

fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Allocations and bytes of one call. Other threads can only add to a count, so the least of some is the true one.
pub(crate) fn allocations(case: &mut Case) -> (f64, f64) {
    const CALLS: u32 = 50;
    (case.run)(CALLS);
    let counts = (0..5).map(|_| {
        let region = Region::new(ALLOCATOR);
        (case.run)(CALLS);
        let change = region.change();
        (change.allocations + change.reallocations, change.bytes_allocated)
    });
    let (count, bytes) = counts.min().unwrap_or_default();
    (count as f64 / f64::from(CALLS), bytes as f64 / f64::from(CALLS))
}

pub(crate) fn request() -> Request<Body> {
    let header = HeaderValue::from_static;
    Request::post("https://api.openai.com/v1/chat/completions")
        .header(CONTENT_TYPE, header("application/json"))
        .header(ACCEPT, header("application/json"))
        .header(USER_AGENT, header("overhead/1.0"))
        .header("openai-organization", header("org-0123456789"))
        .body(Full::new(Bytes::from(vec![b' '; 256])))
        .expect("a request")
}

pub(crate) fn ok() -> Response<Body> {
    Response::new(Full::new(Bytes::from_static(b"{}")))
}

/// A good answer with so many headers that tell of limits, the 6 of OpenAI's first. The quota is large enough that no
/// call waits.
pub(crate) fn ok_with_limits(headers: usize) -> Response<Body> {
    const LIMITS: [(&str, &str); 12] = [
        ("x-ratelimit-limit-requests", "30000"),
        ("x-ratelimit-limit-tokens", "150000000"),
        ("x-ratelimit-remaining-requests", "29999"),
        ("x-ratelimit-remaining-tokens", "149999936"),
        ("x-ratelimit-reset-requests", "2ms"),
        ("x-ratelimit-reset-tokens", "0s"),
        ("x-ratelimit-limit-project-requests", "20000"),
        ("x-ratelimit-limit-project-tokens", "100000000"),
        ("x-ratelimit-remaining-project-requests", "19999"),
        ("x-ratelimit-remaining-project-tokens", "99999936"),
        ("x-ratelimit-reset-project-requests", "3ms"),
        ("x-ratelimit-reset-project-tokens", "0s"),
    ];
    let mut response = ok();
    for (name, value) in LIMITS.into_iter().take(headers) {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// OpenAI's 429, with its 6 limit headers, its request id, and 400 bytes of JSON.
pub(crate) fn rate_limited() -> Response<Body> {
    const BODY: &str = concat!(
        r#"{"error":{"message":"Rate limit reached for gpt-4o-mini in organization org-0123456789abcdef on requests per"#,
        r#" min (RPM): Limit 500, Used 500, Requested 1. Please try again in 120ms. Visit https://platform.openai.com/"#,
        r#"account/rate-limits to learn more. You can increase your rate limit by adding a payment method to your acco"#,
        r#"unt right here.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
    );
    const { assert!(BODY.len() == 400) };
    let mut response = ok_with_limits(6);
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    *response.body_mut() = Full::new(Bytes::from_static(BODY.as_bytes()));
    for (name, value) in [("content-type", "application/json"), ("x-request-id", "req_0123456789abcdef")] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Answers at once, always the same.
#[derive(Clone)]
pub(crate) struct Bare(Arc<Response<Body>>);

impl Bare {
    pub(crate) fn new(response: Response<Body>) -> Self {
        Self(Arc::new(response))
    }
}

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(black_box(request));
        ready(Ok((*self.0).clone()))
    }
}

/// Puts a header in, as one does who has but one key.
#[derive(Clone)]
pub(crate) struct ByHand<S>(pub(crate) S, pub(crate) HeaderValue);

impl<S: Service<Request<Body>>> Service<Request<Body>> for ByHand<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(AUTHORIZATION, self.1.clone());
        self.0.call(request)
    }
}

/// Answers at once: 503 and 200 in turn.
#[derive(Clone, Default)]
pub(crate) struct Flaky(Arc<AtomicU32>);

impl Service<Request<Body>> for Flaky {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        let mut response = ok();
        if self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        ready(Ok(response))
    }
}
