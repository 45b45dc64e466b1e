//! Answers from elsewhere when a call has finally failed: from a second service, the last good answer, or a function.
//!
//! It stands outside the retry, so that what it sees is final. By default it covers a service that is
//! [unavailable](crate::ErrorKind::Unavailable), [overloaded](crate::ErrorKind::Overloaded), [broken](crate::ErrorKind::Server)
//! or [too slow](crate::ErrorKind::Timeout), a [spent quota](crate::ErrorKind::QuotaExhausted), a rate limit that would take
//! longer than the longest wait, an open [`Breaker`], and a service that does not get ready; never the caller's own mistakes.
//! A response that has begun is never replaced. The answer says in a [`FallbackReport`], one of its extensions, who gave it,
//! instead of what, and why; when all fail, the first failure is what comes out, with the others in that report.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_outbound::fallback::{Breaker, FallbackLayer, FallbackReport};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
//! let first = service_fn(|_: Request<Full<Bytes>>| async {
//!     Ok::<_, tower::BoxError>(Response::builder().status(503).body(Full::<Bytes>::default())?)
//! });
//! let second = service_fn(|request: Request<Full<Bytes>>| async move {
//!     assert_eq!(request.uri().host(), Some("eu.api.example"));
//!     Ok::<_, tower::BoxError>(Response::new(Full::from("from Europe")))
//! });
//!
//! let fallback = FallbackLayer::new().breaker(Breaker::new()).rewritten("eu", second, |mut request| {
//!     *request.uri_mut() = http::Uri::from_static("https://eu.api.example/v1/things");
//!     request
//! });
//! let service = ServiceBuilder::new().layer(fallback).service(first);
//! let response = service.oneshot(Request::get("https://us.api.example/v1/things").body(Full::default())?).await?;
//!
//! let report: &FallbackReport = response.extensions().get().expect("a fallback");
//! assert_eq!(report.to_string(), "eu in place of GET us.api.example/v1/things: 503 unavailable: may succeed later");
//! assert_eq!(response.into_body().collect().await?.to_bytes(), "from Europe");
//! # Ok(()) }
//! ```

mod body;
mod breaker;
mod chain;
mod cover;
mod future;
mod host;
mod last_good;
mod layer;
mod record;
mod report;
mod service;
mod window;

pub use self::{
    body::ResponseBody,
    breaker::{Breaker, BreakerOpen, BreakerState, HostSnapshot},
    chain::Covered,
    cover::Failure,
    future::ResponseFuture,
    last_good::LastGood,
    layer::FallbackLayer,
    report::{Failed, FallbackError, FallbackReport},
    service::Fallback,
};
