//! How many retries a whole process may make: [`Budget`].
//!
//! Retries help against a fault that hits one call, and harm when it hits all: then they are the load that keeps the
//! server down. A budget allows the first and ends the second.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

use crate::ErrorKind;

/// A limit on the retries of all calls through one layer and its clones.
///
/// ```
/// use tower_outbound::backoff_retry::{BackoffRetryLayer, Budget};
///
/// // At most one retry to every ten calls, or one a second where there are few calls.
/// let retry = BackoffRetryLayer::new().budget(Budget::share_of_traffic(0.1).floor(1.0));
/// ```
#[derive(Debug)]
pub struct Budget(Kind);

#[derive(Debug)]
enum Kind {
    Unlimited,
    Tokens(Tokens),
    Share(Share),
}

/// A retry, and one after a timeout, in retry tokens. Source: aws-smithy-runtime, standard mode.
const RETRY_COST: u64 = 5;
const TIMEOUT_COST: u64 = 10;

/// The time over which traffic is counted. Source: Finagle's `RetryBudget`.
const WINDOW: f64 = 10.0;

/// Default for [`Budget::floor`]. Finagle's is 10 for each client; the simulator's outage, which many quiet clients
/// keep up at 1, ends at this.
const FLOOR: f64 = 0.1;
/// What a quiet client may retry at once: a handful of calls with all their attempts.
const BURST: f64 = 10.0;

impl Budget {
    /// No limit but that of each call.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(Kind::Unlimited)
    }

    /// A bucket of retry tokens: a retry takes 5, after a timeout 10; a success on the first try gives back 1, one
    /// after retries what the last of them took. With 500, 100 retries more than successes pay for.
    ///
    /// Source: the AWS SDKs' standard mode.
    #[must_use]
    pub fn retry_tokens(capacity: u32) -> Self {
        let capacity = u64::from(capacity);
        Self(Kind::Tokens(Tokens { capacity, left: AtomicU64::new(capacity) }))
    }

    /// At most `share` retries to a call, over the last 10 s; where there are few calls, one every 10 s, and ten at once
    /// after a quiet time.
    ///
    /// A share below 0, or that is no number, is 0. Source: Finagle and Google's SRE book allow 0.1 to 0.2.
    #[must_use]
    pub fn share_of_traffic(share: f64) -> Self {
        let share = if share.is_finite() { share.max(0.0) } else { 0.0 };
        Self(Kind::Share(Share::new(share, FLOOR)))
    }

    /// For [`share_of_traffic`](Self::share_of_traffic): so many retries a second are allowed however few calls there
    /// are. Default: 0.1. What was not used adds up to 10 s of it, and to 10 retries at the least; 0 is none at all.
    ///
    /// Every process has a budget of its own, so that the server gets this much from each. In the simulator 200 quiet
    /// clients keep a server down long after its outage at 1, and at Finagle's 10; at 0.1 it is up again in seconds.
    #[must_use]
    pub fn floor(mut self, per_second: f64) -> Self {
        if let Kind::Share(share) = &mut self.0 {
            share.floor = if per_second.is_finite() { per_second.max(0.0) } else { 0.0 };
        }
        self
    }

    /// The same limits, with nothing used.
    #[cfg(feature = "mock")]
    pub(super) fn afresh(&self) -> Self {
        match &self.0 {
            Kind::Unlimited => Self::unlimited(),
            Kind::Tokens(tokens) => {
                Self(Kind::Tokens(Tokens { capacity: tokens.capacity, left: AtomicU64::new(tokens.capacity) }))
            }
            Kind::Share(share) => Self(Kind::Share(Share::new(share.share, share.floor))),
        }
    }

    /// A call begins.
    pub(super) fn call(&self, now: Instant) {
        if let Kind::Share(share) = &self.0 {
            share.since.get_or_init(|| now);
            share.new_calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what a retry after such a failure costs; `None` if that is not there.
    pub(super) fn withdraw(&self, kind: ErrorKind, now: Instant) -> Option<u64> {
        match &self.0 {
            Kind::Unlimited => Some(0),
            Kind::Tokens(tokens) => tokens.take(if kind == ErrorKind::Timeout { TIMEOUT_COST } else { RETRY_COST }),
            Kind::Share(share) => share.take(now).then_some(0),
        }
    }

    /// A call succeeded; `withdrawn` is what its last retry took.
    pub(super) fn succeeded(&self, withdrawn: Option<u64>) {
        if let Kind::Tokens(tokens) = &self.0 {
            tokens.give(withdrawn.unwrap_or(1));
        }
    }

    /// Retry tokens left; `None` for a budget that is not counted in them.
    #[must_use]
    pub fn tokens_left(&self) -> Option<u64> {
        match &self.0 {
            Kind::Tokens(tokens) => Some(tokens.left.load(Ordering::Relaxed)),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Tokens {
    capacity: u64,
    left: AtomicU64,
}

impl Tokens {
    fn take(&self, cost: u64) -> Option<u64> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost))
            .is_ok()
            .then_some(cost)
    }

    fn give(&self, amount: u64) {
        // Full is the usual case, and then nothing is written.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left < self.capacity).then(|| left.saturating_add(amount).min(self.capacity))
        });
    }
}

