//! Bodies: which can go again, and how the rest of one is let go.

#[cfg(feature = "backoff-retry")]
pub(crate) mod drain;
mod remake;
mod replay;
mod resend;

pub use remake::Remake;
pub use replay::{ReplayBody, ReplayError};
pub use resend::{CloneBody, Once, Resend};
