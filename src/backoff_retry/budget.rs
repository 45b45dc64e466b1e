//! How many retries a whole process may make: [`Budget`].
//!
//! Retries help against a fault that hits one call, and harm when it hits all: then they are the load that keeps the
//! server down. A budget allows the first and ends the second.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
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

/// The seconds over which traffic is counted. Source: Finagle's `RetryBudget`.
const WINDOW: u64 = 10;
/// The second that has begun, and those before it.
const SLOTS: usize = WINDOW as usize + 1;
/// Shares are reckoned in whole numbers, so that ten tenths are one.
const WHOLE: u64 = 1_000_000_000;
/// More retries to a call than anybody makes.
const MOST: f64 = 1e6;

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
    /// What the calls of the last 10 s allow may be used at once. So with 0.1, if all calls fail, the first 10 s of an
    /// outage bring the server up to 1.2 times the calls, and from then on it is 1.1. Fractions are kept, however few calls
    /// there are: with 0.1 and no floor it is every tenth call. An older allowance than 10 s is gone.
    ///
    /// A share below 0, or that is no number, is 0. Source: Finagle and Google's SRE book allow 0.1 to 0.2.
    #[must_use]
    pub fn share_of_traffic(share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, MOST) } else { 0.0 };
        Self(Kind::Share(Share::new((share * WHOLE as f64).round() as u64, FLOOR)))
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
    #[inline]
    pub(super) fn call(&self, now: Instant) {
        if let Kind::Share(share) = &self.0 {
            share.call(now);
        }
    }

    /// Takes what a retry after such a failure costs; `None` if that is not there.
    pub(super) fn withdraw(&self, kind: ErrorKind, now: Instant) -> Option<Withdrawn> {
        match &self.0 {
            Kind::Unlimited => Some(Withdrawn::Nothing),
            Kind::Tokens(tokens) => tokens.take(if kind == ErrorKind::Timeout { TIMEOUT_COST } else { RETRY_COST }),
            Kind::Share(share) => share.take(now),
        }
    }

    /// What was taken for a retry that was not sent.
    pub(super) fn give_back(&self, withdrawn: Withdrawn) {
        match (&self.0, withdrawn) {
            (Kind::Tokens(tokens), Withdrawn::Tokens(amount)) => tokens.give(amount),
            (Kind::Share(share), Withdrawn::Share { slot, floor }) => share.give(slot, floor),
            _ => {}
        }
    }

    /// A call succeeded; `withdrawn` is what its last retry took.
    pub(super) fn succeeded(&self, withdrawn: Option<Withdrawn>) {
        if let Kind::Tokens(tokens) = &self.0 {
            tokens.give(match withdrawn {
                Some(Withdrawn::Tokens(amount)) => amount,
                _ => 1,
            });
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

/// What one retry took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Withdrawn {
    Nothing,
    Tokens(u64),
    /// From the allowance of this second, if there was one; and so much from the floor's.
    Share {
        slot: Option<u64>,
        floor: f64,
    },
}

/// What was taken for a retry that is not sent yet: given back if it never is.
pub(super) struct Unsent(Option<(Arc<Budget>, Withdrawn)>);

impl Unsent {
    pub(super) fn new(budget: &Arc<Budget>, withdrawn: Withdrawn) -> Self {
        Self(Some((Arc::clone(budget), withdrawn)))
    }

    /// It is sent now.
    pub(super) fn sent(mut self) -> Option<Withdrawn> {
        self.0.take().map(|(_, withdrawn)| withdrawn)
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some((budget, withdrawn)) = self.0.take() {
            budget.give_back(withdrawn);
        }
    }
}

#[derive(Debug)]
struct Tokens {
    capacity: u64,
    left: AtomicU64,
}

impl Tokens {
    fn take(&self, cost: u64) -> Option<Withdrawn> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost))
            .is_ok()
            .then_some(Withdrawn::Tokens(cost))
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
    /// In parts of a [`WHOLE`].
    share: u64,
    floor: f64,
    /// When the first call began: seconds are counted from here.
    since: OnceLock<Instant>,
    /// When the next second begins; `None` before the first call.
    next: Mutex<Option<Instant>>,
    /// The second that the books are at.
    second: AtomicU64,
    /// Calls in it that are not in the books yet.
    new_calls: AtomicU64,
    books: Mutex<Books>,
}

