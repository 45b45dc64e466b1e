//! Bodies: which can go again, how they are read and given on whole, how the rest of one is let go.

#[cfg(feature = "backoff-retry")]
pub(crate) mod drain;
#[cfg(any(feature = "error-classify", feature = "fallback", feature = "quota-meter"))]
pub(crate) mod media;
#[cfg(feature = "error-classify")]
pub(crate) mod peek;
mod remake;
mod replay;
mod resend;

pub use remake::Remake;
pub use replay::{ReplayBody, ReplayError};
pub use resend::{CloneBody, Once, Resend};
