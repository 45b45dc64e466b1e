//! What a provider sees of a failure, and what it can say.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, StatusCode};

use super::facts::Facts;
use crate::{ErrorKind, hint};

/// A failed response, as [`Provider::judge`](super::Provider::judge) sees it.
#[derive(Debug)]
pub struct Failure<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) facts: Facts<'a>,
    pub(crate) present: Present,
}

/// Which of the headers that say anything are there, found in one walk: a look-up for each of them, most in vain,
/// would cost more than the reading of the body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Present(u8);

impl Present {
    /// Some hint of when to come back.
    pub(crate) const RETRY_AFTER: u8 = 1;
    /// The server's word on whether to.
    pub(crate) const SHOULD_RETRY: u8 = 2;
    /// Some limit and its reset.
    pub(crate) const LIMITS: u8 = 4;
    pub(crate) const AWS: u8 = 8;
    pub(crate) const REQUEST_ID: u8 = 16;

    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |seen, name| {
            seen | match name.as_str() {
                "retry-after" | "retry-after-ms" | "x-ms-retry-after-ms" => Self::RETRY_AFTER,
                "x-should-retry" | "stripe-should-retry" => Self::SHOULD_RETRY,
                "x-amzn-errortype" => Self::AWS,
                "x-request-id"
                | "request-id"
                | "x-amzn-requestid"
                | "apim-request-id"
                | "x-github-request-id"
                | "x-oai-request-id"
                | "cf-ray" => Self::REQUEST_ID,
                name if hint::is_limit(name) => Self::LIMITS,
                _ => 0,
            }
        }))
    }

    pub(crate) const fn has(self, which: u8) -> bool {
        self.0 & which != 0
    }

    /// None of those there are.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl<'a> Failure<'a> {
    pub(crate) fn new(status: StatusCode, headers: &'a HeaderMap, body: &'a [u8], facts: Facts<'a>) -> Self {
        Self { status, headers, body, facts, present: Present::of(headers) }
    }
}

impl<'a> Failure<'a> {
    /// The status; of a response inside the body, where that is what failed.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The head's headers.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// A header as text, without the blanks around it; `None` where it is missing or no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        hint::header(self.headers, name)
    }

    /// The body as far as it was read: empty where it was compressed, late or not there.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The code, as [`ApiError::code`](crate::ApiError::code) gives it.
    #[must_use]
    pub fn code(&self) -> Option<Cow<'_, str>> {
        self.facts.code()
    }

    /// The type.
    #[must_use]
    pub fn error_type(&self) -> Option<&str> {
        self.facts.error_type()
    }

    /// The parameter that it complains of.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.facts.param()
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.facts.message()
    }

    /// Whether any field that holds identifiers is this one.
    #[must_use]
    pub fn has_id(&self, id: &str) -> bool {
        self.ids().any(|own| own == id)
    }

    /// The name of AWS's exception, without what it appends.
    pub(crate) fn aws_header(&self) -> Option<&'a str> {
        if !self.present.has(Present::AWS) {
            return None;
        }
        let name = hint::header(self.headers, "x-amzn-errortype")?;
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        Some(name.rsplit_once('#').map_or(name, |(_, name)| name)).filter(|name| !name.is_empty())
    }

    /// The identifiers, the most telling first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.aws_header().into_iter().chain(self.facts.ids())
    }
}

/// What a failure is.
///
/// Whether it may succeed later follows from the kind, and when from the response's hints, unless it is said here.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub(crate) kind: ErrorKind,
    pub(crate) may_succeed: Option<bool>,
    pub(crate) wait: Option<Duration>,
    pub(crate) otherwise: Option<Duration>,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

impl Verdict {
    /// It is of this kind.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self { kind, may_succeed: None, wait: None, otherwise: None, code: None, message: None }
    }

    /// The same request never succeeds.
    #[must_use]
    pub fn never(mut self) -> Self {
        self.may_succeed = Some(false);
        self
    }

    /// The same request may succeed later, though its kind mostly does not.
    #[must_use]
    pub fn may_succeed(mut self) -> Self {
        self.may_succeed = Some(true);
        self
    }

    /// Not before this time has passed, whatever the hints say. Nothing, or more than a year, is taken for unknown.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.wait = hint::plausible(wait);
        self.may_succeed()
    }

    /// This long, where the response has no hint of its own.
    #[must_use]
    pub fn or_after(mut self, wait: Duration) -> Self {
        self.otherwise = hint::plausible(wait);
        self
    }

    /// With the code to report, where it stands in a place of this API's own.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// With the message to report, where it stands in a place of this API's own.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}
