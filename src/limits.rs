//! What one answer says of a quota: how much there is, how much is left, when it is full again.

use std::time::Duration;

use http::HeaderMap;

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

impl Limit {
    fn is_known(&self) -> bool {
        self.limit.is_some() || self.remaining.is_some()
    }
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
        Self {
            requests: read(
                headers,
                "x-ratelimit-remaining-requests",
                "x-ratelimit-limit-requests",
                "x-ratelimit-reset-requests",
            ),
            tokens: read(
                headers,
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-limit-tokens",
                "x-ratelimit-reset-tokens",
            ),
        }
    }
}

/// `remaining` is asked for first: where it is missing, so are the others, and the look costs one lookup.
fn read(headers: &HeaderMap, remaining: &str, limit: &str, reset: &str) -> Option<Limit> {
    let remaining = headers.get(remaining)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let found = Limit {
        limit: text(limit).and_then(amount).filter(|limit| *limit > 0.0),
        remaining: remaining.to_str().ok().and_then(amount),
        reset: text(reset)
            .and_then(|reset| hint::when(reset, || hint::server_now(headers, || WallClock::default().now()))),
    };
    found.is_known().then_some(found)
}

/// A count. Negative ones mean "unknown" (Azure sends -1); `30,000` has been seen.
fn amount(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = text.parse::<u64>().ok().or_else(|| text.replace(',', "").parse().ok())?;
    Some(number as f64)
}
