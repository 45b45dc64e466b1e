//! Bodies that are read and still given on whole.

#[cfg(feature = "error-classify")]
pub(crate) mod peek;
