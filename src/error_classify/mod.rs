//! Says what a failed response means, and leaves the response whole.
//!
//! [`ErrorClassify`] puts an [`ApiError`](crate::ApiError) into the extensions of every response that failed: its kind, whether the same
//! request may succeed later, and when. It changes nothing else. Status, headers and body are those the caller would have had without it,
//! and successes pass through untouched and unread.
//!
//! Why by the body and not by the status alone: a 429 may mean "wait 28 ms", "pay your bill" or "this never fits", and only the
//! body tells which. The first is worth waiting for, the others are calls thrown away.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_outbound::{ApiError, ErrorClassifyLayer, ErrorKind, provider::OpenAi};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! const SPENT: &str = r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","code":null}}"#;
//! let api = service_fn(async |_: Request<Full<Bytes>>| {
//!     Ok::<_, BoxError>(Response::builder().status(429).body(Full::new(Bytes::from(SPENT)))?)
//! });
//! let client = ServiceBuilder::new().layer(ErrorClassifyLayer::new(OpenAi)).service(api);
//!
//! let response = client.oneshot(Request::new(Full::default())).await?;
//! let error = response.extensions().get::<ApiError>().unwrap();
//! assert_eq!(error.kind(), ErrorKind::QuotaExhausted);
//! assert!(!error.retry().may_succeed());
//! // The body is still there, byte for byte.
//! assert_eq!(response.into_body().collect().await?.to_bytes(), SPENT);
//! # Ok(())
//! # }
//! ```
//!
//! # What is read, and for how long
//!
//! Responses with a status of 400 and more, up to 64 KiB and for at most 2 s after the head
//! ([`max_body`](ErrorClassifyLayer::max_body), [`max_wait`](ErrorClassifyLayer::max_wait)). Past either cap what was read comes first, and
//! the rest streams on behind it. A body that breaks off does so at the same place for the caller. A compressed body is left alone, and the
//! failure judged by its head.
//!
//! # Failures inside a success
//!
//! Some failures come with status 200: in the JSON ([`failures_in_successes`](ErrorClassifyLayer::failures_in_successes)), or as an event of
//! a stream ([`failures_in_streams`](ErrorClassifyLayer::failures_in_streams)). Looking for them means reading successes, so both are off until asked for.
//!
//! # Errors
//!
//! The inner service's, unchanged. For one type in both arms there is [`into_errors`](ErrorClassifyLayer::into_errors);
//! for what a transport error means, [`ApiError::from_error`](crate::ApiError::from_error).
//!
//! # Cancel safety
//!
//! Dropping the future drops the call and what was read of its response. No state outlives it.

mod body;
mod future;
mod into_errors;
mod layer;
mod look;
mod service;
mod sse;

pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use into_errors::{IntoErrors, IntoErrorsFuture, IntoErrorsLayer};
pub use layer::ErrorClassifyLayer;
pub use look::StreamErrors;
pub use service::ErrorClassify;
