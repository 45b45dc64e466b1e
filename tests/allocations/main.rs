//! What the classifier allocates, counted.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::{
    convert::Infallible,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Layer, Service, service_fn};
use tower_outbound::{ApiError, ErrorClassifyLayer, ErrorKind, provider::OpenAi};

/// Counts for all threads.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

fn poll<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it does not wait"),
    }
}

/// Allocations of one call that is answered like this, over those of the same call without the layer.
///
/// Other threads can only add to a count, so the least of some is the true one.
fn cost(make: impl Fn() -> Response<Full<Bytes>>, check: impl Fn(Option<&ApiError>)) -> usize {
    let answer = std::cell::RefCell::new(None);
    let bare = service_fn(|_: Request<()>| std::future::ready(Ok::<_, Infallible>(answer.take().unwrap())));
    let mut service = ErrorClassifyLayer::new(OpenAi).layer(bare);
    let counts = (0..50).map(|_| {
        answer.replace(Some(make()));
        let request = Request::new(());
        let region = Region::new(ALLOCATOR);
        let response = poll(service.call(request)).unwrap_or_else(|never| match never {});
        let change = region.change();
        check(black_box(response).extensions().get::<ApiError>());
        change.allocations + change.reallocations
    });
    counts.min().unwrap()
}

#[test]
fn a_success_costs_nothing() {
    let make = || Response::new(Full::new(Bytes::from_static(b"{}")));
    assert_eq!(cost(make, |error| assert!(error.is_none())), 0);
}

#[test]
fn a_rate_limit_costs_six() {
    let body = format!(
        r#"{{"error":{{"message":"Rate limit reached for gpt-4 in organization org-uVqp on tokens per min (TPM): Limit 10000, Used 8554, Requested 3082. Please try again in 9.816s. {}","type":"tokens","param":null,"code":"rate_limit_exceeded"}}}}"#,
        "Visit https://platform.openai.com/account/rate-limits to learn more. ".repeat(3),
    );
    assert!(body.len() >= 400);
    let body = Bytes::from(body);
    let make = || {
        let response =
            Response::builder().status(429).header("content-type", "application/json").header("x-request-id", "req_1");
        response.body(Full::new(body.clone())).unwrap()
    };
    let count = cost(make, |error| assert_eq!(error.map(ApiError::kind), Some(ErrorKind::RateLimit)));
    // The box in which the body is read, the error and its text, and three for the first extension.
    assert_eq!(count, 6);
}
