//! Rules as data.

use http::StatusCode;

use crate::ErrorKind;

/// When a rule is asked; the lower first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Decides, whatever the status.
    Exact,
    /// After the messages.
    Overload,
    /// Where the status is 429, or does not contradict.
    Rate,
    /// Where the status says no more than that it failed.
    Vague,
}

/// An identifier that an API puts into its errors, and what it means. It is compared whole, in its own case, with every
/// field that holds identifiers: code, type, status word, reason, and the header of AWS.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    pub(crate) id: &'static str,
    pub(crate) kind: ErrorKind,
    pub(crate) rank: Rank,
    pub(crate) status: Option<u16>,
    pub(crate) never: bool,
}

impl Code {
    /// This identifier means this kind.
    ///
    /// Quota, content policy, context length, authentication and too large a request decide whatever the status is;
    /// overload and rate limits come after the messages; the others count only where the status is as vague as 400.
    #[must_use]
    pub const fn new(id: &'static str, kind: ErrorKind) -> Self {
        let rank = match kind {
            ErrorKind::QuotaExhausted
            | ErrorKind::ContentPolicy
            | ErrorKind::ContextLength
            | ErrorKind::Authentication
            | ErrorKind::RequestTooLarge => Rank::Exact,
            ErrorKind::Overloaded => Rank::Overload,
            ErrorKind::RateLimit => Rank::Rate,
            _ => Rank::Vague,
        };
        Self { id, kind, rank, status: None, never: false }
    }

    /// Whatever the status is, and before the messages.
    #[must_use]
    pub const fn always(mut self) -> Self {
        self.rank = Rank::Exact;
        self
    }

    /// With this status only.
    #[must_use]
    pub const fn on(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Not worth sending again, though its kind mostly is.
    #[must_use]
    pub const fn never(mut self) -> Self {
        self.never = true;
        self
    }

    pub(crate) fn holds(&self, status: StatusCode) -> bool {
        self.status.is_none_or(|only| only == status.as_u16())
    }
}

/// How a message begins, and what that means.
#[derive(Clone, Copy, Debug)]
pub struct Phrase {
    start: &'static str,
    contains: &'static str,
    pub(crate) kind: ErrorKind,
}

impl Phrase {
    /// A message that begins like this means this kind. The case counts.
    #[must_use]
    pub const fn new(start: &'static str, kind: ErrorKind) -> Self {
        Self { start, contains: "", kind }
    }

    /// And has this in it, further on.
    #[must_use]
    pub const fn and(mut self, contains: &'static str) -> Self {
        self.contains = contains;
        self
    }

    pub(crate) fn fits(&self, message: &str) -> bool {
        // Of many phrases nearly all differ in their first letter.
        message.as_bytes().first() == self.start.as_bytes().first()
            && message
                .strip_prefix(self.start)
                .is_some_and(|rest| self.contains.is_empty() || rest.contains(self.contains))
    }
}

/// What a status means, where that differs from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct StatusRule {
    pub(crate) status: u16,
    pub(crate) kind: ErrorKind,
}

impl StatusRule {
    /// This status means this kind.
    #[must_use]
    pub const fn new(status: u16, kind: ErrorKind) -> Self {
        Self { status, kind }
    }
}
