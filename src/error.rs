//! What a failure means: [`ApiError`], [`ErrorKind`] and [`RetryHint`].

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::StatusCode;

/// What kind of failure this is, whoever answered and however they spelled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Too many requests or tokens for now; the same request succeeds after a wait.
    RateLimit,
    /// The money, credit or spending limit is used up; waiting seconds does not help.
    QuotaExhausted,
    /// The service has no capacity for anybody at the moment (503, 529).
    Overloaded,
    /// The key is missing, malformed, unknown or revoked (401).
    Authentication,
    /// The key is sound but may not do this (403).
    Permission,
    /// The path or the model does not exist, or not for this key (404).
    NotFound,
    /// The request is malformed or has a value out of range (400).
    InvalidRequest,
    /// The prompt is longer than the model's context.
    ContextLength,
    /// Refused by a content or safety policy.
    ContentPolicy,
    /// Larger than the server or the whole quota ever allows (413).
    RequestTooLarge,
    /// Lost against another request on the same resource (409).
    Conflict,
    /// Well-formed, but not processable (422).
    Unprocessable,
    /// No answer in time (408, 504, a client's own time limit).
    Timeout,
    /// The server failed (500).
    Server,
    /// The server cannot be reached (502, refused or broken connections).
    Unavailable,
    /// None of the others can be told from the answer.
    Unknown,
}

impl ErrorKind {
    /// The name in `snake_case`, as in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Overloaded => "overloaded",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::InvalidRequest => "invalid_request",
            Self::ContextLength => "context_length",
            Self::ContentPolicy => "content_policy",
            Self::RequestTooLarge => "request_too_large",
            Self::Conflict => "conflict",
            Self::Unprocessable => "unprocessable",
            Self::Timeout => "timeout",
            Self::Server => "server",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether, and when, the same request may succeed without anybody changing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryHint {
    /// Not at all.
    Never,
    /// Later; the server did not say when.
    Backoff,
    /// Not before this time has passed since the answer came: a floor, not an estimate.
    After(Duration),
}

/// A failed call: what the server or the transport said, in one vocabulary.
///
/// Put into the extensions of every failed response by `ErrorClassify`. A clone is one reference count.
#[derive(Clone)]
pub struct ApiError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    status: Option<StatusCode>,
    kind: ErrorKind,
    retry: RetryHint,
    body_in_memory: bool,
}

impl ApiError {
    /// A failure of this kind, of which nothing else is known yet.
    #[must_use]
    pub fn new(kind: ErrorKind, retry: RetryHint) -> Self {
        Self(Arc::new(Inner { status: None, kind, retry, body_in_memory: false }))
    }

    /// STUB until the classifier lands.
    pub(crate) fn from_head(status: StatusCode, headers: &http::HeaderMap) -> Self {
        let hint = crate::hint::retry_after(headers).map_or(RetryHint::Backoff, RetryHint::After);
        let (kind, retry) = match status.as_u16() {
            429 => (ErrorKind::RateLimit, hint),
            500..600 => (ErrorKind::Server, hint),
            _ => (ErrorKind::Unknown, RetryHint::Never),
        };
        Self(Arc::new(Inner { status: Some(status), kind, retry, body_in_memory: false }))
    }

    /// STUB
    pub fn from_error(_: &(dyn Error + 'static)) -> Self {
        Self::new(ErrorKind::Unavailable, RetryHint::Backoff)
    }

    /// STUB
    pub fn may_have_been_processed(&self) -> bool {
        self.kind() != ErrorKind::RateLimit
    }

    /// The status of the response; `None` for a transport error.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether and when the same request may succeed.
    #[must_use]
    pub fn retry(&self) -> RetryHint {
        self.0.retry
    }

    /// Whether the response's body is whole in memory, so that keeping the response keeps no connection.
    #[must_use]
    pub fn body_in_memory(&self) -> bool {
        self.0.body_in_memory
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError").field("status", &self.0.status).field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.kind)
    }
}

impl Error for ApiError {}

/// The innermost cause of type `T` in an error's chain of sources, the error itself included.
#[must_use]
pub fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
