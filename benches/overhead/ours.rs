//! The rows of this crate's own layers.

use std::time::Duration;

use http::{HeaderValue, Request, header::AUTHORIZATION};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{
    Call, ErrorClassifyLayer,
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Jitter, Repeat, Standard},
    key_check::{ApiKey, KeyCheckLayer, Origin},
    provider::OpenAi,
    quota_meter::QuotaMeterLayer,
};

use crate::harness::{Bare, Body, ByHand, Case, Flaky, ok, ok_with_limits, rate_limited, request};

pub(crate) const BARE: &str = "bare service";
pub(crate) const BARE_6: &str = "bare service, 6 limit headers";
pub(crate) const BARE_12: &str = "bare service, 12 limit headers";
pub(crate) const BARE_CALL: &str = "bare service, request has a Call";
pub(crate) const RETRY: &str = "BackoffRetry";
pub(crate) const RETRY_UNMARKED: &str = "BackoffRetry, without_mark";
pub(crate) const HAND: &str = "a header put in by hand";
pub(crate) const HAND_CALL: &str = "a header put in by hand, request has a Call";
pub(crate) const KEY: &str = "KeyCheck";
pub(crate) const KEY_UNMARKED: &str = "KeyCheck, without_mark";
pub(crate) const KEY_CALL: &str = "KeyCheck, request has a Call";
pub(crate) const METER: &str = "QuotaMeter";
pub(crate) const METER_6: &str = "QuotaMeter, 6 limit headers";
pub(crate) const METER_12: &str = "QuotaMeter, 12 limit headers";
pub(crate) const BARE_ASKING: &str = "bare service, a key and 256 bytes of JSON";
pub(crate) const METER_ASKING: &str = "QuotaMeter, a key and 256 bytes of JSON";
pub(crate) const METER_SCOPED: &str = "QuotaMeter, scope by host, key and model";
pub(crate) const CLASSIFY: &str = "ErrorClassify";
pub(crate) const BARE_429: &str = "bare service, 429 with 400 bytes of JSON";
pub(crate) const CLASSIFY_429: &str = "ErrorClassify, 429 with 400 bytes of JSON";
pub(crate) const STACK: &str = "the stack";
pub(crate) const STACK_6: &str = "the stack, 6 limit headers";
pub(crate) const STACK_12: &str = "the stack, 12 limit headers";
pub(crate) const BY_HAND: &str = "by hand";

/// `$service` under all layers in the recommended order.
macro_rules! stack {
    ($service:expr) => {
        ServiceBuilder::new()
            .layer(retry())
            .layer(key())
            .layer(QuotaMeterLayer::fixed())
            .layer(classify())
            .service($service)
    };
}

