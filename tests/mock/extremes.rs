//! Settings that nobody means, and answers as large as they can be.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::timeout;
use tower_outbound::mock::{Limits, MockApi, Spelling};

use super::{chat, post, secs, send};

#[tokio::test(start_paused = true)]
async fn latencies_as_long_as_can_be_end_never_and_do_no_harm() {
    let longest = Duration::MAX..=Duration::MAX;
    let builder = || MockApi::builder().limits(Limits::per_minute(5, 5_000));
    for spelling in [Spelling::OpenAi, Spelling::Anthropic, Spelling::GitHub] {
        for api in [
            builder().network(longest.clone()),
            builder().service_time(longest.clone()),
            builder().network(secs(0)..=secs(1)).service_time(longest.clone()),
        ] {
            let api = api.spelling(spelling).build();
            let call = send(&api, post("/v1/chat/completions", &chat("x", 1)));
            assert!(timeout(secs(3_600), call).await.is_err());
            let _ = (api.counters(), api.physical_limit(1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_very_large_answer_is_whole() {
    let api = MockApi::default();
    let body = json!({ "model": "m", "input": vec!["x"; 100], "dimensions": 256, "encoding_format": "base64" });
    let response = send(&api, post("/v1/embeddings", &body)).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(head.headers["content-length"], body.len().to_string());
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 100);
    assert_eq!(api.counters().by_status, [(200, 1)].into());
}
