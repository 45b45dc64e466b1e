//! Failures inside a 200.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tower_outbound::{ApiError, ErrorClassifyLayer, ErrorKind, RetryHint, provider::OpenRouter};

use crate::support::{Script, Step, call};

async fn judge(layer: ErrorClassifyLayer, body: &str) -> Option<ApiError> {
    let body = Full::new(Bytes::from(body.to_owned()));
    let response = Response::builder().header("content-type", "application/json; charset=utf-8").body(body).unwrap();
    call(layer, response).await.extensions().get::<ApiError>().cloned()
}

fn looking() -> ErrorClassifyLayer {
    ErrorClassifyLayer::new(OpenRouter).failures_in_successes(true)
}

#[tokio::test(start_paused = true)]
async fn found_only_when_asked_for() {
    let failed = r#"{"error":{"code":502,"message":"Provider returned error"}}"#;
    assert!(judge(ErrorClassifyLayer::new(OpenRouter), failed).await.is_none());
    let error = judge(looking(), failed).await.unwrap();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, RetryHint::Backoff));
    assert_eq!((error.code(), error.status().map(|status| status.as_u16())), (Some("502"), Some(200)));
}

#[tokio::test(start_paused = true)]
async fn successes_are_successes() {
    for body in [
        r#"{"object":"response","status":"completed","error":null,"output":[]}"#,
        r#"{"object":"response","status":"in_progress","error":null}"#,
        r#"{"error":false,"data":[]}"#,
        r#"{"error":"","data":[]}"#,
        r#"{"error":{},"data":[]}"#,
        r#"{"status":"failed","jobs":[]}"#,
        r#"{"data":{"a":1},"errors":[{"message":"one field is missing"}]}"#,
        r#"{"object":"thread.run","status":"cancelled","last_error":null}"#,
        r#"{"choices":[{"message":{"content":"{\"error\":{\"code\":\"server_error\"}}"}}]}"#,
        "[1,2,3]",
        "\"error\"",
        "",
        "{",
    ] {
        assert!(judge(looking(), body).await.is_none(), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_failures() {
    for (body, kind, retry) in [
        (
            r#"{"object":"thread.run","status":"failed","last_error":{"code":"server_error","message":"Sorry"}}"#,
            ErrorKind::Server,
            true,
        ),
        (r#"{"object":"thread.run","status":"expired","last_error":null}"#, ErrorKind::Timeout, true),
        (
            r#"{"object":"thread.run","status":"failed","last_error":{"code":"invalid_prompt","message":"Bad"}}"#,
            ErrorKind::InvalidRequest,
            false,
        ),
        (
            r#"{"object":"response","status":"failed","error":{"code":"invalid_prompt","message":"Bad"}}"#,
            ErrorKind::ContentPolicy,
            false,
        ),
        (r#"{"object":"response","status":"failed","error":null}"#, ErrorKind::Unknown, true),
        (
            r#"{"custom_id":"1","response":{"status_code":429,"request_id":"r","body":{"error":{"message":"Rate limit reached","type":"tokens","code":"rate_limit_exceeded"}}},"error":null}"#,
            ErrorKind::RateLimit,
            true,
        ),
        (
            r#"{"custom_id":"1","response":{"status_code":404,"body":{"error":{"code":"model_not_found"}}},"error":null}"#,
            ErrorKind::NotFound,
            false,
        ),
        (
            r#"{"custom_id":"1","response":null,"error":{"code":"batch_cancelled","message":"Cancelled."}}"#,
            ErrorKind::Unknown,
            false,
        ),
        (
            r#"{"id":"x","choices":[{"finish_reason":"error","error":{"code":429,"message":"Rate limited upstream"}}]}"#,
            ErrorKind::RateLimit,
            true,
        ),
    ] {
        let error = judge(looking(), body).await.unwrap_or_else(|| panic!("{body}"));
        assert_eq!((error.kind(), error.retry().may_succeed()), (kind, retry), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_is_one_unless_told_otherwise() {
    let half = r#"{"object":"thread.run","status":"incomplete","incomplete_details":{"reason":"max_prompt_tokens"}}"#;
    assert!(judge(looking(), half).await.is_none());
    let error = judge(looking().incomplete_is_failure(true), half).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::ContextLength);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_json_is_not_read() {
    let body = Script::new([Step::data("error")]);
    let asked = body.asked();
    let response = Response::builder().header("content-type", "audio/mpeg").body(body).unwrap();
    call(looking().failures_in_streams(true), response).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
