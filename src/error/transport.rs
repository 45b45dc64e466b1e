//! What an error of the transport means, told from the types in its chain of sources, never from its words.

use std::{error::Error, fmt::Write as _, io};

use tokio::time::Instant;

use super::{ApiError, ErrorKind, RetryHint, causes, find_cause};
use crate::{Again, Gate, Refused};

/// What one error in the chain tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    kind: ErrorKind,
    retry: RetryHint,
    /// Whether the request can have reached the server.
    reached: bool,
}

const fn passing(kind: ErrorKind, reached: bool) -> Option<Meaning> {
    Some(Meaning { kind, retry: RetryHint::Backoff, reached })
}

#[cfg(any(feature = "hyper", feature = "reqwest"))]
const fn lasting(kind: ErrorKind) -> Option<Meaning> {
    Some(Meaning { kind, retry: RetryHint::Never, reached: false })
}

impl ApiError {
    /// What an error from below means: [`Timeout`](ErrorKind::Timeout) or [`Unavailable`](ErrorKind::Unavailable), and
    /// whether the request can have reached the server.
    ///
    /// It looks through the whole chain of sources, and into `std::io::Error`: for an `ApiError` (given back as it is),
    /// for [`Refused`] (never worth sending again) and [`Again`], for the time limits of tower and tokio, for what
    /// tower sheds (`LoadShed`: never sent), for the kinds of `std::io::Error`; and, with the features of the same names, for the errors of `hyper`, `hyper-util`, `h2` and
    /// `reqwest`. What it does not know is [`Unknown`](ErrorKind::Unknown), may have reached the server, and may succeed later.
    ///
    /// ```
    /// use std::io;
    /// use tower_outbound::{ApiError, ErrorKind};
    ///
    /// let error = ApiError::from_error(&io::Error::from(io::ErrorKind::ConnectionRefused));
    /// assert_eq!(error.kind(), ErrorKind::Unavailable);
    /// assert!(!error.may_have_reached_server());
    /// ```
    #[must_use]
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        for cause in causes(error) {
            if let Some(known) = cause.downcast_ref::<ApiError>() {
                return known.clone();
            }
            if let Some(refused) = cause.downcast_ref::<Refused>() {
                return from_refused(refused);
            }
            if let Some(again) = cause.downcast_ref::<Again>() {
                return from_again(*again);
            }
            #[cfg(feature = "reqwest")]
            if let Some(status) = cause.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::status)
                && let Some(known) = Self::from_head(status, &http::HeaderMap::new())
            {
                return known;
            }
        }
        let found =
            strongest(error).unwrap_or(Meaning { kind: ErrorKind::Unknown, retry: RetryHint::Backoff, reached: true });
        Self::new(found.kind, found.retry).with_may_have_reached_server(found.reached).with_message(&words(error))
    }
}

