//! Which failures are covered.

use http::Response;
use tower::BoxError;

use crate::{ApiError, ErrorKind};

/// A final failure, as the one who decides whether to cover it sees it.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    error: &'a ApiError,
    waits_too_long: bool,
}

impl<'a> Failure<'a> {
    #[cfg_attr(not(feature = "backoff-retry"), allow(unused_variables))]
    pub(super) fn of<RB>(error: &'a ApiError, result: &Result<Response<RB>, BoxError>) -> Self {
        #[cfg(feature = "backoff-retry")]
        let waits_too_long = {
            use crate::backoff_retry::{RetryError, RetryReport, StopReason};
            let report = match result {
                Ok(response) => response.extensions().get::<RetryReport>(),
                Err(error) => crate::find_cause::<RetryError>(&**error).map(RetryError::report),
            };
            let stopped = report.and_then(|report| report.stopped);
            matches!(stopped, Some(StopReason::WaitTooLong | StopReason::PastDeadline | StopReason::Refused))
        };
        #[cfg(not(feature = "backoff-retry"))]
        let waits_too_long = false;
        Self { error, waits_too_long }
    }

    /// What the failure means.
    #[must_use]
    pub fn error(&self) -> &'a ApiError {
        self.error
    }

    /// Whether it is covered if nobody says otherwise.
    #[must_use]
    pub fn is_covered_by_default(&self) -> bool {
        match self.error.kind() {
            ErrorKind::QuotaExhausted => true,
            // Refused by a meter, which sent nothing, or not waited for by a retry.
            ErrorKind::RateLimit => self.waits_too_long || !self.error.may_have_reached_server(),
            kind => is_availability(kind),
        }
    }
}

/// Whether a failure of this kind is the server's, and not that of what it was asked.
pub(super) fn is_availability(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Server | ErrorKind::Timeout)
}
