//! Every spelling of "come back later", as a [`Duration`].
//!
//! One rule holds for all of them: what cannot be told stays unknown. `-1`, `0`, dates in the past, overflow, `NaN`
//! and waits of more than [`MAX`] are `None`, and the caller's own backoff decides.

mod date;
mod duration;
mod message;
mod reset;

use std::time::{Duration, SystemTime};

use http::HeaderMap;

pub(crate) use date::{http_date, when};
pub(crate) use duration::go_duration;
pub(crate) use message::in_message;
pub(crate) use reset::{Policy, exhausted_reset, ietf_rate_limit, is_limit, policies};

/// The longest wait believed. No API has a window longer than a year; beyond it a number is an error of unit.
pub(crate) const MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A wait that can be meant: more than nothing, and at most [`MAX`].
pub(crate) fn plausible(wait: Duration) -> Option<Duration> {
    (!wait.is_zero() && wait <= MAX).then_some(wait)
}

/// That many seconds. Negative, not a number, or too large: `None`.
pub(crate) fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().and_then(plausible)
}

/// That many nanoseconds, if that is [`plausible`]; less work than by way of a [`Duration`].
#[inline]
pub(crate) fn nanos(nanos: u64) -> Option<Duration> {
    const MOST: u64 = MAX.as_secs() * 1_000_000_000;
    (1..=MOST).contains(&nanos).then(|| Duration::from_nanos(nanos))
}

/// The header as text, without the blanks around it.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // A response has some twenty headers: to walk past them is cheaper than to check and hash a name that is mostly not there.
    let (_, value) = headers.iter().find(|(present, _)| present.as_str().eq_ignore_ascii_case(name))?;
    value.to_str().ok().map(str::trim)
}

/// What time it is for the server: its own `Date`, so that a clock of ours that goes wrong does no harm; else ours.
///
/// `Date` has whole seconds and is rounded down, so a wait taken from it is at most a second too long, never too short.
pub(crate) fn server_now(headers: &HeaderMap, ours: impl FnOnce() -> SystemTime) -> SystemTime {
    header(headers, "date").and_then(http_date).unwrap_or_else(ours)
}

/// `retry-after-ms`, else `retry-after`: seconds, with a fraction or without, a date in any of HTTP's three forms,
/// or what servers write by mistake (an epoch, a Go duration, RFC 3339).
pub(crate) fn retry_after(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let millis = |name| header(headers, name)?.parse::<f64>().ok().and_then(|ms| seconds(ms / 1e3));
    millis("retry-after-ms")
        .or_else(|| millis("x-ms-retry-after-ms"))
        .or_else(|| when(header(headers, "retry-after")?, || server_now(headers, now)))
}

#[cfg(test)]
mod tests;
