//! Limits in headers, as one API or another spells them.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{DATE, RETRY_AFTER},
};

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

/// The time of the first call, since 1970.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_780_000_000);

/// How a [`MockApi`](super::MockApi) spells its limits in headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spelling {
    /// `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, resets as Go durations. Groq spells likewise.
    #[default]
    OpenAi,
    /// `anthropic-ratelimit-{requests,tokens,input-tokens}-{limit,remaining,reset}`, resets in RFC 3339. All tokens
    /// count as input.
    Anthropic,
    /// `x-ratelimit-{limit,remaining,reset}` of the requests, the reset in seconds since 1970.
    GitHub,
    /// The IETF draft's `RateLimit` and `RateLimit-Policy`.
    Ietf,
}

impl Spelling {
    /// Points in time mean little without the server's clock.
    pub(crate) fn needs_date(self) -> bool {
        matches!(self, Self::Anthropic | Self::GitHub)
    }
}

/// What the buckets say of themselves, so long after the first call.
pub(crate) fn limits(
    spelling: Spelling,
    requests: Option<&Bucket>,
    tokens: Option<&Bucket>,
    at: Duration,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(12);
    // Whole seconds, and never before it is true.
    let when = |bucket: &Bucket| ceil_seconds(EPOCH.saturating_add(at).saturating_add(bucket.reset()));
    match spelling {
        Spelling::OpenAi => {
            for (names, bucket) in [(REQUESTS, requests), (TOKENS, tokens)] {
                let (Some(bucket), [limit, remaining, reset]) = (bucket, names) else { continue };
                headers.insert(limit, bucket.limit().amount().into());
                headers.insert(remaining, bucket.remaining().into());
                insert(&mut headers, reset, &go_duration(bucket.reset()));
            }
        }
        Spelling::Anthropic => {
            for (name, bucket) in [("requests", requests), ("tokens", tokens), ("input-tokens", tokens)] {
                let Some(bucket) = bucket else { continue };
                let date = i64::try_from(when(bucket)).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
                let date = date.map(|date| date.to_string()).unwrap_or_default();
                let limit = bucket.limit().amount().to_string();
                let remaining = bucket.remaining().to_string();
                for (what, value) in [("limit", limit), ("remaining", remaining), ("reset", date)] {
                    let name = format!("anthropic-ratelimit-{name}-{what}");
                    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
                    insert(&mut headers, name, &value);
                }
            }
        }
        Spelling::GitHub => {
            if let Some(bucket) = requests {
                let name = HeaderName::from_static;
                headers.insert(name("x-ratelimit-limit"), bucket.limit().amount().into());
                headers.insert(name("x-ratelimit-remaining"), bucket.remaining().into());
                headers.insert(name("x-ratelimit-reset"), when(bucket).into());
            }
        }
        Spelling::Ietf => {
            let (mut policies, mut levels) = (Vec::new(), Vec::new());
            for (name, unit, bucket) in [("requests", "", requests), ("tokens", r#";qu="tokens""#, tokens)] {
                let Some(bucket) = bucket else { continue };
                let (limit, window) = (bucket.limit().amount(), bucket.limit().period().as_secs());
                policies.push(format!(r#""{name}";q={limit};w={window}{unit}"#));
                levels.push(format!(r#""{name}";r={};t={}"#, bucket.remaining(), ceil_seconds(bucket.reset())));
            }
            insert(&mut headers, HeaderName::from_static("ratelimit-policy"), &policies.join(","));
            insert(&mut headers, HeaderName::from_static("ratelimit"), &levels.join(","));
        }
    }
    headers
}

/// The server's clock, so long after the first call.
pub(crate) fn date(headers: &mut HeaderMap, at: Duration) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH.saturating_add(at).as_secs());
    insert(headers, DATE, &httpdate::fmt_http_date(now));
}

fn ceil_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// When to come back: whole seconds, rounded up, and, if asked for, `retry-after-ms` beside it.
pub(crate) fn come_back(headers: &mut HeaderMap, wait: Duration, ms: bool) {
    headers.insert(RETRY_AFTER, ceil_seconds(wait).into());
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
