//! The layers put together, for those who want no choices: [`openai`] is one [`Layer`](tower_layer::Layer).
//!
//! The key comes from the environment, the limits are learned from the answers, retries go as OpenAI's own SDKs do them,
//! and a request that can only fail is not sent. Every part can be replaced.
//!
//! **A POST sent twice is billed twice**: as those SDKs do, it sends one again that may have been processed and whose answer
//! got lost. `retry(BackoffRetryLayer::openai_sdk().repeat(Repeat::Idempotent))` leaves that out.
//!
//! ```
//! use http_body_util::Full;
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_outbound::{mock::MockApi, stack};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
//! let api = MockApi::builder().keys(["sk-test-0123456789"]).build(); // or a client
//! let stack = stack::openai().api_key("sk-test-0123456789").max_elapsed(Duration::from_secs(300)).checked()?;
//! let openai = ServiceBuilder::new().layer(stack).service(api);
//!
//! let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}"#;
//! let request = http::Request::post("/chat/completions")
//!     .header("content-type", "application/json")
//!     .body(Full::new(bytes::Bytes::from(body)))?;
//! let response = openai.oneshot(request).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(()) }
//! ```

mod base;
mod front;
mod layer;
mod service;

pub use self::{
    layer::{Stack, StackFault, openai},
    service::{Parts, StackService},
};
pub use crate::request_check::ResponseFuture;