#[derive(Debug)]
struct Share {
    share: f64,
    floor: f64,
    /// When the first call began.
    since: OnceLock<Instant>,
    /// Calls since the balance was last reckoned.
    new_calls: AtomicU64,
    balance: Mutex<Option<Balance>>,
}

/// Both are debited by every retry, and one of them is enough: so the rate is the greater of the two, not the sum.
#[derive(Clone, Copy, Debug)]
struct Balance {
    /// What the traffic of the window allows.
    traffic: f64,
    /// What the floor allows.
    floor: f64,
    at: Instant,
}

impl Share {
    fn new(share: f64, floor: f64) -> Self {
        Self { share, floor, since: OnceLock::new(), new_calls: AtomicU64::new(0), balance: Mutex::new(None) }
    }

    fn take(&self, now: Instant) -> bool {
        let mut slot = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = self.new_calls.swap(0, Ordering::Relaxed) as f64;
        let most = if self.floor > 0.0 { (self.floor * WINDOW).max(BURST) } else { 0.0 };
        let last = slot.unwrap_or_else(|| {
            let at = *self.since.get_or_init(|| now);
            Balance { traffic: 0.0, floor: most, at }
        });
        // Calls came evenly since; what they brought fades over the window, all in one step however long ago.
        let elapsed = now.saturating_duration_since(last.at).as_secs_f64();
        let fade = (-elapsed / WINDOW).exp();
        let kept = if elapsed > 0.0 { WINDOW / elapsed * (1.0 - fade) } else { 1.0 };
        let mut balance = Balance {
            traffic: last.traffic * fade + self.share * calls * kept,
            floor: (last.floor + self.floor * elapsed).min(most),
            at: now,
        };
        // A hair of tolerance: ten tenths are one retry.
        let is_allowed = balance.traffic.max(balance.floor) >= 1.0 - 1e-9;
        if is_allowed {
            balance.traffic = (balance.traffic - 1.0).max(0.0);
            balance.floor = (balance.floor - 1.0).max(0.0);
        }
        *slot = Some(balance);
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// So many calls a second for so many seconds, each failing until the budget says no; the load as a multiple.
    fn load(budget: &Budget, per_second: u32, seconds: u32, start: Instant) -> f64 {
        let mut sent = 0u32;
        for call in 0..per_second * seconds {
            let now = start + Duration::from_secs_f64(f64::from(call) / f64::from(per_second));
            budget.call(now);
            sent += 1;
            for _ in 0..4 {
                if budget.withdraw(ErrorKind::Server, now).is_some() {
                    sent += 1;
                }
            }
        }
        f64::from(sent) / f64::from(per_second * seconds)
    }

    #[test]
    fn all_failing_the_load_stays_at_one_and_a_tenth() {
        let now = Instant::now();
        let load = load(&Budget::share_of_traffic(0.1).floor(0.0), 1000, 60, now);
        assert!(load <= 1.1 + 1e-9 && load > 1.09, "{load}");
    }

    #[test]
    fn the_floor_lets_quiet_clients_retry_and_is_no_extra_for_busy_ones() {
        let now = Instant::now();
        let quiet = load(&Budget::share_of_traffic(0.1).floor(1.0), 1, 100, now);
        assert!((1.9..=2.2).contains(&quiet), "{quiet}");
        let busy = load(&Budget::share_of_traffic(0.1).floor(10.0), 1000, 60, now);
        assert!(busy <= 1.1 + 100.0 / 60_000.0 + 1e-9, "{busy}");
    }

    #[test]
    fn a_client_that_starts_may_retry_ten_times_at_once() {
        let now = Instant::now();
        let allowed =
            |budget: &Budget, now| (0..100).filter(|_| budget.withdraw(ErrorKind::Server, now).is_some()).count();
        let budget = Budget::share_of_traffic(0.1);
        assert_eq!(allowed(&budget, now), 10);
        // From then on, one every ten seconds.
        assert_eq!(allowed(&budget, now + Duration::from_secs(9)), 0);
        assert_eq!(allowed(&budget, now + Duration::from_secs(10)), 1);
        assert_eq!(allowed(&budget, now + Duration::from_secs(90 * 86_400)), 10);
        assert_eq!(allowed(&Budget::share_of_traffic(0.1).floor(0.0), now), 0);
    }

    #[test]
    fn fractions_are_exact() {
        let budget = Budget::share_of_traffic(0.6).floor(0.0);
        let now = Instant::now();
        let allowed = (0..10)
            .filter(|_| {
                budget.call(now);
                budget.withdraw(ErrorKind::Server, now).is_some()
            })
            .count();
        assert_eq!(allowed, 6);
    }

    #[test]
    fn months_later_it_answers_at_once_and_forgot_the_traffic() {
        let budget = Budget::share_of_traffic(0.5).floor(0.0);
        let now = Instant::now();
        (0..100).for_each(|_| budget.call(now));
        assert!(budget.withdraw(ErrorKind::Server, now).is_some());
        assert!(budget.withdraw(ErrorKind::Server, now + Duration::from_secs(90 * 86_400)).is_none());
    }

    #[test]
    fn months_of_success_are_no_credit_for_an_outage() {
        let budget = Budget::share_of_traffic(0.1).floor(0.0);
        let start = Instant::now();
        // 10 a second for a day, and not one failure: what counts are the last ten seconds.
        (0..864_000).for_each(|call| budget.call(start + Duration::from_millis(call * 100)));
        let now = start + Duration::from_secs(86_400);
        let allowed = (0..1000).filter(|_| budget.withdraw(ErrorKind::Server, now).is_some()).count();
        assert_eq!(allowed, 10);
    }

    #[test]
    fn retry_tokens_are_priced_by_kind_and_given_back() {
        let budget = Budget::retry_tokens(500);
        let now = Instant::now();
        assert_eq!(budget.withdraw(ErrorKind::Timeout, now), Some(10));
        let last = budget.withdraw(ErrorKind::Server, now);
        assert_eq!((last, budget.tokens_left()), (Some(5), Some(485)));
        budget.succeeded(last);
        budget.succeeded(None);
        assert_eq!(budget.tokens_left(), Some(491));
        let small = Budget::retry_tokens(5);
        assert!(small.withdraw(ErrorKind::Server, now).is_some());
        assert!(small.withdraw(ErrorKind::Server, now).is_none());
    }
}
