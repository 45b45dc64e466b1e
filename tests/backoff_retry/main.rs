//! BackoffRetry by itself: it sends again what may succeed, never before the server said, within limits.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

#[path = "../common/mod.rs"]
mod common;

mod again;
mod budget;
mod connections;
mod curves;
mod drained;
mod dropped;
mod limits;
mod nested;
mod readiness;
mod repeat;
mod replay;
mod report;
mod streams;
mod waits;

use std::time::Duration;

use http::{Request, Response};
use tower::{BoxError, Layer, ServiceExt};
use tower_outbound::{
    ErrorKind, RetryHint,
    backoff_retry::{Backoff, BackoffRetryLayer, Jitter, Standard},
    mock::{MockBody, Script, Step},
};

use self::common::{Text, Told, told};

/// A retry that waits a second each time, and has all the budget.
fn every_second() -> BackoffRetryLayer {
    attempts(3)
}

/// The same, with so many attempts.
fn attempts(attempts: u32) -> BackoffRetryLayer {
    let backoff = Backoff::constant(Duration::from_secs(1)).jitter(Jitter::None);
    let attempts = attempts.try_into().expect("not zero");
    BackoffRetryLayer::new()
        .policy(Standard::new().max_attempts(attempts).backoff(backoff))
        .budget(tower_outbound::backoff_retry::Budget::unlimited())
}

/// One call through the layer to a service that plays the script.
async fn send(
    layer: &BackoffRetryLayer,
    script: &Script,
    request: Request<Text>,
) -> Result<Response<MockBody>, BoxError> {
    layer.layer(Told(script.clone())).oneshot(request).await
}

/// A 503 that may be sent again whenever.
fn overloaded() -> Step {
    told(503, ErrorKind::Overloaded, RetryHint::Backoff)
}

/// A 429 with a hint.
fn limited(hint: Duration) -> Step {
    told(429, ErrorKind::RateLimit, RetryHint::After(hint))
}
