//! What a fallback says of itself.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::{Method, Uri};
use tower::BoxError;

use super::host;
use crate::ApiError;

/// One that was asked for an answer in place of the first, and had none.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failed {
    /// Its name.
    pub by: Arc<str>,
    /// Why.
    pub error: ApiError,
}

/// Who answered, in place of what, and why.
///
/// An extension of every response that is a fallback, and of a failed one that no fallback could replace; for calls that
/// ended in an error, in [`FallbackError`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FallbackReport {
    /// The name of who answered; `None` if nobody did.
    pub by: Option<Arc<str>>,
    /// What had been asked for: method, host and path.
    pub of: String,
    /// Why the first failed.
    pub why: ApiError,
    /// Those that were asked before and failed as well, in order.
    pub failed: Vec<Failed>,
    /// How old the answer is, if it is the last good one.
    pub age: Option<Duration>,
}

impl FallbackReport {
    pub(super) fn new(method: &Method, uri: &Uri, why: ApiError) -> Self {
        // Without the query and any user's name: some APIs have the key in them.
        let of = format!("{method} {}{}", host::shown(uri), uri.path());
        Self { by: None, of, why, failed: Vec::new(), age: None }
    }

    pub(super) fn fail(&mut self, by: &Arc<str>, error: ApiError) {
        self.failed.push(Failed { by: Arc::clone(by), error });
    }
}

impl fmt::Display for FallbackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Some(by) => write!(f, "{by} in place of {}: {}", self.of, self.why)?,
            None => write!(f, "nothing in place of {}: {}", self.of, self.why)?,
        }
        if let Some(age) = self.age {
            write!(f, "; {age:.0?} old")?;
        }
        self.failed.iter().try_for_each(|failed| write!(f, "; {}: {}", failed.by, failed.error))
    }
}

/// The first error, of a call that no fallback could answer either.
///
/// [`find_cause`](crate::find_cause) finds what the first error is made of, for it is the source of this one.
#[derive(Debug)]
pub struct FallbackError {
    first: BoxError,
    report: FallbackReport,
}

impl FallbackError {
    pub(super) fn new(first: BoxError, report: FallbackReport) -> Self {
        Self { first, report }
    }

    /// The error of the first service.
    #[must_use]
    pub fn first(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.first
    }

    /// Who was asked after it, and why they failed.
    #[must_use]
    pub fn report(&self) -> &FallbackReport {
        &self.report
    }
}

impl fmt::Display for FallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.report.failed.iter().try_for_each(|failed| write!(f, "; {}: {}", failed.by, failed.error))
    }
}

impl Error for FallbackError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.first)
    }
}
