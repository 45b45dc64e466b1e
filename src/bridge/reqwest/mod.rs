//! reqwest under the layers, and over them.
//!
//! [`ReqwestService`] is a [`reqwest::Client`] that takes `http::Request`s, for the bottom of a stack. [`Client`] is a
//! stack that takes and gives reqwest's own types, and builds requests as reqwest does:
//!
//! ```no_run
//! use serde_json::json;
//! use tower::ServiceBuilder;
//! use tower_outbound::{BackoffRetryLayer, ErrorClassifyLayer, bridge::reqwest::ReqwestService, provider::OpenAi};
//!
//! # async fn example() -> Result<(), tower::BoxError> {
//! let layers = ServiceBuilder::new().layer(BackoffRetryLayer::openai_sdk()).layer(ErrorClassifyLayer::new(OpenAi));
//! let client = ReqwestService::build(reqwest::Client::builder())?.layered(layers);
//!
//! let question = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]});
//! let response = client.post("https://api.openai.com/v1/chat/completions").json(&question).send().await?;
//! println!("{} from {}", response.status(), response.url());
//! # Ok(()) }
//! ```
//!
//! # Bodies that go again
//! What is in memory goes again without a copy. A stream is kept in a [`ReplayBody`](crate::body::ReplayBody) while it is
//! sent, up to [`Client::max_replay`]; one that is longer goes once. What can be made anew, such as a form with a file,
//! goes through [`Client::remake`] and is not kept at all.
//!
//! # Redirects and keys
//! reqwest takes `Authorization` off a request that is redirected to another host, but not `x-api-key`, `api-key` or
//! `x-goog-api-key`. [`ReqwestService::build`] follows redirects within one origin only; any other comes out as the
//! response it is, with its `Location`. A URL in which a key can be seen is taken out of errors, and a response's URL is
//! without the key.

pub(super) mod body;
pub(super) mod client;
pub(super) mod future;
mod redirect;
mod request;
mod service;

pub use self::{
    body::Body,
    client::{Client, ExecuteFuture},
    future::ResponseFuture,
    redirect::same_origin,
    request::RequestBuilder,
    service::ReqwestService,
};