/// Both allowances are debited by every retry, and one of them is enough: so the rate is the greater of the two, not the
/// sum.
#[derive(Debug, Default)]
struct Books {
    /// Retries that the traffic of each of the last seconds allows, by the second modulo their number.
    slots: [u64; SLOTS],
    /// Their sum: mostly nothing, or nothing any more.
    allowed: u64,
    /// What of the traffic is less than a retry.
    part: u64,
    /// What the floor allowed, and when; it begins full.
    floor: Option<(f64, Instant)>,
}

impl Share {
    fn new(share: u64, floor: f64) -> Self {
        Self {
            share,
            floor,
            since: OnceLock::new(),
            next: Mutex::default(),
            second: AtomicU64::new(0),
            new_calls: AtomicU64::new(0),
            books: Mutex::default(),
        }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(*self.since.get_or_init(|| now)).as_secs()
    }

    /// Every call passes here: the books are opened once a second, and nobody waits for who does it. Two times are
    /// compared for a fraction of what their difference costs.
    #[inline]
    fn call(&self, now: Instant) {
        if let Ok(mut next) = self.next.try_lock()
            && next.is_none_or(|next| now >= next)
        {
            *next = self.turn(now);
        }
        self.new_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// When the next second begins.
    #[cold]
    #[inline(never)]
    fn turn(&self, now: Instant) -> Option<Instant> {
        let second = self.second(now);
        drop(self.open(second));
        self.since.get()?.checked_add(Duration::from_secs(second + 1))
    }

    /// The books, with the calls so far entered, and at this second however long ago the last one was.
    fn open(&self, second: u64) -> MutexGuard<'_, Books> {
        let mut guard = self.books();
        let books = &mut *guard;
        let last = self.second.load(Ordering::Relaxed);
        let earned = self.new_calls.swap(0, Ordering::Relaxed).saturating_mul(self.share).saturating_add(books.part);
        books.part = earned % WHOLE;
        books.add(last, earned / WHOLE);
        if second > last {
            (last + 1..=second).take(SLOTS).for_each(|begun| books.forget(begun));
            self.second.store(second, Ordering::Relaxed);
        }
        guard
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that the floor adds up to.
    fn most(&self) -> f64 {
        if self.floor > 0.0 { (self.floor * WINDOW as f64).max(BURST) } else { 0.0 }
    }

    fn take(&self, now: Instant) -> Option<Withdrawn> {
        let mut books = self.open(self.second(now));
        let second = self.second.load(Ordering::Relaxed);
        let most = self.most();
        let (floor, at) = books.floor.unwrap_or((most, now));
        let floor = (floor + self.floor * now.saturating_duration_since(at).as_secs_f64()).min(most);
        let slot = if books.allowed > 0 { books.oldest(second) } else { None };
        // A hair of tolerance: ten tenths are one retry.
        let is_allowed = slot.is_some() || floor >= 1.0 - 1e-9;
        let taken = if is_allowed { floor.min(1.0) } else { 0.0 };
        books.floor = Some((floor - taken, now.max(at)));
        if let Some(slot) = slot {
            books.spend(slot);
        }
        is_allowed.then_some(Withdrawn::Share { slot, floor: taken })
    }

    fn give(&self, slot: Option<u64>, floor: f64) {
        let mut books = self.books();
        // What would be too old by now is gone.
        if let Some(slot) = slot.filter(|slot| slot + WINDOW >= self.second.load(Ordering::Relaxed)) {
            books.add(slot, 1);
        }
        if let Some((left, _)) = &mut books.floor {
            *left = (*left + floor).min(self.most());
        }
    }
}

impl Books {
    fn slot(&mut self, second: u64) -> &mut u64 {
        &mut self.slots[(second % SLOTS as u64) as usize]
    }

    fn add(&mut self, second: u64, retries: u64) {
        let room = u64::MAX - self.allowed;
        *self.slot(second) += retries.min(room);
        self.allowed += retries.min(room);
    }

    fn spend(&mut self, second: u64) {
        *self.slot(second) -= 1;
        self.allowed -= 1;
    }

