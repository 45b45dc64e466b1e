#![doc = include_str!("../README.md")]

#[cfg(feature = "backoff-retry")]
pub mod backoff_retry;
pub mod body;
pub mod bridge;
mod call;
pub mod error;
#[cfg(feature = "error-classify")]
pub mod error_classify;
#[cfg(feature = "fallback")]
pub mod fallback;
#[cfg(any(feature = "key-check", feature = "quota-meter"))]
mod fingerprint;
mod hint;
#[cfg(any(feature = "backoff-retry", feature = "fallback"))]
mod kept;
#[cfg(feature = "key-check")]
pub mod key_check;
pub mod limits;
#[cfg(feature = "mock")]
pub mod mock;
pub mod provider;
#[cfg(feature = "quota-meter")]
pub mod quota_meter;
#[cfg(feature = "request-check")]
pub mod request_check;
#[cfg(feature = "stack")]
pub mod stack;
mod wall_clock;

#[cfg(feature = "backoff-retry")]
pub use backoff_retry::{BackoffRetry, BackoffRetryLayer};
pub use call::{Again, Call, Gate, Lease, Refused};
pub use error::{ApiError, ErrorKind, RetryHint, failure, find_cause};
#[cfg(feature = "error-classify")]
pub use error_classify::{ErrorClassify, ErrorClassifyLayer};
#[cfg(feature = "fallback")]
pub use fallback::{Fallback, FallbackLayer};
#[cfg(feature = "key-check")]
pub use key_check::{ApiKey, KeyCheck, KeyCheckLayer, Origin};
pub use provider::{Provider, Providers};
#[cfg(feature = "quota-meter")]
pub use quota_meter::{Priority, QuotaMeter, QuotaMeterLayer, TokenCost};
#[cfg(feature = "request-check")]
pub use request_check::{RequestCheck, RequestCheckLayer};

/// A [`NonZero`](std::num::NonZero) from a constant: `nz!(500)`. Zero does not compile.
#[macro_export]
macro_rules! nz {
    ($number:expr) => {
        const { ::std::num::NonZero::new($number).expect("a number other than zero") }
    };
}
