//! Limits in OpenAI's headers.

use std::{fmt::Write, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER};

use super::bucket::Bucket;

/// The names of one dimension's three headers.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// What the buckets say of themselves at this moment.
pub(crate) fn limits(requests: Option<&Bucket>, tokens: Option<&Bucket>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    for (names, bucket) in [(REQUESTS, requests), (TOKENS, tokens)] {
        let (Some(bucket), [limit, remaining, reset]) = (bucket, names) else { continue };
        headers.insert(limit, bucket.limit().amount().into());
        headers.insert(remaining, bucket.remaining().into());
        insert(&mut headers, reset, &go_duration(bucket.reset()));
    }
    headers
}

/// When to come back: whole seconds, rounded up, and, if asked for, `retry-after-ms` beside it.
pub(crate) fn come_back(headers: &mut HeaderMap, wait: Duration, ms: bool) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    headers.insert(RETRY_AFTER, seconds.into());
    if ms {
        let ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        headers.insert(HeaderName::from_static("retry-after-ms"), ms.into());
    }
}

pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A time as Go writes it, and OpenAI with it: `120ms`, `7.66s`, `6m0s`, `1h0m0s`. What is below a millisecond is cut off.
pub(crate) fn go_duration(time: Duration) -> String {
    let (seconds, ms) = (time.as_secs(), time.subsec_millis());
    if seconds == 0 {
        return if ms == 0 { "0s".into() } else { format!("{ms}ms") };
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(16);
    // Writing to a String does not fail.
    let _ = match (hours, minutes) {
        (0, 0) => write!(text, "{rest}"),
        (0, minutes) => write!(text, "{minutes}m{rest}"),
        (hours, minutes) => write!(text, "{hours}h{minutes}m{rest}"),
    };
    if ms > 0 {
        let _ = write!(text, ".{}", format!("{ms:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_as_go_spells_them() {
        for (ms, text) in [
            (0, "0s"),
            (6, "6ms"),
            (120, "120ms"),
            (1_000, "1s"),
            (7_660, "7.66s"),
            (8_640, "8.64s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (86_400, "1m26.4s"),
            (360_000, "6m0s"),
            (578_016, "9m38.016s"),
            (3_600_000, "1h0m0s"),
            (86_400_000, "24h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(go_duration(Duration::from_micros(999)), "0s");
    }
}
