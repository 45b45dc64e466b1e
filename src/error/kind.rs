use std::{fmt, time::Duration};

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

impl ErrorKind {
    /// The name in words, as in a sentence.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::RateLimit => "rate limit",
            Self::QuotaExhausted => "quota exhausted",
            Self::NotFound => "not found",
            Self::InvalidRequest => "invalid request",
            Self::ContextLength => "context length",
            Self::ContentPolicy => "content policy",
            Self::RequestTooLarge => "request too large",
            other => other.as_str(),
        }
    }

    /// Whether the same request may succeed later with nobody doing anything, where the answer says no more than this.
    pub(crate) const fn passes(self) -> bool {
        matches!(
            self,
            Self::RateLimit | Self::Overloaded | Self::Conflict | Self::Timeout | Self::Server | Self::Unavailable
        )
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

impl RetryHint {
    /// Whether the same request may succeed later at all.
    #[must_use]
    pub const fn may_succeed(self) -> bool {
        !matches!(self, Self::Never)
    }

    /// The time the server asked for, if it did.
    #[must_use]
    pub const fn wait(self) -> Option<Duration> {
        match self {
            Self::After(wait) => Some(wait),
            Self::Never | Self::Backoff => None,
        }
    }
}
