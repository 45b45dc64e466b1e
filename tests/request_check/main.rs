//! RequestCheck: what can only fail is not sent, and says why; all else passes.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

#[path = "../common/mod.rs"]
mod common;

mod body;
mod generated;
mod head;
mod json;
mod openai;
#[cfg(feature = "schema")]
mod schema;
mod stack;
mod tokens;

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::{
    ErrorKind, Gate, Refused, failure, find_cause,
    mock::{Script, ok},
    request_check::{BadRequest, CheckedBody, RequestCheckLayer},
};

use self::common::Text;

const CHAT: &str = "https://api.openai.com/v1/chat/completions";
const RESPONSES: &str = "https://api.openai.com/v1/responses";
const EMBEDDINGS: &str = "https://api.openai.com/v1/embeddings";

fn json(uri: &str, body: impl Into<Bytes>) -> Request<Text> {
    Request::post(uri).header("content-type", "application/json").body(Full::new(body.into())).unwrap()
}

/// Sends it, and lists what was wrong; `None` if it passed. What is refused is not sent, and what passes is sent whole.
fn send(layer: &RequestCheckLayer, request: Request<Text>) -> Option<Vec<String>> {
    let body = request.body().clone();
    let sent = Mutex::new(None);
    let service = layer.layer(service_fn(|request: Request<CheckedBody<Text>>| {
        *sent.lock().unwrap() = Some(request.into_body().into_inner());
        std::future::ready(Ok::<_, BoxError>(http::Response::new(())))
    }));
    let result = service.oneshot(request).now_or_never().expect("nothing to wait for");
    let sent = sent.lock().unwrap().take();
    match result {
        Ok(_) => {
            assert_eq!(sent.unwrap().into_inner(), body.into_inner());
            None
        }
        Err(error) => {
            assert!(sent.is_none(), "a refused request is not sent");
            let refused: &Refused = find_cause(&*error).expect("refused");
            assert_eq!((refused.by(), refused.wait()), (Gate::Request, None));
            let bad: &BadRequest = find_cause(&*error).expect("what is wrong");
            assert!(!bad.faults().is_empty());
            Some(bad.faults().iter().map(ToString::to_string).collect())
        }
    }
}

/// What kind of failure the caller reads from it.
async fn kind(layer: &RequestCheckLayer, request: Request<Text>) -> Option<ErrorKind> {
    let result = layer.layer(Script::new().otherwise(ok("{}"))).oneshot(request).await;
    failure(&result).map(|error| {
        assert!(!error.may_have_reached_server() && !error.retry().may_succeed());
        error.kind()
    })
}
