//! [`Quota`]: limits that the caller names himself.

use std::{num::NonZeroU64, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The least share that can be asked for: less would hardly send at all.
const LEAST_SHARE: f64 = 0.001;

/// Limits that one knows beforehand, for [`QuotaMeterLayer::quota`](super::QuotaMeterLayer::quota): for servers that send
/// none, or to take less than they allow.
///
/// Each is a bucket that is full at first and refills evenly. What the server says holds as well: a call leaves when both
/// have room for it.
///
/// ```
/// use tower_outbound::{nz, quota_meter::{Quota, QuotaMeterLayer}};
///
/// // Four fifths of 500 requests and 90,000 tokens a minute, and never more than 50 requests at once.
/// let quota = Quota::per_minute(nz!(500)).tokens_per_minute(nz!(90_000)).burst(nz!(50)).share(0.8);
/// let meter = QuotaMeterLayer::new().quota(quota);
/// # let _ = meter;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    requests: Option<Rate>,
    tokens: Option<Rate>,
    burst: Option<NonZeroU64>,
    share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    amount: NonZeroU64,
    period: Duration,
}

/// A bucket as a quota asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) capacity: f64,
    /// Seconds in which it fills.
    pub(super) period: f64,
}

impl Quota {
    const NONE: Self = Self { requests: None, tokens: None, burst: None, share: 1.0 };

    const fn requests(amount: NonZeroU64, period: Duration) -> Self {
        Self { requests: Some(Rate { amount, period }), ..Self::NONE }
    }

    /// Nothing of one's own: a share, at most, of what the server says.
    #[must_use]
    pub const fn learned() -> Self {
        Self::NONE
    }

    /// So many requests a second.
    #[must_use]
    pub const fn per_second(requests: NonZeroU64) -> Self {
        Self::requests(requests, SECOND)
    }

    /// So many requests a minute.
    #[must_use]
    pub const fn per_minute(requests: NonZeroU64) -> Self {
        Self::requests(requests, MINUTE)
    }

    /// So many requests an hour.
    #[must_use]
    pub const fn per_hour(requests: NonZeroU64) -> Self {
        Self::requests(requests, HOUR)
    }

    /// So many requests a day.
    #[must_use]
    pub const fn per_day(requests: NonZeroU64) -> Self {
        Self::requests(requests, DAY)
    }

    /// And so many tokens a minute.
    #[must_use]
    pub const fn tokens_per_minute(mut self, tokens: NonZeroU64) -> Self {
        self.tokens = Some(Rate { amount: tokens, period: MINUTE });
        self
    }

    /// And so many tokens a day.
    #[must_use]
    pub const fn tokens_per_day(mut self, tokens: NonZeroU64) -> Self {
        self.tokens = Some(Rate { amount: tokens, period: DAY });
        self
    }

    /// How many requests may leave at once after a pause. Default: a whole period's.
    #[must_use]
    pub const fn burst(mut self, requests: NonZeroU64) -> Self {
        self.burst = Some(requests);
        self
    }

    /// Takes only this share of the limits, those given here and those that the server names: the rest is for others.
    ///
    /// It is held between 0.001 and 1; what is not a number is 1. Default: 1.
    #[must_use]
    pub const fn share(mut self, share: f64) -> Self {
        self.share = if share.is_nan() { 1.0 } else { share.clamp(LEAST_SHARE, 1.0) };
        self
    }

    /// Below 1, what is learned has a ceiling as well.
    pub(super) fn ceiling(&self) -> Option<f64> {
        (self.share < 1.0).then_some(self.share)
    }

    pub(super) fn given_requests(&self) -> Option<Given> {
        let mut given = self.given(self.requests?);
        if let Some(burst) = self.burst {
            let whole = given.capacity;
            // One call fits always, or none would leave at all.
            given.capacity = whole.min(burst.get() as f64).max(1.0);
            given.period *= given.capacity / whole;
        }
        Some(given)
    }

    pub(super) fn given_tokens(&self) -> Option<Given> {
        self.tokens.map(|rate| self.given(rate))
    }

    fn given(&self, rate: Rate) -> Given {
        let amount = rate.amount.get() as f64 * self.share;
        let (capacity, period) = (amount.max(1.0), rate.period.as_secs_f64());
        Given { capacity, period: period * capacity / amount }
    }
}
