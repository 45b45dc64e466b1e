//! Which failures are covered.

use http::{Request, Response, StatusCode};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::{
    ErrorKind, Gate, Refused, RetryHint,
    mock::{MockBody, Script, Step, dropped, ok, status},
};

use super::{Fallback, ask, report, second, send};
use crate::common::{Text, get, told};

async fn is_covered(step: Step) -> bool {
    let (layer, others) = second();
    let answer = ask(&layer, &Script::new().then(step)).await;
    assert_eq!(answer == "second", others.count() == 1);
    others.count() == 1
}

#[tokio::test(start_paused = true)]
async fn by_default_what_is_the_servers_own_fault_or_a_spent_quota() {
    for code in [500, 502, 503, 504, 408, 529] {
        assert!(is_covered(status(code)).await, "{code}");
    }
    for code in [400, 401, 403, 404, 409, 413, 422, 429, 301] {
        assert!(!is_covered(status(code)).await, "{code}");
    }
    assert!(is_covered(dropped()).await);
    use ErrorKind as Kind;
    for kind in [Kind::Unavailable, Kind::Overloaded, Kind::Server, Kind::Timeout, Kind::QuotaExhausted] {
        assert!(is_covered(told(429, kind, RetryHint::Never)).await, "{kind}");
    }
    for kind in [
        Kind::RateLimit,
        Kind::Authentication,
        Kind::Permission,
        Kind::NotFound,
        Kind::InvalidRequest,
        Kind::ContextLength,
        Kind::ContentPolicy,
        Kind::RequestTooLarge,
        Kind::Conflict,
        Kind::Unprocessable,
        Kind::Unknown,
    ] {
        assert!(!is_covered(told(503, kind, RetryHint::Backoff)).await, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_meter_that_would_wait_too_long_is_covered_and_a_dead_key_is_not() {
    for (gate, covered) in [(Gate::Quota, true), (Gate::Breaker, true), (Gate::Key, false), (Gate::Request, false)] {
        let (layer, others) = second();
        let refusing = service_fn(|_: Request<Text>| async move {
            Err::<Response<MockBody>, _>(BoxError::from(Refused::new(gate, None, "no")))
        });
        let answer = layer.layer(refusing).oneshot(get()).await;
        assert_eq!((answer.is_ok(), others.count()), (covered, usize::from(covered)), "{gate}");
    }
}

#[tokio::test(start_paused = true)]
async fn by_a_function_whatever_it_says() {
    let (layer, _) = second();
    let layer = layer.cover(|failure| failure.error().kind() == ErrorKind::NotFound);
    assert_eq!(ask(&layer, &Script::new().then(status(404))).await, "second");
    assert_eq!(ask(&layer, &Script::new().then(status(503))).await, "503");
}

#[tokio::test(start_paused = true)]
async fn a_good_answer_passes_as_it_is() {
    let (layer, others) = second();
    let response = send(&layer, &Script::new().then(ok("first").header("x-a", 1)), get()).await.unwrap();
    assert_eq!((response.status(), &response.body()[..]), (StatusCode::OK, &b"first"[..]));
    assert!(response.headers().contains_key("x-a") && response.extensions().is_empty());
    assert_eq!(others.count(), 0);
}

/// Its head was good, and some of it may have been used.
#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_is_never_replaced() {
    let (layer, others) = second();
    assert!(send(&layer, &Script::new().then(ok("a long answer").cut()), get()).await.is_err());
    assert_eq!(others.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_answer_that_is_not_covered_comes_out_whole() {
    let layer = Fallback::new().function("function", |_| panic!("not asked"));
    let response = send(&layer, &Script::new().then(status(400).body("why")), get()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (400, &b"why"[..]));
}

#[tokio::test(start_paused = true)]
async fn the_answer_says_of_what_it_is_and_why() {
    let (layer, _) = second();
    let response = send(&layer, &Script::new().then(status(503)), get()).await.unwrap();
    let report = report(&response);
    assert_eq!((report.by.as_deref(), report.of.as_str()), (Some("second"), "GET api.example/v1/things"));
    assert_eq!((report.why.kind(), report.failed.len(), report.age), (ErrorKind::Unavailable, 0, None));
}
