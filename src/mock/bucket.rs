//! Limits, and the exact buckets that keep them.

use std::time::Duration;

use tokio::time::Instant;

/// An allowance: so much in each period, as a bucket that holds one period's worth, starts full and refills evenly.
///
/// An amount of 0 admits nothing, ever: some providers answer so for a model that a plan does not include.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    amount: u64,
    period_ns: u64,
    in_windows: bool,
}

impl Limit {
    /// So much in each `period`; a period of zero counts as one nanosecond.
    #[must_use]
    pub fn per(amount: u64, period: Duration) -> Self {
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { amount, period_ns, in_windows: false }
    }

    /// So much a second.
    #[must_use]
    pub fn per_second(amount: u64) -> Self {
        Self::per(amount, Duration::from_secs(1))
    }

    /// So much a minute.
    #[must_use]
    pub fn per_minute(amount: u64) -> Self {
        Self::per(amount, Duration::from_secs(60))
    }

    /// So much a day.
    #[must_use]
    pub fn per_day(amount: u64) -> Self {
        Self::per(amount, Duration::from_secs(86_400))
    }

    /// The same in fixed windows: nothing comes back until the period is over, then all of it. Windows follow one
    /// another from the first call on.
    #[must_use]
    pub fn in_windows(mut self) -> Self {
        self.in_windows = true;
        self
    }

    /// How much each period allows.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// The period.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period_ns)
    }

    /// How long this much takes to refill; `None` where nothing ever does, or it would take centuries.
    #[must_use]
    pub fn time_for(&self, amount: u64) -> Option<Duration> {
        nanos((u128::from(amount) * u128::from(self.period_ns)).checked_div(u128::from(self.amount))?)
    }

    /// "min", "day" and so on, as in "requests per min (RPM)".
    pub(crate) fn unit(&self) -> &'static str {
        match self.period_ns / 1_000_000_000 {
            0..=1 => "sec",
            2..=3_599 => "min",
            3_600..=86_399 => "hour",
            _ => "day",
        }
    }
}

/// The limits of a [`MockApi`](super::MockApi): requests, tokens, and one that no header tells of.
///
/// ```
/// use tower_outbound::mock::{Limit, Limits};
///
/// let limits = Limits::none()
///     .requests(Limit::per_minute(500))
///     .tokens(Limit::per_minute(30_000))
///     .hidden(Limit::per_second(20));
/// assert_eq!(limits.get_requests().map(|limit| limit.amount()), Some(500));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    requests: Option<Limit>,
    tokens: Option<Limit>,
    hidden: Option<Limit>,
}

impl Limits {
    /// No limits.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// So many requests, and so many tokens, a minute: the usual pair.
    #[must_use]
    pub fn per_minute(requests: u64, tokens: u64) -> Self {
        Self::none().requests(Limit::per_minute(requests)).tokens(Limit::per_minute(tokens))
    }

    /// The limit on requests.
    #[must_use]
    pub fn requests(mut self, limit: Limit) -> Self {
        self.requests = Some(limit);
        self
    }

    /// The limit on tokens.
    #[must_use]
    pub fn tokens(mut self, limit: Limit) -> Self {
        self.tokens = Some(limit);
        self
    }

    /// A limit on requests that is enforced but never told: 60,000 a minute may be 1,000 a second.
    #[must_use]
    pub fn hidden(mut self, limit: Limit) -> Self {
        self.hidden = Some(limit);
        self
    }

    /// The limit on requests, if any.
    #[must_use]
    pub fn get_requests(&self) -> Option<Limit> {
        self.requests
    }

    /// The limit on tokens, if any.
    #[must_use]
    pub fn get_tokens(&self) -> Option<Limit> {
        self.tokens
    }

    /// The untold limit on requests, if any.
    #[must_use]
    pub fn get_hidden(&self) -> Option<Limit> {
        self.hidden
    }
}

/// A bucket without rounding: its level is counted in parts of `1 / period_ns`, of which each nanosecond adds `amount`.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    limit: Limit,
    level: u128,
    /// When the level was last brought up to date; `None` while still full and unused.
    at: Option<Instant>,
    /// Of a window: how long it lasts yet.
    left: Duration,
}

impl Bucket {
    pub(crate) fn full(limit: Limit) -> Self {
        Self { limit, level: Self::parts(limit, limit.amount), at: None, left: limit.period() }
    }

