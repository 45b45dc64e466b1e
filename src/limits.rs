//! What one answer says of a quota: how much there is, how much is left, when it is full again.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::{hint, wall_clock::WallClock};

/// One limit as one answer reports it. What the server did not say, or said senselessly, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// The whole of it: requests or tokens in a period.
    pub limit: Option<f64>,
    /// What was left when the server looked.
    pub remaining: Option<f64>,
    /// Until the whole is there again, had no more been asked for.
    pub reset: Option<Duration>,
}

/// All that one answer says of its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Requests in a period.
    pub requests: Option<Limit>,
    /// Tokens in a period.
    pub tokens: Option<Limit>,
}

impl Limits {
    /// Reads OpenAI's spelling, `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, which most compatible
    /// servers share.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut limits = Self::default();
        // One walk: six look-ups by name cost three times as much.
        for (name, value) in headers {
            let Some(what) = name.as_str().strip_prefix("x-ratelimit-") else { continue };
            let (limit, what) = match what.rsplit_once('-') {
                Some((what, "requests")) => (&mut limits.requests, what),
                Some((what, "tokens")) => (&mut limits.tokens, what),
                _ => continue,
            };
            let limit = limit.get_or_insert_default();
            match what {
                "limit" => limit.limit = amount(value).filter(|limit| *limit > 0.0),
                "remaining" => limit.remaining = amount(value),
                "reset" => limit.reset = reset(value, headers),
                _ => {}
            }
        }
        limits
    }
}

/// A count. Negative ones mean "unknown" (Azure sends -1); `30,000` has been seen.
fn amount(value: &HeaderValue) -> Option<f64> {
    let text = value.to_str().ok()?;
    let number = text.parse::<u64>().ok().or_else(|| text.trim().replace(',', "").parse().ok())?;
    Some(number as f64)
}

/// A Go duration (`6m0s`, `7.66s`, `120ms`), seconds, or a point in time.
fn reset(value: &HeaderValue, headers: &HeaderMap) -> Option<Duration> {
    let text = value.to_str().ok()?;
    hint::go_duration(text)
        .or_else(|| hint::when(text.trim(), || hint::server_now(headers, || WallClock::default().now())))
}
