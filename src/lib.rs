//! Tower layers for outbound calls to metered HTTP APIs.

mod body;
mod call;
pub mod error;
#[cfg(feature = "error-classify")]
pub mod error_classify;
mod hint;
pub mod provider;
mod wall_clock;

#[cfg(feature = "mock")]
pub mod mock;

pub use call::{Again, Call, Gate, Lease, Refused};
pub use error::{ApiError, ErrorKind, RetryHint, failure, find_cause};
#[cfg(feature = "error-classify")]
pub use error_classify::{ErrorClassify, ErrorClassifyLayer};
pub use provider::{Provider, Providers};
