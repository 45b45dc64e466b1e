//! What is wrong with a request: [`BadRequest`] and its [`Fault`]s.

use std::{borrow::Cow, error::Error, fmt};

use http::HeaderName;

use crate::{ApiError, ErrorKind, Gate, Refused, RetryHint};

/// The most faults that are told of one request.
pub(super) const MAX_FAULTS: usize = 64;

/// Where in a request a fault is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The URI.
    Uri,
    /// All headers together.
    Headers,
    /// This header.
    Header(HeaderName),
    /// The body as a whole.
    Body,
    /// Where the body stops being JSON.
    Position {
        /// From 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
        /// In bytes from the start of the body, from 0.
        offset: usize,
    },
    /// A value in the body, by JSON pointer (RFC 6901).
    Pointer(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri => f.write_str("URI"),
            Self::Headers => f.write_str("headers"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Body => f.write_str("body"),
            Self::Position { line, column, offset } => {
                write!(f, "body, line {line} column {column} (byte {offset})")
            }
            // The whole document has the empty pointer.
            Self::Pointer(pointer) if pointer.is_empty() => f.write_str("body"),
            Self::Pointer(pointer) => f.write_str(pointer),
        }
    }
}

/// One thing that is wrong: where, what was found, and what is allowed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    place: Place,
    found: String,
    allowed: Cow<'static, str>,
    kind: ErrorKind,
}

impl Fault {
    /// A fault at this place. Of `found`, no more than 256 bytes are kept.
    #[must_use]
    pub fn new(place: Place, found: impl Into<String>, allowed: impl Into<Cow<'static, str>>) -> Self {
        let mut found = found.into();
        if found.len() > 256 {
            let end = (0..=256).rev().find(|end| found.is_char_boundary(*end)).unwrap_or(0);
            found.truncate(end);
            found.push('…');
        }
        Self { place, found, allowed: allowed.into(), kind: ErrorKind::InvalidRequest }
    }

    /// A fault in the body, at this JSON pointer: `/messages/0/role`.
    #[must_use]
    pub fn at(pointer: impl Into<String>, found: impl Into<String>, allowed: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Place::Pointer(pointer.into()), found, allowed)
    }

    /// With what kind of error the server would have answered. [`InvalidRequest`](ErrorKind::InvalidRequest), if nothing
    /// is said.
    #[must_use]
    pub fn with_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The JSON pointer, for a fault in a value of the body.
    #[must_use]
    pub fn pointer(&self) -> Option<&str> {
        match &self.place {
            Place::Pointer(pointer) => Some(pointer),
            _ => None,
        }
    }

    /// What was found there, shortened.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What is allowed there.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// With what kind of error the server would have answered.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, allowed is {}", self.place, self.found, self.allowed)
    }
}

/// All that is wrong with a request; the cause of a [`Refused`], or the error of a body that grew past its limit.
///
/// It has an [`ApiError`] as its source, of the kind that the server would have answered with: [`failure`](crate::failure)
/// reads it like any other.
#[derive(Clone, Debug)]
pub struct BadRequest {
    faults: Vec<Fault>,
    error: ApiError,
}

impl BadRequest {
    /// `faults` has at least one.
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        faults.truncate(MAX_FAULTS);
        // A size says more than a value: with it mended, the rest may be moot.
        let is_size = |fault: &&Fault| fault.kind != ErrorKind::InvalidRequest;
        let main = faults.iter().find(is_size).or(faults.first());
        let mut error = ApiError::new(main.map_or(ErrorKind::InvalidRequest, Fault::kind), RetryHint::Never)
            .with_message(&Listed(&faults).to_string());
        if let Some(pointer) = main.and_then(Fault::pointer) {
            error = error.with_param(pointer);
        }
        Self { faults, error }
    }

    /// What is wrong, in the order in which it stands in the request; at most 64.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl From<BadRequest> for Refused {
    fn from(bad: BadRequest) -> Self {
        Self::new(Gate::Request, None, bad)
    }
}

struct Listed<'a>(&'a [Fault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Listed(&self.faults).fmt(f)
    }
}

impl Error for BadRequest {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
