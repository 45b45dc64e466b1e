//! Tower layers for outbound calls to metered HTTP APIs.

#[cfg(feature = "backoff-retry")]
pub mod backoff_retry;
pub mod body;
mod call;
pub mod error;
mod hint;
#[cfg(feature = "key-check")]
pub mod key_check;
pub mod limits;

#[cfg(feature = "mock")]
pub mod mock;
#[cfg(feature = "quota-meter")]
pub mod quota_meter;

pub use call::{Again, Call, Gate, Lease, Refused};
pub use error::{ApiError, ErrorKind, RetryHint, find_cause};

/// A [`NonZero`](std::num::NonZero) from a constant: `nz!(500)`. Zero does not compile.
#[macro_export]
macro_rules! nz {
    ($number:expr) => {
        const { ::std::num::NonZero::new($number).expect("a number other than zero") }
    };
}
