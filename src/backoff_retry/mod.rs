//! Sends again what may succeed: after a backoff with jitter, never before the server said, within limits.
//!
//! What a failure means is read from its [`ApiError`](crate::ApiError), which `ErrorClassify` further in attaches;
//! without it, from status and headers. With a `QuotaMeter` further in, a 429 that only means "wait" costs no
//! attempt: the meter waits, and this layer just sends the request down again.
//!
//! ```
//! use std::time::Duration;
//! use http_body_util::Full;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_outbound::backoff_retry::{Backoff, BackoffRetryLayer, RetryReport, Standard};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower::BoxError> {
//! let calls = std::sync::atomic::AtomicU32::new(0);
//! let client = service_fn(|_: http::Request<Full<bytes::Bytes>>| {
//!     let is_first = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
//!     async move {
//!         let answer = http::Response::builder().status(if is_first { 503 } else { 200 });
//!         Ok::<_, tower::BoxError>(answer.body(Full::<bytes::Bytes>::default())?)
//!     }
//! });
//!
//! let retry = BackoffRetryLayer::new().policy(Standard::new().backoff(Backoff::constant(Duration::from_secs(1))));
//! let mut service = ServiceBuilder::new().layer(retry).service(client);
//! let response = service.ready().await?.call(http::Request::get("http://api.example/").body(Full::default())?).await?;
//!
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.extensions().get::<RetryReport>().map(|report| report.attempts), Some(2));
//! # Ok(()) }
//! ```
//!
//! The kit (feature `mock`) tests policies of one's own in no time, and simulates them against a server that fails.

mod backoff;
mod budget;
pub(crate) mod course;
mod future;
mod layer;
mod policy;
mod report;
mod service;
mod settings;
mod tower_policy;
mod trip;
mod wait;

#[cfg(feature = "mock")]
pub(crate) use self::course::Course;
pub use self::{
    backoff::{Backoff, Jitter},
    budget::Budget,
    future::ResponseFuture,
    layer::BackoffRetryLayer,
    policy::{Attempt, Decision, Outcome, Policy, Standard, StopReason},
    report::{Kinds, RetryError, RetryReport},
    service::BackoffRetry,
    settings::{Idempotent, Repeat},
    tower_policy::TowerPolicy,
};
