//! `stack::openai()`: what it refuses, and who answers when nobody is there.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::{
    ApiError, ApiKey, BackoffRetryLayer, ErrorKind, KeyCheckLayer, Origin,
    backoff_retry::{Backoff, RetryReport, Standard, StopReason},
    fallback::{FallbackLayer, FallbackReport},
    find_cause,
    mock::MockApi,
    request_check::{BadRequest, RequestCheckLayer},
    stack::{self, Stack, StackService},
};

use super::KEY;

type Stacked = StackService<Client<HttpConnector, Full<Bytes>>>;

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn stack(url: &str) -> Stack {
    stack::openai().base_url(&format!("{url}/v1")).api_key(KEY).checked().unwrap()
}

fn question(body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Request::post("/chat/completions").header("content-type", "application/json").body(body).unwrap()
}

const GOOD: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;
const BAD: &str = r#"{"model":"m","messages":[{"role":"usr","content":"Hello"}]}"#;

async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn by<B>(response: &Response<B>) -> Option<&str> {
    response.extensions().get::<FallbackReport>()?.by.as_deref()
}

#[tokio::test]
async fn where_the_first_is_dead_another_answers() {
    let api = MockApi::builder().keys([KEY]).build();
    let server = api.serve().await.unwrap();
    let second: Stacked = stack(&server.url()).layer(client());
    let at_once = Standard::new().backoff(Backoff::constant(Duration::ZERO));
    let first = stack(&nobody().await).retry(BackoffRetryLayer::openai_sdk().policy(at_once));
    let service = first.fallback(FallbackLayer::new().service("second", second)).layer(client());

    let response = service.clone().oneshot(question(GOOD)).await.unwrap();
    assert_eq!((response.status().as_u16(), by(&response)), (200, Some("second")));
    let why = response.extensions().get::<FallbackReport>().unwrap().why.kind();
    assert_eq!((why, api.counters().calls), (ErrorKind::Unavailable, 1));

    let error = service.oneshot(question(BAD)).await.unwrap_err();
    assert!(find_cause::<BadRequest>(&*error).is_some(), "{error:?}");
    assert_eq!(api.counters().calls, 1, "what is wrong with a request, no other service mends");
}

/// A way of giving keys of one's own holds, whether key and base URL are set before it or after.
#[tokio::test]
async fn the_order_of_settings_makes_no_difference() {
    let api = MockApi::builder().keys([KEY]).build();
    let server = api.serve().await.unwrap();
    let url = format!("{}/v1", server.url());
    let own = KeyCheckLayer::new(ApiKey::new(KEY).unwrap(), Origin::parse(&url).unwrap());
    let another = "sk-another-0123456789";
    for stack in [
        stack::openai().key_check(own.clone()).api_key(another).base_url(&url),
        stack::openai().api_key(another).base_url(&url).key_check(own.clone()),
        stack::openai().base_url(&url).key_check(own).api_key(""),
    ] {
        let response = stack.checked().unwrap().layer(client()).oneshot(question(GOOD)).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_time_holds_for_any_retry() {
    let limit = Duration::from_nanos(1);
    let retry = BackoffRetryLayer::openai_sdk;
    for stack in [
        stack("http://127.0.0.1:9").max_elapsed(limit).retry(retry()),
        stack("http://127.0.0.1:9").retry(retry()).max_elapsed(limit),
    ] {
        let down = service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, BoxError>(Response::builder().status(503).body(Full::<Bytes>::default())?)
        });
        let response = stack.layer(down).oneshot(question(GOOD)).await.unwrap();
        let report = response.extensions().get::<RetryReport>().unwrap();
        assert_eq!((report.attempts, report.stopped), (1, Some(StopReason::PastDeadline)));
    }
}

#[tokio::test]
async fn what_can_only_fail_is_not_sent() {
    let api = MockApi::builder().keys([KEY]).build();
    let server = api.serve().await.unwrap();
    let openai = stack(&server.url());
    let meter = openai.quota_meter().clone();
    let error = openai.layer(client()).oneshot(question(BAD)).await.unwrap_err();
    let bad = find_cause::<BadRequest>(&*error).unwrap();
    assert_eq!(bad.faults().len(), 1, "{bad}");
    assert_eq!(ApiError::from_error(&*error).kind(), ErrorKind::InvalidRequest);
    assert_eq!((api.counters().calls, meter.snapshot().counts.sent), (0, 0));

    // Another API may have its own mind about roles.
    let lenient = openai.request_check(RequestCheckLayer::new());
    let response = lenient.layer(client()).oneshot(question(BAD)).await.unwrap();
    assert_eq!((response.status().as_u16(), api.counters().calls), (200, 1));
}
