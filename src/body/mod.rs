//! Bodies: which can go again, and how the rest of one is let go.

#[cfg(feature = "backoff-retry")]
pub(crate) mod drain;
mod resend;

pub use resend::{CloneBody, Once, Resend};
