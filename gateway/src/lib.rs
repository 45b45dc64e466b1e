//! A local reverse proxy in front of an OpenAI-like endpoint, so that programs in any language get the layers of
//! tower-outbound by changing their `base_url`.
//!
//! Every call goes through `BackoffRetry`, `KeyCheck`, `QuotaMeter` and `ErrorClassify`, and is streamed both ways as it
//! comes. The gateway answers `GET /`, `/status.json`, `/healthz` and `/metrics` itself; every other path is the API's.

mod attempt;
mod body;
mod errors;
mod guard;
mod headers;
mod history;
mod intake;
mod limit;
mod metrics;
mod options;
mod pages;
mod proxy;
mod quota;
mod server;
mod stack;
mod stop;
mod target;
mod workers;

pub use guard::Secrets;
pub use options::Options;
pub use server::Gateway;
