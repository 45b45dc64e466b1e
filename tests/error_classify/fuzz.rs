//! Whatever a server sends: no panic, bounded time, and the body as it was. The same as the fuzz target does.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use proptest::prelude::*;
use tower_outbound::{ApiError, ErrorClassifyLayer, RetryHint, provider::Providers};

use crate::support::{Got, Script, Step, call, frames};

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// Through the layer and back, with every look switched on.
fn round_trip(status: u16, headers: &[(HeaderName, HeaderValue)], pieces: &[Vec<u8>], provider: usize) {
    let names = [
        "openai",
        "azure",
        "anthropic",
        "gemini",
        "groq",
        "mistral",
        "cohere",
        "deepseek",
        "openrouter",
        "together",
        "xai",
        "aws",
        "github",
        "stripe",
        "generic",
    ];
    let provider = tower_outbound::provider::by_name(names[provider % names.len()]).unwrap();
    let layer = ErrorClassifyLayer::new(Providers::from(provider))
        .failures_in_successes(true)
        .incomplete_is_failure(true)
        .failures_in_streams(true)
        .max_body(2000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let steps: Vec<_> = pieces.iter().map(|piece| Step::data(piece.clone())).collect();
        let mut response = Response::new(Script::new(steps));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            response.headers_mut().append(name.clone(), value.clone());
        }
        let response = call(layer, response).await;
        if let Some(error) = response.extensions().get::<ApiError>() {
            let line = format!("{error} {error:?}");
            assert!(!line.contains('\n'), "{line:?}");
            if let RetryHint::After(wait) = error.retry() {
                assert!(wait > Duration::ZERO && wait <= YEAR);
            }
        }
        let expected: Vec<_> = pieces.iter().map(|piece| Got::Data(Bytes::from(piece.clone()))).collect();
        assert_eq!(frames(response.into_body()).await, expected);
    });
}

fn names() -> impl Strategy<Value = HeaderName> {
    prop_oneof![
        Just("retry-after"),
        Just("retry-after-ms"),
        Just("date"),
        Just("content-type"),
        Just("content-encoding"),
        Just("ratelimit"),
        Just("ratelimit-policy"),
        Just("ratelimit-reset"),
        Just("ratelimit-remaining"),
        Just("x-ratelimit-reset-tokens"),
        Just("x-ratelimit-remaining-tokens"),
        Just("anthropic-ratelimit-tokens-reset"),
        Just("x-should-retry"),
        Just("x-amzn-errortype"),
        Just("x-request-id"),
    ]
    .prop_map(HeaderName::from_static)
}

fn values() -> impl Strategy<Value = HeaderValue> {
    let known = prop_oneof![
        Just("0"),
        Just("-1"),
        Just("1e400"),
        Just("NaN"),
        Just("1.5"),
        Just("6m0s"),
        Just("99999999999999999999"),
        Just("1795360446"),
        Just("1795360446000"),
        Just("2026-11-22T15:13:53Z"),
        Just("+999999-01-01T00:00:00Z"),
        Just("Fri, 29 Sep 2023 16:26:57 GMT"),
        Just("\"a\";r=0;t=5"),
        Just("limit=1, remaining=0, reset=5"),
        Just("application/json"),
        Just("text/event-stream"),
        Just("gzip"),
        Just("true"),
        Just("#:"),
    ];
    prop_oneof![
        known.prop_map(HeaderValue::from_static),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_filter_map("not a header value", |bytes| HeaderValue::from_bytes(&bytes).ok()),
    ]
}

fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let json = prop::sample::subsequence(
        vec![
            "{",
            "[",
            "\"error\":",
            "\"code\":",
            "\"type\":",
            "\"message\":",
            "\"details\":",
            "\"metadata\":",
            "\"response\":",
            "\"rate_limit_exceeded\"",
            "\"try again in 9.8s\"",
            "\"\\u0000é\\n\"",
            "429",
            "-1e999",
            "null",
            "true",
            ",",
            "}",
            "]",
            "event: error\ndata: ",
            "\r\n\r\n",
            "\n\n",
            "data: {\"error\":{}}",
        ],
        0..20,
    )
    .prop_shuffle()
    .prop_map(|parts| parts.concat().into_bytes());
    prop::collection::vec(prop_oneof![json, prop::collection::vec(any::<u8>(), 0..200)], 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_response(
        status in prop_oneof![Just(200_u16), Just(429), Just(400), 100_u16..1000],
        headers in prop::collection::vec((names(), values()), 0..8),
        pieces in pieces(),
        provider in 0_usize..15,
    ) {
        round_trip(status, &headers, &pieces, provider);
    }
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    for open in ["[", "{\"error\":", "{\"a\":", "{\"error\":{\"details\":[{\"metadata\":", "{\"message\":["] {
        let deep = open.repeat(100_000).into_bytes();
        for status in [200, 429] {
            let headers = [(HeaderName::from_static("content-type"), HeaderValue::from_static("application/json"))];
            round_trip(status, &headers, std::slice::from_ref(&deep), 14);
        }
    }
}

#[test]
fn a_header_may_hold_any_byte() {
    for byte in (0..=255).filter(|byte| HeaderValue::from_bytes(&[*byte]).is_ok()) {
        let headers: Vec<_> = [
            "retry-after",
            "retry-after-ms",
            "date",
            "ratelimit",
            "x-ratelimit-reset",
            "x-request-id",
            "x-should-retry",
            "content-type",
            "content-encoding",
        ]
        .into_iter()
        .map(|name| (HeaderName::from_static(name), HeaderValue::from_bytes(&[b'1', byte, b'2']).unwrap()))
        .collect();
        round_trip(429, &headers, &[b"{}".to_vec()], 0);
    }
}
