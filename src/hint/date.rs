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

/// What JavaScript prints: `Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)`.
fn javascript(text: &str) -> Option<SystemTime> {
    let date = text.split('(').next().unwrap_or_default().trim_end();
    // Without the day of the week, which follows from the rest.
    let (_, date) = date.split_once(' ')?;
    let at = jiff::fmt::strtime::parse("%b %d %Y %H:%M:%S GMT%z", date).ok()?.to_timestamp().ok()?;
    let since = Duration::try_from(at.as_duration()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// How long until then: a number of seconds, an epoch in seconds or milliseconds (told apart by size),
/// a Go duration, RFC 3339, an HTTP date or one of JavaScript's.
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
        http_date(text).or_else(|| rfc3339(text)).or_else(|| javascript(text))?
    };
    at.duration_since(now()).ok().and_then(plausible)
}
