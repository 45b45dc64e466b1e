//! Fallback: what has finally failed is answered from elsewhere; what has not is let be.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

#[path = "../common/mod.rs"]
mod common;

mod breaker;
mod breaker_hosts;
mod covered;
mod dropped;
mod last_good;
mod others;
mod readiness;
mod stack;
mod tcp;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, ServiceExt};
use tower_outbound::{
    fallback::{FallbackLayer, FallbackReport},
    mock::{MockBody, Script, ok},
};

use self::common::{Text, Told, get};

type Fallback = FallbackLayer<Text, MockBody>;

/// With a second service that always answers "second".
fn second() -> (Fallback, Script) {
    let script = Script::new().strict().otherwise(ok("second"));
    (Fallback::new().service("second", Told(script.clone())), script)
}

/// One call, and its answer's body.
async fn send(layer: &Fallback, first: &Script, request: Request<Text>) -> Result<Response<Bytes>, BoxError> {
    let response = layer.layer(Told(first.clone())).oneshot(request).await?;
    let (head, body) = response.into_parts();
    Ok(Response::from_parts(head, BodyExt::collect(body).await?.to_bytes()))
}

/// What one call is answered: the text, or the status if that says more.
async fn ask(layer: &Fallback, first: &Script) -> String {
    match send(layer, first, get()).await {
        Ok(response) if response.status().is_success() => String::from_utf8_lossy(response.body()).into_owned(),
        Ok(response) => response.status().as_u16().to_string(),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn report<B>(response: &Response<B>) -> &FallbackReport {
    response.extensions().get().expect("a report")
}
