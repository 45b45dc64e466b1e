//! The test kit: services that answer as they were told, and an API that behaves like OpenAI's.
//!
//! - [`Script`] is for unit tests of one's own layers and policies: "429 with `Retry-After: 2`, then a dropped
//!   connection, then 200", and assertions on what was sent, when.
//! - [`MockApi`] is for tests of whole systems: request and token quotas kept to the nanosecond, rate-limit headers,
//!   latency, streams, faults of every kind, all from one seed, and a record of every call.
//!
//! Both are services over any `http::Request<B>`, run in paused time, and can [serve](MockApi::serve) a real socket.
//! - [`waits`] and [`Rehearsal`] say what a policy would do, as a list, without a service or a runtime.
//!
//! # A test of a retry policy
//!
//! A whole test file, which takes no time that a clock could show. It needs `tower-outbound` with the feature `mock`,
//! `tokio` with `macros`, `rt` and `test-util`, `tower` with `util`, and `http`. The policy waits one second, then two,
//! then three, then no more:
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_outbound::backoff_retry::{Attempt, BackoffRetryLayer, Decision, StopReason};
//! use tower_outbound::mock::{Script, dropped, ok, status, waits};
//!
//! fn policy(attempt: &Attempt<'_>) -> Decision {
//!     match attempt.number {
//!         number @ 1..=3 => Decision::Retry(Duration::from_secs(number.into())),
//!         _ => Decision::Stop(StopReason::AttemptsUsed),
//!     }
//! }
//!
//! #[test]
//! # fn stands_for_its_waits() {}
//! fn its_waits() {
//!     assert_eq!(waits(&policy, vec![status(503); 9]), [1, 2, 3].map(Duration::from_secs));
//! }
//!
//! #[tokio::test(start_paused = true)]
//! # async fn stands_for_in_a_stack() {}
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn in_a_stack() {
//!     let script = Script::new().then(status(429).retry_after(5)).then(dropped()).then(ok("at last"));
//!     let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new().policy(policy)).service(script.clone());
//!     assert_eq!(stack.oneshot(http::Request::new("please".to_owned())).await.unwrap().status(), 200);
//!     script.assert_done();
//!     script.assert_waits([5, 2].map(Duration::from_secs));
//! }
//! # fn main() { its_waits(); in_a_stack(); }
//! ```
//!
//! With tower's own mock (`tower-test`), which leaves it to the test to answer each request:
//!
//! ```
//! use http::{Request, Response};
//! use std::time::Duration;
//! use tokio::time::Instant;
//! use tower::{Layer, ServiceExt};
//! use tower_outbound::backoff_retry::BackoffRetryLayer;
//!
//! #[tokio::test(start_paused = true)]
//! # async fn stands_for_waits_as_the_sdk_does() {}
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn waits_as_the_sdk_does() {
//!     let (mock, mut server) = tower_test::mock::pair::<Request<String>, Response<String>>();
//!     let retry = BackoffRetryLayer::openai_sdk().hold_jitter(0.0).layer(mock);
//!     let call = tokio::spawn(retry.oneshot(Request::new("please".to_owned())));
//!
//!     let start = Instant::now();
//!     for (status, at) in [(500, 0), (503, 500), (200, 1500)] {
//!         let (request, answer) = server.next_request().await.unwrap();
//!         assert_eq!((request.body().as_str(), start.elapsed()), ("please", Duration::from_millis(at)));
//!         answer.send_response(Response::builder().status(status).body(String::new()).unwrap());
//!     }
//!     assert_eq!(call.await.unwrap().unwrap().status(), 200);
//! }
//! # fn main() { waits_as_the_sdk_does(); }
//! ```

#![allow(clippy::test_attr_in_doctest, reason = "hidden lines run them")]

mod answer;
mod api;
mod body;
mod bucket;
mod core;
mod faults;
mod files;
mod headers;
mod intake;
mod record;
mod refusal;
#[cfg(feature = "backoff-retry")]
mod rehearsal;
mod reply;
#[cfg(feature = "backoff-retry")]
mod retries;
mod routes;
mod script;
mod server;
mod settings;
#[cfg(feature = "backoff-retry")]
pub mod simulate;

pub use api::{MockApi, ResponseFuture};
pub use body::{MockBody, MockError, MockErrorKind};
pub use bucket::{Limit, Limits};
pub use faults::{Fault, Faults};
pub use headers::Spelling;
pub use record::{CallRecord, Counters, KeyPrint, Outcome};
#[cfg(feature = "backoff-retry")]
pub use rehearsal::{Rehearsal, waits};
#[cfg(feature = "backoff-retry")]
pub use retries::Retries;
pub use routes::token_cost;
pub use script::{Script, ScriptFuture, Sent, Step, answer, dropped, never, ok, status};
pub use server::MockServer;
pub use settings::MockApiBuilder;
