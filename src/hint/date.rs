//! Points in time: HTTP dates, RFC 3339, and the number of seconds or milliseconds since 1970.

use std::time::{Duration, SystemTime};

use super::{go_duration, plausible, seconds};

/// A number below this is a wait in seconds, from it on a point in time. As a wait it is three years, as a date 1973.
const EPOCH_SECONDS: f64 = 1e8;
/// As seconds the year 5138, as milliseconds 1973.
const EPOCH_MILLIS: f64 = 1e11;
/// As milliseconds the year 5138.
const EPOCH_END: f64 = 1e14;

/// An HTTP date in any of its three forms.
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// A date such as `2026-11-22T15:13:53Z`.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let at: jiff::Timestamp = text.parse().ok()?;
    let since = Duration::try_from(at.as_duration()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// How long until then: a number of seconds, an epoch in seconds or milliseconds (told apart by size),
/// a Go duration, RFC 3339 or an HTTP date.
pub(crate) fn when(text: &str, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    // Neither a number nor a date ends like this: nothing else has to be tried.
    if text.ends_with(['s', 'm', 'h', 'd']) {
        return go_duration(text);
    }
    let at = if let Ok(number) = text.parse::<f64>() {
        let since = match number {
            n if n < EPOCH_SECONDS => return seconds(n),
            n if n < EPOCH_MILLIS => n,
            n if n < EPOCH_END => n / 1e3,
            _ => return None,
        };
        SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(since).ok()?)?
    } else {
        http_date(text).or_else(|| rfc3339(text))?
    };
    at.duration_since(now()).ok().and_then(plausible)
}