    /// This second begins: what is in its place is from a window ago.
    fn forget(&mut self, second: u64) {
        self.allowed -= std::mem::take(self.slot(second));
    }

    /// The oldest second that allows a retry still.
    fn oldest(&mut self, second: u64) -> Option<u64> {
        (second.saturating_sub(WINDOW)..=second).find(|slot| *self.slot(*slot) > 0)
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(budget.withdraw(ErrorKind::Timeout, now), Some(Withdrawn::Tokens(10)));
        let last = budget.withdraw(ErrorKind::Server, now);
        assert_eq!((last, budget.tokens_left()), (Some(Withdrawn::Tokens(5)), Some(485)));
        budget.succeeded(last);
        budget.succeeded(None);
        assert_eq!(budget.tokens_left(), Some(491));
        let small = Budget::retry_tokens(5);
        assert!(small.withdraw(ErrorKind::Server, now).is_some());
        assert!(small.withdraw(ErrorKind::Server, now).is_none());
    }

    /// So many retries are allowed at this moment.
    fn allowed(budget: &Budget, now: Instant) -> usize {
        (0..1000).filter(|_| budget.withdraw(ErrorKind::Server, now).is_some()).count()
    }

    #[test]
    fn fractions_add_up_however_few_calls_there_are() {
        let now = Instant::now();
        for (share, every) in [(0.1, 1), (0.1, 100), (0.05, 1), (0.01, 7), (0.3, 3600)] {
            let budget = Budget::share_of_traffic(share).floor(0.0);
            let sent: usize = (0..1000_u64)
                .map(|call| {
                    let now = now + Duration::from_secs(call * every);
                    budget.call(now);
                    usize::from(budget.withdraw(ErrorKind::Server, now).is_some())
                })
                .sum();
            assert_eq!(sent, (1000.0 * share) as usize, "{share} of a call every {every} s");
        }
    }

    #[test]
    fn old_traffic_is_no_credit_and_fresh_traffic_is() {
        let now = Instant::now();
        let budget = Budget::share_of_traffic(0.1).floor(0.0);
        let calls = |at: Duration| (0..1000).for_each(|_| budget.call(now + at));
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        // Nobody asked for a retry meanwhile.
        calls(Duration::ZERO);
        budget.call(now + hours(3));
        assert_eq!(allowed(&budget, now + hours(3)), 0);
        calls(hours(6));
        assert_eq!(allowed(&budget, now + hours(6) + Duration::from_secs(9)), 100);
        // A call that waited elsewhere for long counts when it comes.
        calls(hours(1));
        assert_eq!(allowed(&budget, now + hours(6) + Duration::from_secs(10)), 100);
    }

    /// As the docs say: what the last ten seconds allowed comes on top once.
    #[test]
    fn in_the_first_window_of_an_outage_it_is_a_fifth_and_then_a_tenth() {
        let start = Instant::now();
        let budget = Budget::share_of_traffic(0.1).floor(0.0);
        let at = |call: u64| start + Duration::from_millis(call * 10);
        (0..100_000).for_each(|call| budget.call(at(call)));
        let window = |first: u64| {
            (first..first + 1000).fold(0, |sent, call| {
                budget.call(at(call));
                sent + allowed(&budget, at(call))
            })
        };
        assert_eq!([window(100_000), window(101_000), window(102_000)], [200, 100, 100]);
    }

    #[test]
    fn what_is_given_back_is_there_again_but_no_longer_than_it_would_have_been() {
        let now = Instant::now();
        let budget = Budget::share_of_traffic(0.5).floor(0.0);
        (0..2).for_each(|_| budget.call(now));
        let taken = budget.withdraw(ErrorKind::Server, now).expect("half of two");
        assert_eq!(allowed(&budget, now), 0);
        budget.give_back(taken);
        let taken = budget.withdraw(ErrorKind::Server, now).expect("given back");
        budget.call(now + Duration::from_secs(11));
        budget.give_back(taken);
        assert_eq!(allowed(&budget, now + Duration::from_secs(11)), 0);

        let floor = Budget::share_of_traffic(0.0).floor(0.1);
        let taken = floor.withdraw(ErrorKind::Server, now).expect("one of ten");
        floor.give_back(taken);
        assert_eq!(allowed(&floor, now), 10);
    }
}
