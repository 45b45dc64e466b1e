//! What the retries of one call came to.

use std::{error::Error, fmt, time::Duration};

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
    pub kinds: Vec<ErrorKind>,
    /// Why it was not sent again; `None` after a success.
    pub stopped: Option<StopReason>,
}

/// How many kinds a report keeps.
const MAX_KINDS: usize = 16;

impl RetryReport {
    pub(super) fn push_kind(&mut self, kind: ErrorKind) {
        if self.kinds.len() == MAX_KINDS {
            self.kinds.remove(0);
        }
        self.kinds.push(kind);
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
