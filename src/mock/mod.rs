//! The test kit: services that answer as they were told, and an API that behaves like OpenAI's.
//!
//! - [`Script`] is for unit tests of one's own layers and policies: "429 with `Retry-After: 2`, then a dropped
//!   connection, then 200", and assertions on what was sent, when.
//! - [`MockApi`] is for tests of whole systems: request and token quotas kept to the nanosecond, rate-limit headers,
//!   latency, streams, faults of every kind, all from one seed, and a record of every call.
//!
//! Both are services over any `http::Request<B>`, run in paused time, and can [serve](MockApi::serve) a real socket.

mod api;
mod body;
mod bucket;
mod core;
mod faults;
mod headers;
mod intake;
mod record;
mod refusal;
mod reply;
mod routes;
mod script;
mod server;
mod settings;

pub use api::{MockApi, ResponseFuture};
pub use body::{MockBody, MockError, MockErrorKind};
pub use bucket::{Limit, Limits};
pub use faults::{Fault, Faults};
pub use record::{CallRecord, Counters, KeyPrint, Outcome};
pub use routes::token_cost;
pub use script::{Script, ScriptFuture, Sent, Step, answer, dropped, never, ok, status};
pub use server::MockServer;
pub use settings::MockApiBuilder;
