//! What the retries of one call came to.

use std::{error::Error, fmt, ops::Deref, time::Duration};

use tower::BoxError;

use super::StopReason;
use crate::{ApiError, ErrorKind};

/// What was done to get one answer.
///
/// An extension of every failed response, and of a good one that took a retry; for calls that ended in an error, in
/// [`RetryError`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryReport {
    /// Attempts made, the first included.
    pub attempts: u32,
    /// How often it was sent again without counting as an attempt, because a layer further in asked for it.
    pub resends: u32,
    /// Time spent waiting between attempts.
    pub waited: Duration,
    /// What went wrong, attempt by attempt; the last 16 at most.
    pub kinds: Kinds,
    /// Why it was not sent again; `None` after a success.
    pub stopped: Option<StopReason>,
}

/// How many kinds a report keeps.
const MAX_KINDS: usize = 16;

/// The kinds of the last failures of a call, the oldest first: a slice of [`ErrorKind`]s, without an allocation.
///
/// ```
/// use tower_outbound::{ErrorKind, backoff_retry::RetryReport};
///
/// let report = RetryReport::default();
/// assert!(report.kinds.is_empty() && !report.kinds.contains(&ErrorKind::Timeout));
/// ```
#[derive(Clone, Copy)]
pub struct Kinds {
    list: [ErrorKind; MAX_KINDS],
    len: u8,
}

impl Kinds {
    pub(super) fn push(&mut self, kind: ErrorKind) {
        let len = usize::from(self.len);
        match self.list.get_mut(len) {
            Some(slot) => {
                *slot = kind;
                self.len += 1;
            }
            None => {
                self.list.rotate_left(1);
                self.list[MAX_KINDS - 1] = kind;
            }
        }
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self { list: [ErrorKind::Unknown; MAX_KINDS], len: 0 }
    }
}

impl Deref for Kinds {
    type Target = [ErrorKind];

    fn deref(&self) -> &[ErrorKind] {
        self.list.get(..usize::from(self.len)).unwrap_or(&self.list)
    }
}

impl PartialEq for Kinds {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Kinds {}

impl<const N: usize> PartialEq<[ErrorKind; N]> for Kinds {
    fn eq(&self, other: &[ErrorKind; N]) -> bool {
        **self == *other
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Display for RetryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(f, "{} attempt{plural}", self.attempts)?;
        if self.resends > 0 {
            write!(f, ", {} resent", self.resends)?;
        }
        if !self.waited.is_zero() {
            write!(f, ", {:.1?} waited", self.waited)?;
        }
        Ok(())
    }
}

/// A call that ended without a response.
///
/// [`find_cause`](crate::find_cause) finds it, the [`ApiError`] and the original error alike.
#[derive(Debug)]
pub struct RetryError {
    report: RetryReport,
    /// With the original error as its source.
    error: ApiError,
}

impl RetryError {
    pub(super) fn new(report: RetryReport, error: ApiError, source: BoxError) -> Self {
        Self { report, error: error.with_source(source) }
    }

    /// What was done before it was given up.
    #[must_use]
    pub fn report(&self) -> &RetryReport {
        &self.report
    }

    /// What the last failure means.
    #[must_use]
    pub fn error(&self) -> &ApiError {
        &self.error
    }
}

impl fmt::Display for RetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no response after {}", self.report)?;
        if let Some(reason) = self.report.stopped {
            write!(f, " ({reason})")?;
        }
        self.error.source().map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl Error for RetryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
