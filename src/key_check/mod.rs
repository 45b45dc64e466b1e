//! Puts a sound key on each request for the right host, and stops using one that the server refuses.
//!
//! - A key is checked where it is made: a line end, quotes or `Bearer ` in a variable get an error that says so, and not
//!   a 401 later.
//! - It comes from a value, a variable, a file or an async function ([`KeySource`]), and goes where the API wants it
//!   ([`Placement`]), in a header marked sensitive.
//! - It goes to one [`Origin`] only, by the request's URI. One that is but a path (`/v1/models`) goes without a key, or is
//!   refused ([`Elsewhere`]), whatever its `Host` header says: that names no scheme, and where the request goes is up to
//!   the client. Layers that make a URI whole belong outside this one. A redirect elsewhere passes without it where the
//!   layer that follows redirects lies *outside* this one; a client that follows them by itself takes along what it was
//!   given.
//! - After a 401, or once its quota is used up, a key is out of use. Where there is another, in the pool or from its
//!   source, the call is marked [`Again`](crate::Again), so that a `BackoffRetry` further out sends it with that one
//!   and nothing is lost; calls that wait in a `QuotaMeter` further in turn back. Else calls are
//!   [`Refused`](crate::Refused) at once, and one a minute looks whether the key is well again: a 2xx shows that, and so
//!   does a failure that is the API's own and not the key's. A redirect, as to a login, a 5xx, a 403 without a code of the
//!   API's (which `ErrorClassify` reads) and the like show nothing, and the next call looks. Where others are sound,
//!   only a call looks that a `BackoffRetry` has kept to send again; a streamed body that outgrows the retry's buffer on
//!   that very call brings the 401 home.
//! - Where a server repeats the key, it is masked in what comes out of a call. A layer further in has seen the answer
//!   before that: a `QuotaMeter`'s snapshot keeps what was said of a spent quota, with only what looks like a key masked.
//! - A quota that is a model's (Google's `RESOURCE_EXHAUSTED` by the day) or one sort of request's is not the key's: the key
//!   is spared for [`spent_recheck`](KeyCheckLayer::spent_recheck), as after a 429, and serves the rest. `insufficient_quota`,
//!   402 and the like are the account's.
//! - Where a `QuotaMeter` has one quota for all keys, it refuses calls with each of them once one has used it up; only the key
//!   that was answered so is then out of use.
//! - After a 429 a key is spared until the server's hint, where there is another, and never refused.
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

mod conceal;
mod fault;
mod fetch;
mod file;
mod future;
mod issuer;
mod key;
mod layer;
mod lending;
mod loan;
mod origin;
mod placeholder;
mod placement;
mod pool;
mod service;
mod slot;
mod snapshot;
mod source;

pub use self::{
    fault::{KeyError, KeyFault},
    future::ResponseFuture,
    issuer::KeyWarning,
    key::ApiKey,
    layer::{Elsewhere, KeyCheckLayer},
    origin::{Origin, OriginError, WrongOrigin},
    placement::Placement,
    service::KeyCheck,
    snapshot::{KeySnapshot, KeyState, NoSoundKey},
    source::{KeySource, Token},
};
