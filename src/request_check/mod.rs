//! Refuses a request that can only fail, before it costs a call, a place in line, or a token.
//!
//! Every request: `http` or `https` with a host, headers and body of a size that servers take, a `Content-Length` that is
//! true, and, where its `Content-Type` says JSON and the body is in memory, a body that is JSON. With
//! [`openai`](RequestCheckLayer::openai), what OpenAI's own description of its API asks of chat completions, responses and
//! embeddings: required fields, types and ranges. Fields that it does not know pass.
//!
//! All faults are told at once, each with its place (in JSON, by [pointer](https://www.rfc-editor.org/rfc/rfc6901)), what
//! was found there and what is allowed. A prompt is never shown, nor more than 32 characters of any other value.
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_outbound::{find_cause, request_check::{BadRequest, CheckedBody, RequestCheckLayer}};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
//! let client = service_fn(|_: http::Request<CheckedBody<Full<Bytes>>>| async {
//!     Ok::<_, tower::BoxError>(http::Response::new(()))
//! });
//! let service = ServiceBuilder::new().layer(RequestCheckLayer::new().openai()).service(client);
//!
//! let request = http::Request::post("https://api.openai.com/v1/chat/completions")
//!     .header("content-type", "application/json")
//!     .body(Full::new(Bytes::from(r#"{"messages":[{"role":"usr","content":"Hi"}],"temperature":3}"#)))?;
//! let error = service.oneshot(request).await.unwrap_err();
//!
//! let bad: &BadRequest = find_cause(&*error).expect("refused");
//! let faults: Vec<String> = bad.faults().iter().map(ToString::to_string).collect();
//! assert_eq!(faults, [
//!     r#"/messages/0/role: found "usr", allowed is one of "developer", "system", "user", "assistant", "tool", "function""#,
//!     "/temperature: found 3, allowed is a number in 0..=2 or null",
//!     "/model: found nothing, allowed is a string that is not empty",
//! ]);
//! # Ok(()) }
//! ```

mod body;
mod endpoints;
mod fault;
mod future;
mod head;
mod json;
mod layer;
mod number;
mod rule;
#[cfg(feature = "schema")]
mod schema;
mod service;
mod tokens;
mod walk;

#[cfg(feature = "schema")]
pub use self::schema::{Schema, SchemaError};
pub use self::{
    body::CheckedBody,
    fault::{BadRequest, Fault, Place},
    future::ResponseFuture,
    head::Checked,
    layer::RequestCheckLayer,
    service::RequestCheck,
};
