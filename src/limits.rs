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
        // One walk: look-ups by name cost three times as much.
        for (name, value) in headers {
            let name = name.as_str();
            let limit = match name.len() {
                24..=30 if name.ends_with("-requests") => &mut limits.requests,
                22..=28 if name.ends_with("-tokens") => &mut limits.tokens,
                _ => continue,
            };
            match name {
                "x-ratelimit-limit-requests" | "x-ratelimit-limit-tokens" => {
                    limit.get_or_insert_default().limit = amount(value).filter(|limit| *limit > 0.0);
                }
                "x-ratelimit-remaining-requests" | "x-ratelimit-remaining-tokens" => {
                    limit.get_or_insert_default().remaining = amount(value);
                }
                "x-ratelimit-reset-requests" | "x-ratelimit-reset-tokens" => {
                    limit.get_or_insert_default().reset = reset(value, headers);
                }
                _ => {}
            }
        }
        limits
    }
}

/// A count, perhaps with commas: `30,000` has been seen. What is no count (Azure sends -1) is unknown.
fn amount(value: &HeaderValue) -> Option<f64> {
    let mut number = None;
    for byte in value.as_bytes().trim_ascii() {
        number = match byte {
            b'0'..=b'9' => Some(number.unwrap_or(0u64).checked_mul(10)?.checked_add(u64::from(byte - b'0'))?),
            b',' if number.is_some() => number,
            _ => return None,
        };
    }
    number.map(|number| number as f64)
}

/// A Go duration (`6m0s`, `7.66s`, `120ms`), seconds, or a point in time.
fn reset(value: &HeaderValue, headers: &HeaderMap) -> Option<Duration> {
    let text = str::from_utf8(value.as_bytes()).ok()?.trim();
    if text.ends_with('s') {
        return hint::go_duration(text);
    }
    hint::when(text, || hint::server_now(headers, || WallClock::default().now()))
}
