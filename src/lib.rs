//! Tower layers for outbound calls to metered HTTP APIs.

mod call;
pub mod error;
mod hint;
pub mod limits;

#[cfg(feature = "mock")]
pub mod mock;
#[cfg(feature = "quota-meter")]
pub mod quota_meter;

pub use call::{Again, Call, Gate, Lease, Refused};
pub use error::{ApiError, ErrorKind, RetryHint, find_cause};