/// The outermost cause that tells something is right about the kind; that nothing was sent, any of them may know.
fn strongest(error: &(dyn Error + 'static)) -> Option<Meaning> {
    let mut known = causes(error).filter_map(meaning);
    let mut found = known.next()?;
    for deeper in known {
        // "Something with the connection" says less than "timed out" or "refused" below it.
        if deeper.kind == ErrorKind::Timeout && found.kind == ErrorKind::Unavailable {
            found.kind = deeper.kind;
        }
        found.reached &= deeper.reached;
        if deeper.retry == RetryHint::Never {
            found = deeper;
        }
    }
    Some(found)
}

fn from_refused(refused: &Refused) -> ApiError {
    let cause = find_cause::<ApiError>(refused.cause());
    let known = cause.cloned().unwrap_or_else(|| ApiError::new(kind_of(refused), RetryHint::Never));
    let mut error = known.with_may_have_reached_server(false);
    if error.message().is_none() {
        error = error.with_message(&words(refused));
    }
    error.retry = RetryHint::Never;
    error
}

fn kind_of(refused: &Refused) -> ErrorKind {
    // The caller's mistake, as it is when the server finds it.
    #[cfg(feature = "quota-meter")]
    if let Some(crate::quota_meter::Refusal::TooLarge { .. }) = find_cause(refused.cause()) {
        return ErrorKind::RequestTooLarge;
    }
    by(refused.by())
}

fn from_again(again: Again) -> ApiError {
    let wait = again.not_before.saturating_duration_since(Instant::now());
    ApiError::new(by(again.by), if wait.is_zero() { RetryHint::Backoff } else { RetryHint::After(wait) })
}

fn by(gate: Gate) -> ErrorKind {
    match gate {
        Gate::Request => ErrorKind::InvalidRequest,
        Gate::Key => ErrorKind::Authentication,
        Gate::Quota => ErrorKind::RateLimit,
        Gate::Breaker => ErrorKind::Unavailable,
    }
}

fn meaning(error: &(dyn Error + 'static)) -> Option<Meaning> {
    if error.is::<tower::timeout::error::Elapsed>() || error.is::<tokio::time::error::Elapsed>() {
        return passing(ErrorKind::Timeout, true);
    }
    if error.is::<tower::load_shed::error::Overloaded>() {
        return passing(ErrorKind::Overloaded, false);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return from_io(error.kind());
    }
    #[cfg(feature = "hyper")]
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return from_hyper(error);
    }
    #[cfg(feature = "hyper-util")]
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return error.is_connect().then(|| passing(ErrorKind::Unavailable, false))?;
    }
    #[cfg(feature = "h2")]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return from_h2(error);
    }
    #[cfg(feature = "reqwest")]
    if let Some(error) = error.downcast_ref::<reqwest::Error>() {
        return from_reqwest(error);
    }
    None
}

fn from_io(kind: io::ErrorKind) -> Option<Meaning> {
    use io::ErrorKind as Io;
    match kind {
        Io::TimedOut | Io::WouldBlock => passing(ErrorKind::Timeout, true),
        Io::ConnectionRefused
        | Io::AddrNotAvailable
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown => passing(ErrorKind::Unavailable, false),
        Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::BrokenPipe
        | Io::NotConnected
        | Io::UnexpectedEof
        | Io::WriteZero
        | Io::Interrupted => passing(ErrorKind::Unavailable, true),
        _ => None,
    }
}

#[cfg(feature = "hyper")]
fn from_hyper(error: &hyper::Error) -> Option<Meaning> {
    if error.is_timeout() {
        passing(ErrorKind::Timeout, true)
    } else if error.is_user() || error.is_parse_too_large() {
        // Our own body failed, or the answer can never be read.
        lasting(ErrorKind::Unknown).map(|meaning| Meaning { reached: true, ..meaning })
    } else if error.is_canceled() {
        // The connection closed before the request was written to it.
        passing(ErrorKind::Unavailable, false)
    } else {
        // Closed in the middle, or an answer that is no HTTP.
        passing(ErrorKind::Unavailable, true)
    }
}

#[cfg(feature = "h2")]
fn from_h2(error: &h2::Error) -> Option<Meaning> {
    // RFC 9113, 8.7: a refused stream was not looked at. GOAWAY says so only of streams it names, which is not told here.
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    passing(ErrorKind::Unavailable, !refused)
}

#[cfg(feature = "reqwest")]
fn from_reqwest(error: &reqwest::Error) -> Option<Meaning> {
    if error.is_builder() {
        return lasting(ErrorKind::InvalidRequest);
    }
    if error.is_redirect() {
        return lasting(ErrorKind::Unknown).map(|meaning| Meaning { reached: true, ..meaning });
    }
    let reached = !error.is_connect();
    if error.is_timeout() {
        passing(ErrorKind::Timeout, reached)
    } else if error.is_connect() || error.is_request() || error.is_body() {
        passing(ErrorKind::Unavailable, reached)
    } else {
        None
    }
}

/// The chain in one text. `ApiError` masks keys in it, which URLs in such errors like to hold.
fn words(error: &(dyn Error + 'static)) -> String {
    /// Some errors print their sources too, so a long chain repeats itself.
    const ENOUGH: usize = 400;
    let mut words = String::new();
    for cause in causes(error) {
        let said = cause.to_string();
        if words.len() > ENOUGH {
            break;
        }
        if words.ends_with(&said) {
            continue;
        }
        let gap = if words.is_empty() { "" } else { ": " };
        // Writing into a string cannot fail.
        let _ = write!(words, "{gap}{said}");
    }
    words
}
