//! Tower layers for outbound calls to metered HTTP APIs.

mod call;
pub mod error;

#[cfg(feature = "mock")]
pub mod mock;

pub use call::{Again, Call, Gate, Lease, Refused};
pub use error::{ApiError, ErrorKind, RetryHint, find_cause};
