//! In the stack, and over TCP.

use std::task::{Context, Poll};

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{
    ApiKey, BackoffRetryLayer, ErrorClassifyLayer, ErrorKind, KeyCheckLayer, Origin, QuotaMeterLayer, failure,
    mock::{MockApi, Script, ok, status},
    provider::OpenAi,
    request_check::{CheckedBody, RequestCheckLayer},
    stack,
};

use crate::{body::streamed, common::post, json};

const HELLO: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}"#;

#[tokio::test]
async fn over_tcp_the_whole_stack_sends_what_is_right_and_nothing_else() {
    let api = MockApi::default();
    let server = api.serve().await.unwrap();
    let uri = format!("{}/v1/chat/completions", server.url());
    let mut service = ServiceBuilder::new()
        .layer(RequestCheckLayer::new().openai())
        .layer(BackoffRetryLayer::openai_sdk())
        .layer(KeyCheckLayer::new(ApiKey::new("sk-test-0123456789").unwrap(), Origin::parse(&server.url()).unwrap()))
        .layer(QuotaMeterLayer::new())
        .layer(ErrorClassifyLayer::new(OpenAi))
        .service(Client::builder(TokioExecutor::new()).build_http());
    for round in 0..10 {
        let wrong = service.ready().await.unwrap().call(json(&uri, r#"{"model":"m","messages":[]}"#)).await;
        assert_eq!(failure(&wrong).unwrap().param(), Some("/messages"));
        let right = service.ready().await.unwrap().call(json(&uri, HELLO)).await.unwrap();
        assert_eq!(right.status(), 200);
        assert!(!right.into_body().collect().await.unwrap().to_bytes().is_empty());
        assert_eq!(api.records().len(), round + 1);
    }
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn under_it_a_retry_sends_the_same_body_again() {
    let script = Script::new().then(status(503)).otherwise(ok("{}"));
    let service = ServiceBuilder::new()
        .layer(RequestCheckLayer::new())
        .layer(BackoffRetryLayer::openai_sdk())
        .service(script.clone());
    assert_eq!(service.oneshot(post()).await.unwrap().status(), 200);
    script.assert_bodies(["body", "body"]);
}

/// The stack's own check sees what a stream says of its size, and no more.
#[tokio::test]
async fn over_a_ready_made_stack_a_stream_is_held_to_the_limit() {
    let client = service_fn(|request: Request<CheckedBody<_>>| async move {
        let read = BodyExt::collect(request.into_body()).await?.to_bytes();
        Ok::<_, BoxError>(http::Response::new(Full::new(read)))
    });
    let stack = stack::openai().base_url("https://api.example/v1").api_key("sk-test-0123456789").checked().unwrap();
    let service = ServiceBuilder::new().layer(RequestCheckLayer::new().max_body(30)).layer(stack).service(client);
    for (chunks, expected) in [(3, None), (4, Some(ErrorKind::RequestTooLarge))] {
        let request = Request::post("https://api.example/v1/files").body(streamed(chunks)).unwrap();
        let answer = service.clone().oneshot(request).await;
        assert_eq!(failure(&answer).map(|error| error.kind()), expected);
    }
}

#[test]
fn readiness_is_the_inner_services() {
    let mut service = ServiceBuilder::new().layer(RequestCheckLayer::new()).service(Script::new().never_ready_after(0));
    let ready = Service::<http::Request<Full<bytes::Bytes>>>::poll_ready(
        &mut service,
        &mut Context::from_waker(std::task::Waker::noop()),
    );
    assert!(matches!(ready, Poll::Pending));
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_keeps_no_permit() {
    let limit = tower::limit::GlobalConcurrencyLimitLayer::new(1);
    let mut one =
        ServiceBuilder::new().layer(RequestCheckLayer::new()).layer(&limit).service(Script::new().otherwise(ok("{}")));
    let mut other = one.clone();
    assert!(crate::common::ready(&mut one).await.call(json("https://api.example/", "{")).await.is_err());
    let call = async { crate::common::ready(&mut other).await.call(json("https://api.example/", "{}")).await };
    let answer = tokio::time::timeout(crate::common::secs(60.0), call).await.expect("no deadlock");
    assert_eq!(answer.unwrap().status(), 200);
}

/// One that has made services already may be changed: those that it makes then go by what holds then.
#[tokio::test(start_paused = true)]
async fn a_stack_that_is_in_use_may_be_changed() {
    let script = Script::new().otherwise(ok("{}"));
    let send = async |stack: &stack::Stack, body| {
        stack.layer(script.clone()).oneshot(json("/chat/completions", body)).await.unwrap();
    };
    let first = stack::openai().base_url("https://one.example/v1").api_key("sk-test-0123456789");
    send(&first, HELLO).await;
    send(&first.clone().base_url("https://other.example/v1"), HELLO).await;
    send(&first.request_check(RequestCheckLayer::new()), "{}").await;
    let hosts: Vec<_> = script.calls().iter().map(|sent| sent.uri.host().unwrap().to_owned()).collect();
    assert_eq!(hosts, ["one.example", "other.example", "one.example"]);
}
