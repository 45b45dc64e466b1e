//! The body comes back whole.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, SizeHint};
use http_body_util::Full;
use tokio::time::Instant;
use tower_outbound::{ApiError, ErrorClassifyLayer, ErrorKind, RetryHint, provider::OpenAi};

use crate::support::{Got, Script, Step, call, frames};

const SPENT: &str = r#"{"error":{"message":"No credit.","type":"insufficient_quota","param":null,"code":null}}"#;

fn layer() -> ErrorClassifyLayer {
    ErrorClassifyLayer::new(OpenAi)
}

fn failed<B>(body: B) -> Response<B> {
    Response::builder().status(StatusCode::TOO_MANY_REQUESTS).body(body).unwrap()
}

fn error<B>(response: &Response<B>) -> ApiError {
    response.extensions().get::<ApiError>().cloned().expect("classified")
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())])
}

#[tokio::test(start_paused = true)]
async fn a_success_is_not_polled() {
    let body = Script::new([Step::data("all well")]);
    let asked = body.asked();
    let response = call(layer(), Response::new(body)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(response.extensions().is_empty());
    assert_eq!(frames(response.into_body()).await, [Got::Data("all well".into())]);
}

#[tokio::test(start_paused = true)]
async fn redirects_and_the_like_are_no_failures() {
    for status in [100, 101, 204, 301, 304] {
        let body = Script::new([Step::data(SPENT)]);
        let asked = body.asked();
        let response = Response::builder().status(status).body(body).unwrap();
        let response = call(layer().failures_in_successes(true).failures_in_streams(true), response).await;
        assert!(response.extensions().is_empty(), "{status}");
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_and_trailers_come_as_they_came() {
    let (head, tail) = SPENT.split_at(30);
    let (middle, tail) = tail.split_at(20);
    let body = Script::new([
        Step::data(head),
        Step::data(""),
        Step::Split(Bytes::from(middle), Bytes::from(tail)),
        Step::Trailers(trailers()),
    ]);
    let response = call(layer(), failed(body)).await;
    assert_eq!(error(&response).kind(), ErrorKind::QuotaExhausted);
    assert!(error(&response).body_in_memory());
    let expected = [
        Got::Data(head.into()),
        Got::Data("".into()),
        Got::Data(format!("{middle}{tail}").into()),
        Got::Trailers(trailers()),
    ];
    assert_eq!(frames(response.into_body()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_size_hint_is_what_it_was() {
    let exact = SizeHint::with_exact(SPENT.len() as u64);
    for hint in [SizeHint::default(), exact] {
        let body = Script::new([Step::data(&SPENT[..10]), Step::data(&SPENT[10..])]).with_hint(SizeHint::clone(&hint));
        let body = call(layer(), failed(body)).await.into_body();
        assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (hint.lower(), hint.upper()));
        assert!(!body.is_end_stream());
        let mut body = Box::pin(body);
        std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(body.size_hint().upper(), hint.upper().map(|all| all - 10));
        std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap();
        assert!(body.is_end_stream());
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_cap_the_rest_streams_on() {
    // One endless body: read to its cap, and not a frame further.
    let steps = std::iter::once(Step::data(SPENT)).chain((0..100).map(|_| Step::data(vec![b' '; 1000])));
    let body = Script::new(steps);
    let asked = body.asked();
    let response = call(layer().max_body(4096), failed(body)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 6);
    assert_eq!(error(&response).kind(), ErrorKind::QuotaExhausted);
    assert!(!error(&response).body_in_memory());
    let got = frames(response.into_body()).await;
    assert_eq!(got.len(), 101);
    assert_eq!(got[0], Got::Data(SPENT.into()));
}

#[tokio::test(start_paused = true)]
async fn many_tiny_frames_are_a_cap_too() {
    let body = Script::new((0..5000).map(|_| Step::data("x")));
    let asked = body.asked();
    let response = call(layer(), failed(body)).await;
    assert!(asked.load(Ordering::Relaxed) <= 1025);
    assert_eq!(frames(response.into_body()).await.len(), 5000);
}

#[tokio::test(start_paused = true)]
async fn an_error_cut_off_by_the_cap_is_judged_by_what_was_read() {
    let long = format!(r#"{{"error":{{"type":"insufficient_quota","message":"{}"#, "x".repeat(2000));
    let response =
        call(layer().max_body(500), failed(Script::new([Step::data(long.clone()), Step::data("\"}}")]))).await;
    assert_eq!(error(&response).kind(), ErrorKind::QuotaExhausted);
    assert_eq!(frames(response.into_body()).await, [Got::Data(long.into()), Got::Data("\"}}".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_does_so_at_its_place() {
    let response = call(layer(), failed(Script::new([Step::data(SPENT), Step::Break]))).await;
    assert_eq!(error(&response).kind(), ErrorKind::QuotaExhausted);
    assert_eq!(frames(response.into_body()).await, [Got::Data(SPENT.into()), Got::Broken]);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_is_waited_for_only_so_long() {
    let drip = [Step::Wait(Duration::from_secs(1)), Step::data("{")];
    let body = Script::new(std::iter::repeat_n(drip, 60).flatten());
    let start = Instant::now();
    let response = call(layer(), failed(body)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(error(&response).kind(), ErrorKind::RateLimit);
    assert!(!error(&response).body_in_memory());
    assert_eq!(frames(response.into_body()).await.len(), 60);
    assert_eq!(start.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_head_without_a_body_is_enough() {
    let silent = Script::new([Step::Wait(Duration::from_secs(3600))]);
    let response = Response::builder().status(503).header("retry-after", "7").body(silent).unwrap();
    let response = call(layer(), response).await;
    assert_eq!(error(&response).retry(), RetryHint::After(Duration::from_secs(7)));
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_needs_no_reading() {
    let response = call(layer(), failed(Full::<Bytes>::default())).await;
    assert_eq!(error(&response).kind(), ErrorKind::RateLimit);
    assert!(error(&response).body_in_memory());
}

#[tokio::test(start_paused = true)]
async fn a_compressed_body_is_left_alone() {
    let body = Script::new([Step::data(SPENT)]);
    let asked = body.asked();
    let mut response = failed(body);
    response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    let response = call(layer(), response).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(error(&response).kind(), ErrorKind::RateLimit);
    assert!(!error(&response).body_in_memory());
}

#[tokio::test(start_paused = true)]
async fn a_gigabyte_announced_reserves_nothing() {
    let body = Script::new([Step::Split("{\"error\":".into(), "{}}".into())]).with_hint(SizeHint::with_exact(1 << 30));
    let response = call(layer(), failed(body)).await;
    assert_eq!(response.body().size_hint().exact(), Some(1 << 30));
    assert_eq!(error(&response).kind(), ErrorKind::RateLimit);
}
