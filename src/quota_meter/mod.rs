//! Paces calls against a quota that the server announces: each leaves when there is room, in order of arrival, and
//! none is wasted on a 429.
//!
//! [`QuotaMeter`] learns the limits from the answers (see [`limits`](crate::limits)), reserves before sending, and
//! reconciles with every answer. A 429 closes one gate for all; with a `BackoffRetry` further out the rejected call goes to
//! the front of the line and it costs neither an attempt nor budget. All services of one layer, and their clones, share
//! its quotas.
//!
//! - **Scopes.** Each host, key and model has a quota of its own, and a line of its own; see [`Scoping`].
//! - **Cost.** A call takes the tokens that its [`TokenCost`] names, or those that its body suggests; see [`Estimate`]. What it
//!   really used is read from `usage` as the answer passes, at the end of a stream too.
//! - **Bodies.** Those that are [`Resend`](crate::body::Resend) show their content to the meter, if it is in memory. With
//!   [`any_body`](QuotaMeterLayer::any_body) it works over every other type too, and sees the head alone.
//! - **Many machines.** A [`QuotaStore`] lends each of them its part of a quota; without one each learns what others take.
//! - **Order.** By [`Priority`], then by arrival.
//! - **Seeing it.** [`MeterHandle`] shows what is left, what was used and what that cost, tells of changes and
//!   [`Threshold`]s, and keeps the budget of a day over restarts.
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
mod book;
mod bucket;
mod content;
mod core;
mod cost;
mod demand;
mod estimate;
mod flights;
mod future;
mod grants;
mod guards;
mod handle;
mod known;
mod layer;
mod lock;
#[cfg(all(test, outbound_loom))]
mod loom;
mod members;
mod moment;
mod name;
mod others;
mod pace;
mod parts;
mod permits;
mod priority;
mod queue;
mod quota;
mod rate;
mod refusal;
mod reported;
mod scan;
mod scope;
mod scopes;
mod scoping;
mod service;
mod shape;
mod shared;
mod sight;
mod snapshot;
mod store;
mod tap;
#[cfg(feature = "tiktoken")]
mod tokens;
mod usage;
mod used;
mod view;

use self::layer::Settings;
pub use self::{
    body::ResponseBody,
    bucket::Level,
    core::Counts,
    cost::TokenCost,
    estimate::Estimate,
    future::ResponseFuture,
    handle::{Alerts, Changes, MeterHandle, Permit},
    layer::QuotaMeterLayer,
    name::ScopeName,
    priority::Priority,
    quota::Quota,
    refusal::Refusal,
    scoping::{Model, Scoping},
    service::QuotaMeter,
    sight::{Contents, HeadOnly, Sight},
    snapshot::{Also, SetBy, Snapshot},
    store::{Ask, Batch, Leased, Leasing, MemoryStore, QuotaStore},
    used::{Measure, Price, Reached, Threshold, Totals, Used},
    view::RequestView,
};