/// Calls that need no wait, over a bare service.
pub(crate) fn happy() -> Vec<Case> {
    let bare = || Bare::new(ok());
    let with = |headers| Bare::new(ok_with_limits(headers));
    let by_hand = || ByHand(bare(), HeaderValue::from_static("Bearer sk-test-0123456789"));
    let limited = || Bare::new(rate_limited());
    let meter = QuotaMeterLayer::fixed;
    vec![
        Case::new(BARE, bare(), request()),
        Case::new(RETRY, ServiceBuilder::new().layer(retry()).service(bare()), request()).over(BARE),
        Case::new(RETRY_UNMARKED, ServiceBuilder::new().layer(retry().without_mark()).service(bare()), request())
            .over(BARE),
        Case::new(HAND, by_hand(), request()).over(BARE),
        Case::new(KEY, ServiceBuilder::new().layer(key()).service(bare()), request()).over(HAND),
        Case::new(KEY_UNMARKED, ServiceBuilder::new().layer(key().without_mark()).service(bare()), request())
            .over(HAND),
        Case::new(METER, ServiceBuilder::new().layer(meter()).service(bare()), request()).over(BARE),
        Case::new(CLASSIFY, ServiceBuilder::new().layer(classify()).service(bare()), request()).over(BARE),
        Case::new(STACK, stack!(bare()), request()).over(BARE),
        Case::new(BARE_CALL, bare(), with_call()),
        Case::new(HAND_CALL, by_hand(), with_call()).over(BARE_CALL),
        Case::new(KEY_CALL, ServiceBuilder::new().layer(key()).service(bare()), with_call()).over(HAND_CALL),
        Case::new(BARE_6, with(6), request()),
        Case::new(METER_6, ServiceBuilder::new().layer(meter()).service(with(6)), request()).over(BARE_6),
        Case::new(STACK_6, stack!(with(6)), request()).over(BARE_6),
        Case::new(BARE_12, with(12), request()),
        Case::new(METER_12, ServiceBuilder::new().layer(meter()).service(with(12)), request()).over(BARE_12),
        Case::new(STACK_12, stack!(with(12)), request()).over(BARE_12),
        Case::new(BARE_ASKING, bare(), asking()),
        Case::new(METER_ASKING, ServiceBuilder::new().layer(meter()).service(bare()), asking()).over(BARE_ASKING),
        Case::new(METER_SCOPED, ServiceBuilder::new().layer(QuotaMeterLayer::new()).service(bare()), asking())
            .over(METER_ASKING),
        Case::new(BARE_429, limited(), request()),
        Case::new(CLASSIFY_429, ServiceBuilder::new().layer(classify()).service(limited()), request()).over(BARE_429),
    ]
}

/// A request by which hosts, keys and models are told apart, and the most tokens of the answer.
fn asking() -> Request<Body> {
    let body = format!(
        r#"{{"model":"gpt-4o-mini","max_tokens":500,"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "Say something. ".repeat(11)
    );
    let mut request = request().map(|_| Body::new(format!("{body:256}").into()));
    let key = format!("Bearer sk-proj-{}", "0123456789abcdef".repeat(9));
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::try_from(key).expect("a header"));
    request
}

/// Whole calls with one retry each, over a service that answers 503, then 200; in paused time.
pub(crate) fn one_retry() -> Vec<Case> {
    let service = Flaky::default();
    let by_hand = service_fn(move |request: Request<Body>| {
        let mut service = service.clone();
        async move {
            loop {
                let response = service.ready().await?.call(request.clone()).await?;
                if !response.status().is_server_error() {
                    return Ok::<_, tower::BoxError>(response);
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    });
    vec![
        Case::paused(BY_HAND, by_hand, request()),
        Case::paused(RETRY, ServiceBuilder::new().layer(retry()).service(Flaky::default()), request()).over(BY_HAND),
        Case::paused(
            RETRY_UNMARKED,
            ServiceBuilder::new().layer(retry().without_mark()).service(Flaky::default()),
            request(),
        )
        .over(BY_HAND),
        Case::paused(STACK, stack!(Flaky::default()), request()).over(BY_HAND),
    ]
}

/// With as much of a budget as tower's has, for calls that are all retried. Each waits half a second, as beside it by hand and
/// with the peers, whose waits are the same for every call: a random number is drawn, but spreads nothing, since other waits
/// turn tokio's wheel otherwise.
fn retry() -> BackoffRetryLayer {
    let backoff = Backoff::exponential(Duration::from_millis(500)).jitter(Jitter::Proportional(0.0));
    BackoffRetryLayer::new()
        .policy(Standard::new().backoff(backoff))
        .repeat(Repeat::All)
        .budget(Budget::share_of_traffic(0.1).floor(10.0))
}

fn key() -> KeyCheckLayer {
    let key = ApiKey::new("sk-test-0123456789").expect("a sound key");
    KeyCheckLayer::new(key, Origin::parse("https://api.openai.com/v1").expect("an origin"))
}

fn classify() -> ErrorClassifyLayer {
    ErrorClassifyLayer::new(OpenAi)
}

fn with_call() -> Request<Body> {
    let mut request = request();
    request.extensions_mut().insert(Call::now());
    request
}
