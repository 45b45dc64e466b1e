//! A share of the traffic, and a floor.

use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Withdrawn;

/// The seconds over which traffic is counted. Source: Finagle's `RetryBudget`.
const WINDOW: u64 = 10;
/// The second that has begun, and those before it.
const SLOTS: usize = WINDOW as usize + 1;
/// Shares are reckoned in whole numbers, so that ten tenths are one.
const WHOLE: u64 = 1_000_000_000;
/// More retries to a call than anybody makes.
const MOST: f64 = 1e6;

/// Default for [`Budget::floor`](super::Budget::floor). Finagle's is 10 for each client; the simulator's outage, which many quiet clients
/// keep up at 1, ends at this.
const FLOOR: f64 = 0.1;
/// What a quiet client may retry at once: a handful of calls with all their attempts.
const BURST: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Share {
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
/// sum. What the floor alone allowed, the traffic that comes pays back before it allows more.
#[derive(Debug, Default)]
struct Books {
    /// Retries that the traffic of each of the last seconds allows, by the second modulo their number.
    slots: [u64; SLOTS],
    /// Their sum: mostly nothing, or nothing any more.
    allowed: u64,
    /// What of the traffic is less than a retry.
    part: u32,
    /// Retries that only the floor allowed, as long as no traffic has paid for them: no more than it adds up to.
    owed: u32,
    /// What the floor allowed, and when; it begins full.
    floor: Option<(f64, Instant)>,
}

impl Share {
    /// So many retries to a call, with the default floor.
    pub(super) fn of(share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(0.0, MOST) } else { 0.0 };
        Self::new((share * WHOLE as f64).round() as u64, FLOOR)
    }

    pub(super) fn set_floor(&mut self, per_second: f64) {
        self.floor = if per_second.is_finite() { per_second.max(0.0) } else { 0.0 };
    }

    /// With nothing used.
    #[cfg(feature = "mock")]
    pub(super) fn afresh(&self) -> Self {
        Self::new(self.share, self.floor)
    }

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
    pub(super) fn call(&self, now: Instant) {
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
        let earned =
            self.new_calls.swap(0, Ordering::Relaxed).saturating_mul(self.share).saturating_add(books.part.into());
        books.part = (earned % WHOLE) as u32;
        books.earn(last, earned / WHOLE);
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

    pub(super) fn take(&self, now: Instant) -> Option<Withdrawn> {
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
        match slot {
            Some(slot) => books.spend(slot),
            None if is_allowed => books.owed = (books.owed + 1).min(most as u32),
            None => {}
        }
        is_allowed.then_some(Withdrawn::Share { slot, floor: taken })
    }

    pub(super) fn give(&self, slot: Option<u64>, floor: f64) {
        let mut books = self.books();
        let second = self.second.load(Ordering::Relaxed);
        match slot {
            // What would be too old by now is gone.
            Some(slot) if slot + WINDOW < second => {}
            Some(slot) => books.add(slot, 1),
            None => books.earn(second, 1),
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

    /// What the traffic of this second allows, beyond what it has to pay back.
    fn earn(&mut self, second: u64, retries: u64) {
        let back = u64::from(self.owed).min(retries);
        self.owed -= back as u32;
        self.add(second, retries - back);
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
    use super::{super::Budget, *};
    use crate::ErrorKind;

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

    /// The first ten are ahead of it, and no more than that.
    #[test]
    fn all_failing_the_default_is_at_one_and_a_tenth_from_the_hundredth_call_on() {
        for (per_second, seconds) in [(10, 10), (100, 1), (100, 60), (1000, 60)] {
            let load = load(&Budget::share_of_traffic(0.1), per_second, seconds, Instant::now());
            assert!((load - 1.1).abs() < 1e-9, "{per_second} a second for {seconds} s: {load}");
        }
        assert_eq!(load(&Budget::share_of_traffic(0.1), 10, 1, Instant::now()), 2.0);
    }

    #[test]
    fn the_floor_lets_quiet_clients_retry_and_is_no_extra_for_busy_ones() {
        let now = Instant::now();
        let quiet = load(&Budget::share_of_traffic(0.1).floor(1.0), 1, 100, now);
        assert!((1.9..=2.2).contains(&quiet), "{quiet}");
        let busy = load(&Budget::share_of_traffic(0.1).floor(10.0), 1000, 60, now);
        assert!(busy <= 1.1 + 1e-9, "{busy}");
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
