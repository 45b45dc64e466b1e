//! What the mock API answers: shapes, streams, faults.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_outbound::mock::{Fault, Faults, Limit, Limits, MockApi, MockErrorKind, Outcome};

use super::{answer, bytes, chat, ms, post, secs, send, value};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_refused_and_costs_nothing() {
    let api = MockApi::builder()
        .limits(Limits::per_minute(1, 1_000_000))
        .models(["gpt-4o-mini"])
        .context_length(100)
        .body_cap(10_000)
        .build();
    let raw = |body: &str| {
        let mut request = post(CHAT, &json!({}));
        *request.body_mut() = body.to_owned();
        request
    };
    let cases = [
        (raw("{"), 400, Value::Null, "We could not parse the JSON body of your request."),
        (raw("[]"), 400, Value::Null, "We could not parse"),
        (raw("{}"), 400, Value::Null, "you must provide a model parameter"),
        (raw(r#"{"model":3}"#), 400, json!("invalid_type"), "Invalid type for 'model'"),
        (
            raw(r#"{"model":"gpt-4o-mini"}"#),
            400,
            json!("missing_required_parameter"),
            "Missing required parameter: 'messages'.",
        ),
        (raw(r#"{"model":"gpt-4o-mini","messages":[]}"#), 400, json!("empty_array"), "Invalid 'messages'"),
        (
            raw(r#"{"model":"gpt-4o-mini","messages":[1]}"#),
            400,
            json!("invalid_type"),
            "Invalid type for 'messages[0]'",
        ),
        (post(CHAT, &chat("x", 0)), 400, json!("integer_out_of_range"), "Invalid 'max_tokens'"),
        (post(CHAT, &chat(&"x".repeat(404), 1)), 400, json!("context_length_exceeded"), "This model's maximum context"),
        (
            post(CHAT, &json!({ "model": "gpt-9", "messages": [{}] })),
            404,
            json!("model_not_found"),
            "The model `gpt-9` does not exist or you do not have access to it.",
        ),
        (post("/v1/v1/chat", &json!({})), 404, Value::Null, "Invalid URL (POST /v1/v1/chat)"),
        (post("/v1/models", &json!({})), 405, json!("method_not_supported"), "Only GET requests are accepted."),
        (raw(&" ".repeat(10_001)), 413, Value::Null, "Maximum content size limit (10000) exceeded."),
    ];
    let count = cases.len() as u64;
    for (request, status, code, message) in cases {
        let (got, body) = answer(&api, request).await;
        assert_eq!(got, status, "{message}");
        assert_eq!(body["error"]["code"], code, "{message}");
        assert_eq!(body["error"]["type"], "invalid_request_error", "{message}");
        let said = body["error"]["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{said} / {message}");
    }
    assert_eq!(api.counters().refused, count);
    assert_eq!(send(&api, post(CHAT, &chat("x", 1))).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn answers_have_the_shapes_of_the_api() {
    let api = MockApi::default();
    let (_, body) = answer(&api, post(CHAT, &chat("How are you today?", 50))).await;
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["content"], "You said: How are you today?");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["prompt_tokens"], 5);
    let completion = body["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((1..=50).contains(&completion));
    assert_eq!(body["usage"]["total_tokens"], 5 + completion);

    let (_, body) = answer(&api, post("/v1/responses", &json!({ "model": "m", "input": "Hello" }))).await;
    assert_eq!(body["object"], "response");
    assert_eq!(body["status"], "completed");
    assert_eq!(body["output"][0]["content"][0]["text"], "You said: Hello");
    assert!(body["usage"]["output_tokens"].as_u64().unwrap() >= 1);

    let ask = json!({ "model": "e", "input": ["one", "two", "one"], "dimensions": 3 });
    let (_, body) = answer(&api, post("/v1/embeddings", &ask)).await;
    assert_eq!(body["data"].as_array().unwrap().len(), 3);
    assert_eq!(body["data"][0]["embedding"], body["data"][2]["embedding"]);
    assert_ne!(body["data"][0]["embedding"], body["data"][1]["embedding"]);
    assert_eq!(body["usage"]["total_tokens"], 3);
    let ask = json!({ "model": "e", "input": [1, 2, 3], "dimensions": 3, "encoding_format": "base64" });
    let (_, body) = answer(&api, post("/v1/embeddings", &ask)).await;
    assert_eq!(body["data"][0]["embedding"].as_str().unwrap().len(), 16);
    assert_eq!(body["usage"]["total_tokens"], 3);

    let models = Request::get("http://mock/v1/models").header("authorization", "Bearer k").body(String::new()).unwrap();
    let (status, body) = answer(&api, models).await;
    assert_eq!((status, &body["object"]), (200, &json!("list")));
    assert_eq!(api.records().last().unwrap().outcome, Outcome::Unmetered);
}

#[tokio::test(start_paused = true)]
async fn streams_come_piece_by_piece_with_their_usage() {
    let api = MockApi::builder().service_time(secs(3)..=secs(3)).build();
    let mut ask = chat("a b c", 50);
    ask["stream"] = true.into();
    ask["stream_options"] = json!({ "include_usage": true });
    let start = Instant::now();
    let response = send(&api, post(CHAT, &ask)).await.unwrap();
    assert_eq!(value(response.headers(), "content-type"), "text/event-stream; charset=utf-8");
    assert_eq!(start.elapsed(), secs(1), "the head comes early");
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(start.elapsed(), secs(1));
    let mut text = String::from_utf8(first.to_vec()).unwrap();
    while let Some(frame) = body.frame().await {
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    let spent = start.elapsed();
    assert!(spent >= secs(3) - ms(20) && spent <= secs(3) + ms(20), "{spent:?}");

    let events: Vec<&str> = text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "You said: a b c");
    let (usage, others) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["prompt_tokens"], 2);
    assert!(others.iter().all(|chunk| chunk["usage"].is_null()));

    ask["stream_options"] = Value::Null;
    let text = bytes(send(&api, post(CHAT, &ask)).await.unwrap()).await.unwrap();
    assert!(!String::from_utf8_lossy(&text).contains("usage"));

    let ask = json!({ "model": "m", "input": [{ "role": "user", "content": "Hi" }], "stream": true });
    let text = bytes(send(&api, post("/v1/responses", &ask)).await.unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.starts_with("event: response.created\ndata: {"), "{text}");
    let last = text.rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last.trim()).unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "You said: Hi");
}

#[tokio::test(start_paused = true)]
async fn faults_are_the_same_from_the_same_seed() {
    async fn run(seed: u64) -> Vec<(Option<u16>, Option<Fault>, Duration, Option<MockErrorKind>)> {
        let api = MockApi::builder()
            .seed(seed)
            .faults(Faults::each(0.1))
            .limits(Limits::none().requests(Limit::per_minute(100)))
            .realistic_latency()
            .build();
        let mut seen = Vec::new();
        for _ in 0..200 {
            let broken = match send(&api, post(CHAT, &chat("x", 1))).await {
                Ok(response) => bytes(response).await.err().map(|error| error.kind()),
                Err(error) => Some(error.kind()),
            };
            seen.push(broken);
        }
        let records = api.records();
        records
            .iter()
            .zip(seen)
            .map(|(call, broken)| (call.status.map(|status| status.as_u16()), call.fault, call.at, broken))
            .collect()
    }
    let (one, same, other) = (run(1).await, run(1).await, run(2).await);
    assert_eq!(one, same);
    assert_ne!(one, other);
    for (status, fault, _, broken) in &one {
        let (expected, error) = match fault {
            None => (None, None),
            Some(Fault::ServerError) => (Some(500), None),
            Some(Fault::BadGateway) => (Some(502), None),
            Some(Fault::Unavailable) => (Some(503), None),
            Some(Fault::Dropped) => (None, Some(MockErrorKind::Reset)),
            Some(Fault::Cut) => (Some(200), Some(MockErrorKind::Reset)),
            Some(Fault::Truncated) => (Some(200), Some(MockErrorKind::Truncated)),
            Some(_) => unreachable!(),
        };
        assert!(expected.is_none() || expected == *status, "{status:?} {fault:?}");
        assert_eq!(error, *broken, "{fault:?}");
    }
    let met = one.iter().filter(|call| call.1.is_some()).count();
    assert!((80..160).contains(&met), "{met} of 200 met a fault; 120 were to be expected");
}

#[tokio::test(start_paused = true)]
async fn a_429_can_be_a_page() {
    let api = MockApi::builder()
        .limits(Limits::none().requests(Limit::per_minute(1)))
        .faults(Faults::none().html_429(1.0))
        .build();
    send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    let response = send(&api, post(CHAT, &chat("x", 1))).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(value(response.headers(), "content-type"), "text/html");
    assert_eq!(value(response.headers(), "retry-after"), "60");
}
