//! In the stack, outside of the retry.

use std::time::Duration;

use http_body_util::BodyExt;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_outbound::{
    ApiKey, BackoffRetryLayer, ErrorClassifyLayer, ErrorKind, KeyCheckLayer, Origin, QuotaMeterLayer,
    RequestCheckLayer, TokenCost,
    backoff_retry::{Repeat, RetryReport},
    body::ReplayBody,
    failure,
    fallback::{Breaker, FallbackLayer},
    mock::{Script, ok, status},
    provider::OpenAi,
};

use super::report;
use crate::common::{get, post, with};

/// The layers under a fallback, over this script.
macro_rules! stack {
    ($script:expr, $key:expr) => {
        ServiceBuilder::new()
            .layer(BackoffRetryLayer::new().repeat(Repeat::All))
            .layer(KeyCheckLayer::new(ApiKey::new($key).unwrap(), Origin::parse("https://api.example").unwrap()))
            .layer(QuotaMeterLayer::new())
            .layer(ErrorClassifyLayer::new(OpenAi))
            .service($script.clone())
    };
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_the_second_stack_has_its_own() {
    let first = Script::new().strict().otherwise(status(503));
    let second = Script::new().strict().then(status(500)).otherwise(ok("second"));
    let other = stack!(second, "sk-second-0123456789");
    let service = ServiceBuilder::new()
        .layer(RequestCheckLayer::new())
        .layer(FallbackLayer::new().breaker(Breaker::new()).service("second", other))
        .service(stack!(first, "sk-first-0123456789"));
    let response = service.oneshot(post()).await.unwrap();
    assert_eq!(first.count(), 3, "all attempts first");
    assert_eq!(second.count(), 2, "the mark of the first retry is gone, so the second one retries");
    assert_eq!(report(&response).by.as_deref(), Some("second"));
    assert_eq!(response.extensions().get::<RetryReport>().unwrap().attempts, 2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "second");
    first.assert_header("authorization", [Some("Bearer sk-first-0123456789"); 3]);
    second.assert_header("authorization", [Some("Bearer sk-second-0123456789"); 2]);
    second.assert_bodies(["body", "body"]);
}

/// A rate limit past the longest wait: the retry does not wait, and another answers.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_that_is_not_waited_for_is_covered() {
    let first = Script::new().otherwise(status(429).retry_after(3600));
    let layer =
        FallbackLayer::new().service("second", stack!(Script::new().otherwise(ok("second")), "sk-second-0123456789"));
    let begun = tokio::time::Instant::now();
    let response = layer.layer(stack!(first, "sk-first-0123456789")).oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

/// One buffer, put on at the outside, for the retry and the fallback.
#[tokio::test(start_paused = true)]
async fn a_stream_is_kept_once_for_both() {
    let first = Script::new().otherwise(status(503));
    let second = Script::new().otherwise(ok("second"));
    let layer = FallbackLayer::new().service("second", stack!(second, "sk-second-0123456789"));
    let service = layer.layer(stack!(first, "sk-first-0123456789"));
    let request = post().map(|body| ReplayBody::new(body, 1024));
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    first.assert_bodies(["body"; 3]);
    second.assert_bodies(["body"]);
}

/// The second answer that comes out, or the kind of the failure.
fn outcome<B>(result: &Result<http::Response<B>, tower::BoxError>) -> Result<&str, ErrorKind> {
    match failure(result) {
        Some(error) => Err(error.kind()),
        None => Ok(report(result.as_ref().unwrap()).by.as_deref().unwrap_or_default()),
    }
}

/// First the server says it, then the layers, which send nothing.
#[tokio::test(start_paused = true)]
async fn a_spent_quota_is_covered_whoever_finds_it() {
    const SPENT: &str = r#"{"error":{"message":"No credit.","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let key = |key| KeyCheckLayer::new(ApiKey::new(key).unwrap(), Origin::parse("https://api.example").unwrap());
    let classify = || ErrorClassifyLayer::new(OpenAi);
    macro_rules! covers {
        ($stack:expr) => {{
            let first = Script::new().strict().otherwise(status(429).body(SPENT));
            let second = Script::new().strict().otherwise(ok("second"));
            let layer = FallbackLayer::new().service("second", $stack(&second, "sk-second-0123456789"));
            let service = layer.layer($stack(&first, "sk-first-0123456789"));
            for _ in 0..3 {
                assert_eq!(outcome(&service.clone().oneshot(post()).await), Ok("second"));
            }
            assert_eq!((first.count(), second.count()), (1, 3), "asked once, and then left alone");
        }};
    }
    covers!(|script: &Script, key| stack!(script, key));
    covers!(|script: &Script, _| QuotaMeterLayer::new().layer(classify().layer(script.clone())));
    covers!(|script: &Script, name| key(name).layer(classify().layer(script.clone())));
}

/// What no server with this quota would take is the caller's to mend; another may have a larger one, if that is said.
#[tokio::test(start_paused = true)]
async fn a_request_larger_than_the_whole_limit_is_covered_only_if_asked() {
    let limits = ok("first").header("x-ratelimit-limit-tokens", 1000).header("x-ratelimit-remaining-tokens", 1000);
    let first = Script::new().otherwise(limits);
    let second = Script::new().otherwise(ok("second"));
    let stack = stack!(first, "sk-first-0123456789");
    assert_eq!(stack.clone().oneshot(post()).await.unwrap().status(), 200);
    let large = || with(post(), TokenCost(1001));

    let layer = || FallbackLayer::new().service("second", stack!(second, "sk-second-0123456789"));
    let refused = layer().layer(stack.clone()).oneshot(large()).await;
    assert_eq!(outcome(&refused), Err(ErrorKind::RequestTooLarge));
    assert_eq!((first.count(), second.count()), (1, 0));

    let asked = layer().cover(|failure| failure.error().kind() == ErrorKind::RequestTooLarge);
    assert_eq!(outcome(&asked.layer(stack).oneshot(large()).await), Ok("second"));
    assert_eq!((first.count(), second.count()), (1, 1));
}
