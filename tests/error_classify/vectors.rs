//! Recorded and documented responses of many APIs, and what each is to be taken for.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tower_outbound::{ApiError, ErrorClassifyLayer, RetryHint, provider};

use crate::support::call;

/// Lines that are judged otherwise than they say, each with the reason. None so far: where a line has a doubt, its own choice was the better one.
const EXCEPTIONS: &[(&str, &str)] = &[];

#[derive(Debug, PartialEq)]
struct Judged {
    kind: String,
    retry: bool,
    retry_after_ms: Option<u64>,
    code: Option<String>,
}

async fn judge(vector: &Value) -> Judged {
    let name = vector["provider"].as_str().unwrap();
    let name = name.trim_end_matches("-batch").trim_end_matches("-compatible");
    let mut layer =
        ErrorClassifyLayer::new(provider::by_name(name).unwrap()).failures_in_successes(true).failures_in_streams(true);
    if let Some(now) = vector["now_unix_ms"].as_u64() {
        layer = layer.wall_clock(move || SystemTime::UNIX_EPOCH + Duration::from_millis(now));
    }
    let body = vector["body"].as_str().unwrap_or_default().to_owned();
    let mut response = Response::new(Full::new(Bytes::from(body.clone())));
    *response.status_mut() = StatusCode::from_u16(vector["status"].as_u64().unwrap().try_into().unwrap()).unwrap();
    for (name, value) in vector["headers"].as_object().unwrap() {
        let name: HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
    }
    let response = call(layer, response).await;
    let error = response.extensions().get::<ApiError>().cloned();
    let back = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert_eq!(back, body, "{}", vector["id"]);
    let hint = error.as_ref().map_or(RetryHint::Never, ApiError::retry);
    Judged {
        kind: error.as_ref().map_or("ok", |error| error.kind().as_str()).to_owned(),
        retry: hint.may_succeed(),
        retry_after_ms: hint.wait().map(|wait| wait.as_nanos().div_ceil(1_000_000).try_into().unwrap()),
        code: error.as_ref().and_then(ApiError::code).map(str::to_owned),
    }
}

#[tokio::test(start_paused = true)]
async fn every_line_is_judged_as_it_says() {
    let vectors = include_str!("../data/classify-vectors.jsonl");
    let (mut all, mut wrong) = (0, Vec::new());
    for line in vectors.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let id = vector["id"].as_str().unwrap();
        let expect = &vector["expect"];
        let expected = Judged {
            kind: expect["kind"].as_str().unwrap().to_owned(),
            retry: expect["retry"].as_bool().unwrap(),
            retry_after_ms: expect["retry_after_ms"].as_u64(),
            code: expect["code"].as_str().map(str::to_owned),
        };
        let judged = judge(&vector).await;
        all += 1;
        if judged == expected {
            continue;
        }
        assert!(judged.retry == expected.retry || vector["doubt"].is_string(), "{id}: {judged:?}, not {expected:?}");
        if !EXCEPTIONS.iter().any(|(known, _)| *known == id) {
            wrong.push(format!("{id}: {judged:?}, not {expected:?}"));
        }
    }
    assert!(all >= 102 && EXCEPTIONS.len() * 50 <= all);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
