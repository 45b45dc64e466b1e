//! Each sending of a request that reqwest-middleware's bridge hands on: given up, beside another, elsewhere, in time.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use http::{Extensions, Request, Response};
use reqwest_middleware::{ClientBuilder, Middleware, Next, Result};
use tower::{BoxError, Layer, Service, ServiceBuilder, timeout::TimeoutLayer};
use tower_outbound::{
    ApiError, ErrorKind,
    bridge::{
        reqwest::{Body, same_origin},
        reqwest_middleware::{NextService, TowerMiddleware},
    },
    find_cause,
};

use crate::passage::layers;

fn builder() -> ClientBuilder {
    clients::use_ring();
    ClientBuilder::new(reqwest::Client::builder().no_proxy().redirect(same_origin()).build().unwrap())
}

/// Never answers the first; says how many had come and gone before, and leaves its number in the extensions.
#[derive(Clone, Default)]
struct SlowAtFirst {
    came: Arc<AtomicU32>,
    went: Arc<AtomicU32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Number(u32);

struct Counts<'a>(&'a AtomicU32);

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Middleware for SlowAtFirst {
    async fn handle(&self, _: reqwest::Request, extensions: &mut Extensions, _: Next<'_>) -> Result<reqwest::Response> {
        let number = self.came.fetch_add(1, Ordering::Relaxed);
        let gone = self.went.load(Ordering::Relaxed);
        let _counts = Counts(&self.went);
        extensions.insert(Number(number));
        // Not at once, so that somebody has to be woken.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if number == 0 {
            pending::<()>().await;
        }
        Ok(Response::new(format!("number {number}, {gone} gone")).into())
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_layers_give_up_is_given_up_and_sent_again() {
    let slow = SlowAtFirst::default();
    let layers = ServiceBuilder::new().layer(layers()).layer(TimeoutLayer::new(Duration::from_secs(1)));
    let client = builder().with(TowerMiddleware::new(layers)).with(slow.clone()).build();
    let response = client.get("http://h.test/").send().await.unwrap();
    assert_eq!((response.url().as_str(), slow.went.load(Ordering::Relaxed)), ("http://h.test/", 2));
    assert_eq!(response.text().await.unwrap(), "number 1, 1 gone");
}

/// Sends everything twice at once. The first answer is taken; its futures are polled only when they are woken.
#[derive(Clone)]
struct Hedge<S>(S);

impl<'a> Service<Request<Body>> for Hedge<NextService<'a>> {
    type Response = Response<reqwest::Body>;
    type Error = BoxError;
    type Future = BoxFuture<'a, std::result::Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let sent = [(); 2].map(|()| self.0.call(Request::from_parts(parts.clone(), Body::default())));
        let mut sent = sent.into_iter().collect::<FuturesUnordered<_>>();
        async move { sent.next().await.unwrap() }.boxed()
    }
}

struct HedgeLayer;

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge(inner)
    }
}

/// Keeps what came back.
struct Keeps(Arc<Mutex<Option<Number>>>);

#[async_trait]
impl Middleware for Keeps {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response> {
        let response = next.run(request, extensions).await;
        *self.0.lock().unwrap() = extensions.get().copied();
        response
    }
}

#[tokio::test(start_paused = true)]
async fn two_at_once_do_not_wait_for_each_other() {
    let (slow, kept) = (SlowAtFirst::default(), Arc::default());
    let client =
        builder().with(Keeps(Arc::clone(&kept))).with(TowerMiddleware::new(HedgeLayer)).with(slow.clone()).build();
    // The one made apart comes first: it is the one without an answer, and then the one with the first.
    for (number, gone, answers) in [(1, 0, 2), (2, 2, 4)] {
        let sent = tokio::time::timeout(Duration::from_secs(1), client.get("http://h.test/").send());
        let response = sent.await.expect("whoever waits is woken").unwrap();
        assert_eq!(response.text().await.unwrap(), format!("number {number}, {gone} gone"));
        assert_eq!(*kept.lock().unwrap(), Some(Number(number)));
        assert_eq!((slow.came.load(Ordering::Relaxed), slow.went.load(Ordering::Relaxed)), (answers, answers));
    }
}

/// A request's own time limit is for each sending.
#[tokio::test]
async fn each_sending_has_the_time_limit() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = clients::Server::start(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        pending::<Response<http_body_util::Empty<Bytes>>>()
    });
    let server = server.await.unwrap();
    let client = builder().with(TowerMiddleware::new(layers())).build();
    let sent = client.get(server.url("/")).timeout(Duration::from_millis(100)).send();
    let error = tokio::time::timeout(Duration::from_secs(30), sent).await.expect("a limit for each").unwrap_err();
    assert_eq!(find_cause::<ApiError>(&error).map(ApiError::kind), Some(ErrorKind::Timeout));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}
