//! Paces calls against a quota that the server announces: each leaves when there is room, in order of arrival, and
//! none is wasted on a 429.
//!
//! [`QuotaMeter`] learns the limits from the answers (`x-ratelimit-*`), reserves before sending, and reconciles with
//! every answer. A 429 closes one gate for all; with a `BackoffRetry` further out the rejected call goes to the
//! front of the line and it costs neither an attempt nor budget. One layer holds one quota: all services it
//! makes, and their clones, share it.
//!
//! ```
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_outbound::quota_meter::{QuotaMeterLayer, TokenCost};
//! use http_body_util::Full;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
//! let client = service_fn(|_: http::Request<Full<bytes::Bytes>>| async {
//!     let answer = http::Response::builder()
//!         .header("x-ratelimit-limit-requests", "500")
//!         .header("x-ratelimit-remaining-requests", "499")
//!         .header("x-ratelimit-reset-requests", "120ms");
//!     Ok::<_, tower::BoxError>(answer.body(Full::<bytes::Bytes>::default())?)
//! });
//!
//! let meter = QuotaMeterLayer::new();
//! let mut service = ServiceBuilder::new().layer(&meter).service(client);
//!
//! let mut request = http::Request::post("https://api.example/v1/chat/completions").body(Full::default())?;
//! request.extensions_mut().insert(TokenCost(700));
//! service.ready().await?.call(request).await?;
//!
//! let requests = meter.snapshot().requests.expect("learned from the answer");
//! assert_eq!((requests.limit, requests.remaining.floor()), (500.0, 499.0));
//! # Ok(()) }
//! ```

mod body;
mod bucket;
mod core;
mod cost;
mod future;
mod layer;
mod moment;
mod pace;
mod priority;
mod queue;
mod refusal;
mod scope;
mod service;
mod shape;

use self::layer::Settings;
pub use self::{
    body::ResponseBody,
    bucket::Level,
    core::Counts,
    cost::TokenCost,
    future::ResponseFuture,
    layer::{QuotaMeterLayer, Snapshot},
    priority::Priority,
    refusal::Refusal,
    service::QuotaMeter,
};
