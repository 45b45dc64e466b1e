//! Puts a sound key on each request for the right host, and stops using one that the server refuses.
//!
//! A key is checked where it is made: a line end, quotes or `Bearer ` in a variable get an error that says so, and not
//! a 401 later. It goes to one [`Origin`] only, in a header marked sensitive. After a 401 for it calls are
//! [`Refused`](crate::Refused) at once, calls that wait in a `QuotaMeter` further in turn back, and one call a minute
//! looks whether the key is well again.
//!
//! ```
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_outbound::key_check::{ApiKey, KeyCheckLayer, Origin};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
//! let client = service_fn(|request: http::Request<()>| async move {
//!     assert!(request.headers()["authorization"].is_sensitive());
//!     Ok::<_, tower::BoxError>(http::Response::new(()))
//! });
//!
//! let key = ApiKey::new("sk-test-0123456789")?;
//! let origin = Origin::parse("https://api.openai.com/v1")?;
//! let mut service = ServiceBuilder::new().layer(KeyCheckLayer::new(key, origin)).service(client);
//! service.ready().await?.call(http::Request::get("https://api.openai.com/v1/models").body(())?).await?;
//!
//! let error = ApiKey::new("sk-test-0123456789\n").unwrap_err();
//! assert_eq!(error.to_string(), "the key ends in white space or a line end (character 19): trim it");
//! # Ok(()) }
//! ```

mod future;
mod health;
mod key;
mod layer;
mod origin;
mod service;

pub use self::{
    future::ResponseFuture,
    health::KeyRejected,
    key::{ApiKey, KeyError, KeyFault},
    layer::KeyCheckLayer,
    origin::{Origin, OriginError},
    service::KeyCheck,
};
