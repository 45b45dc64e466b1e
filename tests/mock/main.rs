//! The test kit, tested: in paused time as a service, and over real sockets.
#![allow(missing_docs, clippy::unwrap_used)]

mod answers;
mod api;
mod extremes;
mod script;
mod tcp;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_outbound::mock::{MockApi, MockBody, MockError};

pub(crate) fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

pub(crate) fn ms(ms: u64) -> std::time::Duration {
    std::time::Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> std::time::Duration {
    std::time::Duration::from_secs(secs)
}

pub(crate) fn chat(content: &str, max_tokens: u64) -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": content }], "max_tokens": max_tokens })
}

pub(crate) fn post(path: &str, body: &Value) -> Request<String> {
    Request::post(format!("http://mock{path}"))
        .header("authorization", "Bearer sk-test")
        .body(body.to_string())
        .unwrap()
}

pub(crate) async fn send(api: &MockApi, request: Request<String>) -> Result<Response<MockBody>, MockError> {
    api.clone().oneshot(request).await
}

pub(crate) async fn bytes(response: Response<MockBody>) -> Result<Bytes, MockError> {
    Ok(response.into_body().collect().await?.to_bytes())
}

/// The status, and the body as JSON.
pub(crate) async fn answer(api: &MockApi, request: Request<String>) -> (u16, Value) {
    let response = send(api, request).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&bytes(response).await.unwrap()).unwrap())
}
