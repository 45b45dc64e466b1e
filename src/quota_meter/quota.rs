//! [`Quota`]: limits that the caller names himself.

use std::{num::NonZeroU64, time::Duration};

use crate::limits::Unit;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The least share that can be asked for: less would hardly send at all.
const LEAST_SHARE: f64 = 0.001;

/// Limits that one knows beforehand, for [`QuotaMeterLayer::quota`](super::QuotaMeterLayer::quota): for servers that send
/// none, or to take less than they allow.
///
/// There may be several at once, of requests and of tokens: a call leaves when each has room for it. Each is a bucket that is
/// full at first and refills evenly, so that a limit a day lets a day's worth go at once where no shorter one is given.
/// Of one kind and one time the last that is said holds. What the server says holds as well.
///
/// ```
/// use tower_outbound::{nz, quota_meter::{Quota, QuotaMeterLayer}};
///
/// // Four fifths of 500 requests and 90,000 tokens a minute, and never more than 50 requests at once.
/// let quota = Quota::per_minute(nz!(500)).tokens_per_minute(nz!(90_000)).burst(nz!(50)).share(0.8);
/// let meter = QuotaMeterLayer::new().quota(quota);
/// # let _ = meter;
///
/// // A free tier: 15 requests and 250,000 tokens a minute, and 1,000 requests a day.
/// let quota = Quota::per_minute(nz!(15)).tokens_per_minute(nz!(250_000)).requests_per_day(nz!(1_000));
/// # let _ = quota;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    requests: Rates,
    tokens: Rates,
    burst: Option<NonZeroU64>,
    share: f64,
}

/// So much in each time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    second: Option<NonZeroU64>,
    minute: Option<NonZeroU64>,
    hour: Option<NonZeroU64>,
    day: Option<NonZeroU64>,
}

impl Rates {
    const NONE: Self = Self { second: None, minute: None, hour: None, day: None };

    /// The shortest time first, each with the name that tells it apart.
    fn each(self) -> impl Iterator<Item = (&'static str, NonZeroU64, Duration)> {
        let named = [
            ("given-per-second", self.second, SECOND),
            ("given-per-minute", self.minute, MINUTE),
            ("given-per-hour", self.hour, HOUR),
            ("given-per-day", self.day, DAY),
        ];
        named.into_iter().filter_map(|(name, amount, period)| Some((name, amount?, period)))
    }
}

/// A bucket as a quota asks for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) capacity: f64,
    /// Seconds in which it fills.
    pub(super) period: f64,
}

impl Quota {
    const NONE: Self = Self { requests: Rates::NONE, tokens: Rates::NONE, burst: None, share: 1.0 };

    /// Nothing of one's own: a share, at most, of what the server says.
    #[must_use]
    pub const fn learned() -> Self {
        Self::NONE
    }

    /// So many requests a second.
    #[must_use]
    pub const fn per_second(requests: NonZeroU64) -> Self {
        Self::NONE.requests_per_second(requests)
    }

    /// So many requests a minute.
    #[must_use]
    pub const fn per_minute(requests: NonZeroU64) -> Self {
        Self::NONE.requests_per_minute(requests)
    }

    /// So many requests an hour.
    #[must_use]
    pub const fn per_hour(requests: NonZeroU64) -> Self {
        Self::NONE.requests_per_hour(requests)
    }

    /// So many requests a day.
    #[must_use]
    pub const fn per_day(requests: NonZeroU64) -> Self {
        Self::NONE.requests_per_day(requests)
    }

    /// And so many requests a second.
    #[must_use]
    pub const fn requests_per_second(mut self, requests: NonZeroU64) -> Self {
        self.requests.second = Some(requests);
        self
    }

    /// And so many requests a minute.
    #[must_use]
    pub const fn requests_per_minute(mut self, requests: NonZeroU64) -> Self {
        self.requests.minute = Some(requests);
        self
    }

    /// And so many requests an hour.
    #[must_use]
    pub const fn requests_per_hour(mut self, requests: NonZeroU64) -> Self {
        self.requests.hour = Some(requests);
        self
    }

    /// And so many requests a day.
    #[must_use]
    pub const fn requests_per_day(mut self, requests: NonZeroU64) -> Self {
        self.requests.day = Some(requests);
        self
    }

    /// And so many tokens a second.
    #[must_use]
    pub const fn tokens_per_second(mut self, tokens: NonZeroU64) -> Self {
        self.tokens.second = Some(tokens);
        self
    }

    /// And so many tokens a minute.
    #[must_use]
    pub const fn tokens_per_minute(mut self, tokens: NonZeroU64) -> Self {
        self.tokens.minute = Some(tokens);
        self
    }

    /// And so many tokens an hour.
    #[must_use]
    pub const fn tokens_per_hour(mut self, tokens: NonZeroU64) -> Self {
        self.tokens.hour = Some(tokens);
        self
    }

    /// And so many tokens a day.
    #[must_use]
    pub const fn tokens_per_day(mut self, tokens: NonZeroU64) -> Self {
        self.tokens.day = Some(tokens);
        self
    }

    /// How many requests may leave at once after a pause. Default: a whole period's, of the shortest that is given.
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

    pub(super) fn limits_requests(&self) -> bool {
        self.requests != Rates::NONE
    }

    /// All that is given: requests, then tokens, the shortest time of each first.
    pub(super) fn given(&self) -> impl Iterator<Item = Given> {
        self.of(Unit::Requests, self.requests).chain(self.of(Unit::Tokens, self.tokens))
    }

    fn of(&self, unit: Unit, rates: Rates) -> impl Iterator<Item = Given> {
        let Self { share, burst, .. } = *self;
        let is_only = rates.each().count() == 1;
        rates.each().enumerate().map(move |(place, (name, amount, period))| {
            let whole = amount.get() as f64 * share;
            let burst = burst.filter(|_| place == 0 && unit == Unit::Requests);
            // One call fits always, or none would leave at all.
            let capacity = burst.map_or(whole, |burst| whole.min(burst.get() as f64)).max(1.0);
            let name = if is_only { "given" } else { name };
            Given { name, unit, capacity, period: period.as_secs_f64() * capacity / whole }
        })
    }
}
