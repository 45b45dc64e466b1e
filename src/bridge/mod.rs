//! The layers with the client one has. Each bridge is a feature that pulls in that client alone.
//!
//! | client | how |
//! |---|---|
//! | hyper-util's `legacy::Client`, HTTP/1 and 2 | it is a `Service<http::Request<B>>` already: `ServiceBuilder::…service(client)` |
//! | reqwest | [`reqwest`]: under the layers as a service, and over them with its own requests and responses |
//! | reqwest-middleware | [`reqwest_middleware`]: the layers as one of its middlewares |
//! | async-openai | [`async_openai`]: the layers in its `with_http_service` |
//! | axum, tower-http | they speak `tower`: no bridge |
//! | tonic | [`tonic`]: the layers between a generated client and its channel |
//!
//! None of them drops anything on the way: trailers, extensions, repeated headers, header values that are no text, and
//! streams in either direction pass as they are. The one exception is told at [`reqwest_middleware`].

/// How much of a streamed request body is kept, in bytes, where nothing else is said.
#[cfg(any(feature = "reqwest", feature = "tonic"))]
const MAX_REPLAY: usize = 1024 * 1024;

#[cfg(feature = "async-openai")]
pub mod async_openai;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "reqwest-middleware")]
pub mod reqwest_middleware;
#[cfg(feature = "tonic")]
pub mod tonic;
