//! The layers as a middleware of reqwest-middleware, between others.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use http::{Extensions, Response, Version};
use reqwest::Request;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next, Result};
use reqwest_tracing::TracingMiddleware;
use tower_outbound::{
    ApiError, Call, ErrorKind, Refused,
    backoff_retry::RetryReport,
    bridge::{reqwest::same_origin, reqwest_middleware::TowerMiddleware},
    find_cause,
    mock::MockApi,
    stack,
};
use tracing::{Subscriber, span};
use tracing_subscriber::{Registry, layer::Context, prelude::*, registry::LookupSpan};

use crate::passage::{self, echo, layers};

fn http() -> reqwest::Client {
    clients::use_ring();
    reqwest::Client::builder().no_proxy().redirect(same_origin()).build().unwrap()
}

fn builder() -> ClientBuilder {
    ClientBuilder::new(http())
}

fn client() -> ClientWithMiddleware {
    builder().with(TowerMiddleware::new(layers())).build()
}

#[tokio::test]
async fn a_stream_and_trailers_pass() {
    for (http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        clients::use_ring();
        let http = reqwest::Client::builder().no_proxy().redirect(same_origin());
        let http = if http2 { http.http2_prior_knowledge() } else { http };
        let client = ClientBuilder::new(http.build().unwrap()).with(TowerMiddleware::new(layers())).build();
        let (server, calls) = echo().await;
        let url = server.url("/echo?x=%20");
        let request = client.post(&url).headers(passage::headers()).body(reqwest::Body::wrap(passage::stream()));
        let response = request.version(version).send().await.unwrap();
        assert_eq!(response.url().as_str(), url);
        passage::check(Response::<reqwest::Body>::from(response), version).await;
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}

/// Sends it all once more, whatever came of it; the first time, it goes away in the middle if told so.
struct Twice {
    drops_first: bool,
}

#[async_trait]
impl Middleware for Twice {
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<reqwest::Response> {
        let first = request.try_clone().unwrap();
        extensions.insert(FromOutside(7));
        if self.drops_first {
            let mut first = next.clone().run(first, extensions);
            assert!(futures_util::poll!(&mut first).is_pending());
        } else {
            assert_eq!(next.clone().run(first, extensions).await?.status(), 500);
        }
        assert_eq!(extensions.get::<FromOutside>(), Some(&FromOutside(7)));
        assert!(extensions.get::<Call>().is_none(), "it was that call's");
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn a_second_run_is_a_call_of_its_own() {
    for drops_first in [false, true] {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let server = clients::Server::start(move |_| {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let status = if number == 5 || (drops_first && number > 2) { 200 } else { 500 };
            let response = Response::builder().status(status).body(http_body_util::Empty::new()).unwrap();
            async move { response }
        });
        let server = server.await.unwrap();
        let client = builder().with(Twice { drops_first }).with(TowerMiddleware::new(layers())).build();
        let response = client.get(server.url("/")).send().await.unwrap();
        // Three attempts are a call's; of a second one without its retries, one would be all.
        let report = response.extensions().get::<RetryReport>();
        assert_eq!(report.map(|report| report.attempts > 1), Some(true), "{report:?}");
        if !drops_first {
            assert_eq!((response.status().as_u16(), calls.load(Ordering::Relaxed)), (200, 6));
        }
    }
}

/// One of the caller's own stays the caller's, with its deadline.
#[tokio::test]
async fn a_call_of_the_callers_own_is_there_afterwards() {
    let (server, _) = echo().await;
    let own = Call::now();
    let mut extensions = Extensions::new();
    extensions.insert(own.clone());
    let request = Request::new(reqwest::Method::GET, server.url("/").parse().unwrap());
    client().execute_with_extensions(request, &mut extensions).await.unwrap();
    let kept = extensions.get::<Call>().unwrap();
    assert_eq!((kept.seq(), kept.is_retried()), (own.seq(), false));
}

#[tokio::test]
async fn the_whole_stack_is_one_middleware() {
    let endpoint = clients::mock(MockApi::builder().keys([clients::MOCK_KEY]).build()).await.unwrap();
    let stack = stack::openai().base_url(&endpoint.base_url).api_key(&endpoint.key);
    let meter = stack.quota_meter().clone();
    let client = builder().with(TowerMiddleware::new(stack)).build();
    let question = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
    for _ in 0..2 {
        let request = client.post(format!("{}/chat/completions", endpoint.base_url)).json(&question);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    assert_eq!(meter.snapshot().counts.sent, 2, "what is known is known to all calls");
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct FromOutside(u32);

#[derive(Clone, Copy, Debug, PartialEq)]
struct FromInside(u32);

/// Puts in a word, and keeps what comes back.
struct Outside(Arc<Mutex<Vec<FromInside>>>);

#[async_trait]
impl Middleware for Outside {
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<reqwest::Response> {
        extensions.insert(FromOutside(7));
        let response = next.run(request, extensions).await;
        self.0.lock().unwrap().extend(extensions.get::<FromInside>());
        assert_eq!(extensions.get::<FromOutside>(), Some(&FromOutside(7)));
        response
    }
}

/// Sees each attempt, with what the layers and those before them put in.
#[derive(Default)]
struct Inside(Arc<AtomicU32>);

#[async_trait]
impl Middleware for Inside {
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<reqwest::Response> {
        assert_eq!(extensions.get::<FromOutside>(), Some(&FromOutside(7)));
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        assert_eq!(extensions.get::<Call>().map(Call::attempt), Some(number));
        assert_eq!(extensions.get::<FromInside>().copied(), (number > 1).then(|| FromInside(number - 1)));
        extensions.insert(FromInside(number));
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn extensions_go_both_ways() {
    let (server, _) = echo().await;
    let came_back = Arc::default();
    let client = builder()
        .with(Outside(Arc::clone(&came_back)))
        .with(TowerMiddleware::new(layers()))
        .with(Inside::default())
        .build();
    let response = client.get(server.url("/")).send().await.unwrap();
    assert_eq!(*came_back.lock().unwrap(), [FromInside(2)]);
    assert_eq!(response.extensions().get::<RetryReport>().map(|report| report.attempts), Some(2));
}

/// Two of them: the one further in leaves the call to the one further out.
#[tokio::test]
async fn nested_they_do_not_multiply() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = clients::Server::start(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        let response = Response::builder().status(500).body(http_body_util::Empty::new()).unwrap();
        async move { response }
    });
    let url = server.await.unwrap();
    let client = builder().with(TowerMiddleware::new(layers())).with(TowerMiddleware::new(layers())).build();
    assert_eq!(client.get(url.url("/")).send().await.unwrap().status(), 500);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_cause_of_an_error_can_be_found() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client().get(format!("http://{closed}/?key=AIzaSyA0123456789abcdef")).send().await.unwrap_err();
    let found = find_cause::<ApiError>(&error).unwrap();
    assert_eq!((found.kind(), found.may_have_reached_server()), (ErrorKind::Unavailable, false));
    assert!(find_cause::<reqwest::Error>(&error).unwrap().is_connect());
    assert!(!format!("{error} {error:?}").contains("AIza"), "{error:?}");

    let without_key = builder().with(TowerMiddleware::new(stack::openai().api_key(""))).build();
    let error = without_key.get(format!("http://{closed}/")).send().await.unwrap_err();
    assert!(find_cause::<Refused>(&error).is_some(), "{error:?}");
    assert!(find_cause::<tower_outbound::stack::StackFault>(&error).is_some());
}

/// An error of a middleware further in keeps its causes.
struct Fails;

#[async_trait]
impl Middleware for Fails {
    async fn handle(&self, _: Request, _: &mut Extensions, _: Next<'_>) -> Result<reqwest::Response> {
        Err(Error::middleware(Outer(std::fmt::Error)))
    }
}

#[derive(Debug)]
struct Outer(std::fmt::Error);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test]
async fn an_error_from_further_in_comes_through() {
    let client = builder().with(TowerMiddleware::new(layers())).with(Fails).build();
    let error = client.get("http://127.0.0.1:1/").send().await.unwrap_err();
    assert!(find_cause::<std::fmt::Error>(&error).is_some(), "{error:?}");
}

/// How many spans began at the root, and how many within another.
#[derive(Clone, Default)]
struct Spans(Arc<[AtomicU32; 2]>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, _: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let is_inner = context.span(id).is_some_and(|span| span.parent().is_some());
        self.0[usize::from(is_inner)].fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn tracing_before_it_sees_a_call_and_after_it_each_attempt() {
    let (server, _) = echo().await;
    let spans = Spans::default();
    let _guard = Registry::default().with(spans.clone()).set_default();
    let client = builder()
        .with(TracingMiddleware::default())
        .with(TowerMiddleware::new(layers()))
        .with(TracingMiddleware::default())
        .build();
    assert_eq!(client.get(server.url("/")).send().await.unwrap().status(), 200);
    let [calls, attempts] = &*spans.0;
    assert_eq!((calls.load(Ordering::Relaxed), attempts.load(Ordering::Relaxed)), (1, 2));
}