    fn parts(limit: Limit, amount: u64) -> u128 {
        u128::from(amount) * u128::from(limit.period_ns)
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    /// The same level under another limit, as far as that one holds it.
    pub(crate) fn change(&mut self, limit: Limit) {
        if limit == self.limit {
            return;
        }
        let whole = self.level / u128::from(self.limit.period_ns);
        let rest = self.level % u128::from(self.limit.period_ns);
        let rest = rest.saturating_mul(u128::from(limit.period_ns)) / u128::from(self.limit.period_ns);
        let level = whole.saturating_mul(u128::from(limit.period_ns)).saturating_add(rest);
        self.limit = limit;
        self.level = level.min(Self::parts(limit, limit.amount));
    }

    pub(crate) fn refill(&mut self, now: Instant) {
        if self.limit.in_windows {
            return self.turn(now);
        }
        if let Some(at) = self.at {
            let passed = u64::try_from(now.saturating_duration_since(at).as_nanos()).unwrap_or(u64::MAX);
            let added = u128::from(passed) * u128::from(self.limit.amount);
            self.level = self.level.saturating_add(added).min(Self::parts(self.limit, self.limit.amount));
        }
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// Begins a new window where the last is over.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(*self.at.get_or_insert(now));
        let into = passed.as_nanos() % u128::from(self.limit.period_ns);
        let into = Duration::from_nanos(u64::try_from(into).unwrap_or(u64::MAX));
        if passed > into {
            self.at = Some(now.checked_sub(into).unwrap_or(now));
            self.level = Self::parts(self.limit, self.limit.amount);
        }
        self.left = self.limit.period().saturating_sub(into);
    }

    pub(crate) fn fits(&self, cost: u64) -> bool {
        self.level >= Self::parts(self.limit, cost)
    }

    /// Takes so much, and never more than is there.
    pub(crate) fn take(&mut self, cost: u64) {
        self.level = self.level.saturating_sub(Self::parts(self.limit, cost));
    }

    /// What a header says is left: whole units.
    pub(crate) fn remaining(&self) -> u64 {
        u64::try_from(self.level / u128::from(self.limit.period_ns)).unwrap_or(u64::MAX)
    }

    /// How long until so much fits, to the nanosecond; `None` where it never will.
    pub(crate) fn time_until(&self, cost: u64) -> Option<Duration> {
        if cost > self.limit.amount {
            return None;
        }
        let missing = Self::parts(self.limit, cost).saturating_sub(self.level);
        if missing == 0 {
            return Some(Duration::ZERO);
        }
        if self.limit.in_windows {
            return Some(self.left);
        }
        nanos(missing.div_ceil(u128::from(self.limit.amount).max(1)))
    }

    /// What a header says of the time until it is full: (limit - remaining) / refill.
    pub(crate) fn reset(&self) -> Duration {
        if self.limit.in_windows {
            return self.left;
        }
        self.limit.time_for(self.limit.amount.saturating_sub(self.remaining())).unwrap_or(Duration::ZERO)
    }
}

fn nanos(nanos: u128) -> Option<Duration> {
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn refills_to_the_nanosecond() {
        let mut bucket = Bucket::full(Limit::per_minute(7));
        let start = Instant::now();
        bucket.refill(start);
        bucket.take(7);
        let wait = bucket.time_until(1).expect("it refills");
        assert_eq!(wait, Duration::from_nanos(8_571_428_572), "60/7 s, rounded up");
        bucket.refill(start + wait - Duration::from_nanos(1));
        assert!(!bucket.fits(1));
        bucket.refill(start + wait);
        assert!(bucket.fits(1));
        bucket.refill(start + 60 * SECOND);
        assert_eq!(bucket.remaining(), 7, "nothing is lost by asking often");
        assert_eq!(bucket.reset(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_runs_backwards_adds_nothing() {
        let mut bucket = Bucket::full(Limit::per_second(1));
        let now = Instant::now() + 10 * SECOND;
        bucket.refill(now);
        bucket.take(1);
        bucket.refill(now - 5 * SECOND);
        bucket.refill(now);
        assert!(!bucket.fits(1));
    }

    #[tokio::test(start_paused = true)]
    async fn extremes_do_no_harm() {
        for (amount, period) in [(0, SECOND), (u64::MAX, Duration::MAX), (u64::MAX, Duration::ZERO), (1, Duration::MAX)]
        {
            let mut bucket = Bucket::full(Limit::per(amount, period));
            bucket.refill(Instant::now());
            bucket.take(u64::MAX);
            bucket.refill(Instant::now() + Duration::from_secs(1 << 40));
            bucket.change(Limit::per(3, SECOND));
            let _ = (bucket.time_until(1), bucket.time_until(u64::MAX), bucket.reset(), bucket.remaining());
            assert!(bucket.remaining() <= 3);
        }
        assert_eq!(Bucket::full(Limit::per_minute(0)).time_until(1), None);
        assert_eq!(Bucket::full(Limit::per_minute(5)).time_until(6), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_limit_keeps_what_is_there() {
        let mut bucket = Bucket::full(Limit::per_minute(60));
        bucket.take(50);
        bucket.change(Limit::per_second(100));
        assert_eq!(bucket.remaining(), 10);
        bucket.change(Limit::per_second(4));
        assert_eq!(bucket.remaining(), 4);
    }
}
