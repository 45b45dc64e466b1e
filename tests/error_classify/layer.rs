//! The layer as one uses it: providers by host, failures as errors, and a service that is not ready.

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{
    ApiError, ErrorClassify, ErrorClassifyLayer, ErrorKind, RetryHint,
    error_classify::IntoErrorsLayer,
    failure,
    provider::{Code, Failure, OpenAi, Provider, Providers, Verdict},
};

fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
}

#[derive(Debug)]
struct Acme;

impl Provider for Acme {
    fn name(&self) -> &str {
        "acme"
    }

    fn hosts(&self) -> &[&str] {
        &["api.acme.test", "*.eu.acme.test"]
    }

    fn codes(&self) -> &[Code] {
        const { &[Code::new("E_FUNDS", ErrorKind::QuotaExhausted), Code::new("E_BUSY", ErrorKind::Overloaded)] }
    }

    fn judge(&self, failure: &Failure<'_>) -> Option<Verdict> {
        (failure.status() == 420).then(|| Verdict::new(ErrorKind::RateLimit).or_after(Duration::from_secs(60)))
    }
}

#[tokio::test(start_paused = true)]
async fn ones_own_provider() {
    for (status, body, kind, hint) in [
        (400, r#"{"code":"E_FUNDS"}"#, ErrorKind::QuotaExhausted, RetryHint::Never),
        (500, r#"{"error":{"code":"E_BUSY"}}"#, ErrorKind::Overloaded, RetryHint::Backoff),
        (420, "", ErrorKind::RateLimit, RetryHint::After(Duration::from_secs(60))),
        (404, "", ErrorKind::NotFound, RetryHint::Never),
    ] {
        let api = service_fn(async |_: Request<()>| Ok::<_, Infallible>(answer(status, body)));
        let response = ErrorClassify::new(api, Acme).oneshot(Request::new(())).await.unwrap();
        let error = response.extensions().get::<ApiError>().unwrap();
        assert_eq!((error.kind(), error.retry()), (kind, hint), "{status} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_provider_by_host() {
    let api = service_fn(async |_: Request<()>| Ok::<_, Infallible>(answer(403, "{}")));
    let providers = Providers::by_host().with(Acme).host("llm.example.test", OpenAi);
    assert_eq!(providers.of(&Request::get("https://x.eu.acme.test/v1").body(()).unwrap()).name(), "acme");
    assert_eq!(providers.of(&Request::get("https://LLM.example.test:8443/").body(()).unwrap()).name(), "openai");
    assert_eq!(providers.of(&Request::get("https://mine.openai.azure.com/").body(()).unwrap()).name(), "azure");
    assert_eq!(providers.of(&Request::get("https://openai.azure.com.evil.test/").body(()).unwrap()).name(), "generic");
    let client = ServiceBuilder::new().layer(ErrorClassifyLayer::new(providers)).service(api);
    // Together's 403 is a prompt too long, and nobody else's.
    let by_header = Request::get("/v1").header("host", "api.together.xyz:443").body(()).unwrap();
    for (request, kind) in [
        (Request::get("https://api.together.xyz/v1").body(()).unwrap(), ErrorKind::ContextLength),
        (by_header, ErrorKind::ContextLength),
        (Request::get("https://api.openai.com/v1").body(()).unwrap(), ErrorKind::Permission),
        (Request::get("/v1").body(()).unwrap(), ErrorKind::Permission),
    ] {
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.extensions().get::<ApiError>().unwrap().kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_as_errors() {
    let api = service_fn(async |request: Request<()>| match request.uri().path() {
        "/ok" => Ok(answer(200, "fine")),
        "/down" => Err::<_, BoxError>(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
        _ => Ok(answer(429, r#"{"error":{"type":"tokens","message":"Please try again in 9.816s"}}"#)),
    });
    let client = ServiceBuilder::new().layer(ErrorClassifyLayer::new(OpenAi).into_errors()).service(api);
    let get = |path: &str| client.clone().oneshot(Request::get(path).body(()).unwrap());
    assert!(get("/ok").await.is_ok());
    let error = get("/limited").await.unwrap_err();
    assert_eq!(error.to_string(), "429 rate limit (tokens): wait 9.8 s");
    let error = get("/down").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_reached_server()), (ErrorKind::Unavailable, false));
    assert!(tower_outbound::find_cause::<io::Error>(&error).is_some());
}

#[tokio::test(start_paused = true)]
async fn failures_as_errors_without_a_classifier() {
    let api = service_fn(async |_: Request<()>| Ok::<_, BoxError>(answer(503, "")));
    let client = ServiceBuilder::new().layer(IntoErrorsLayer::new()).service(api);
    assert_eq!(client.oneshot(Request::new(())).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn applied_twice_it_reads_once() {
    let api =
        service_fn(async |_: Request<()>| Ok::<_, BoxError>(answer(429, r#"{"error":{"code":"insufficient_quota"}}"#)));
    let layer = ErrorClassifyLayer::new(OpenAi);
    let response = ServiceBuilder::new().layer(layer.clone()).layer(layer).service(api).oneshot(Request::new(())).await;
    assert_eq!(failure(&response).unwrap().kind(), ErrorKind::QuotaExhausted);
    let body = http_body_util::BodyExt::collect(response.unwrap().into_body()).await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"error\""));
}

#[tokio::test(start_paused = true)]
async fn errors_and_readiness_are_the_inner_services() {
    let (mut client, mut handle) =
        tower_test::mock::spawn_layer::<Request<()>, Response<Full<Bytes>>, _>(ErrorClassifyLayer::default());
    handle.allow(0);
    tokio_test::assert_pending!(client.poll_ready());
    handle.allow(1);
    tokio_test::assert_ready_ok!(client.poll_ready());
    handle.send_error("inner");
    tokio_test::assert_ready!(client.poll_ready()).unwrap_err();
}

#[test]
fn they_can_be_sent() {
    fn both<T: Send + Sync>() {}
    both::<ErrorClassify<()>>();
    both::<ErrorClassifyLayer>();
    both::<ApiError>();
    both::<tower_outbound::error_classify::ResponseBody<Full<Bytes>>>();
    both::<tower_outbound::error_classify::ResponseFuture<std::future::Ready<()>, Full<Bytes>>>();
}
