//! One quota, shared: the [`Core`] under its lock.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    ScopeName, Settings, Snapshot, Used,
    book::{Account, Book, Today},
    core::{Arrival, Comer, Core, Wakes},
    cost::Cost,
    demand::{Arriving, Demand},
    flights::FlightId,
    guards::{Entry, Flight, Load, Stage, Waiter},
    lock::{Mutex, MutexGuard, lock, now},
    moment::Moment,
    permits::{Permit, Permits},
    rate::Rate,
    refusal::Refusal,
    store::{Ask, Asking, Batch, QuotaStore},
    usage::{Pending, Usage},
};

/// A store that has not answered for so long has failed.
const LEASE_TIME: Duration = Duration::from_secs(5);

/// The lock comes first, and with what every call writes under it fills two cache lines. The count of those who hold the
/// scope has one of its own: who takes or leaves it takes no line from who has the lock.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Scope {
    inner: Mutex<Inner>,
    name: ScopeName,
    book: Arc<Book>,
    account: OnceLock<Arc<Account>>,
    permits: Mutex<Permits>,
    permit_time: Duration,
    store: Option<Arc<dyn QuotaStore>>,
    /// Whether the last call found that it needs no clock. What is so, the core says.
    is_untimed: AtomicBool,
    /// Whether it matters how many tokens a call takes. What is so, the last answer has shown.
    counts_tokens: AtomicBool,
}

#[derive(Debug)]
#[repr(C)]
struct Inner {
    rate: Rate,
    core: Core,
    used: Used,
    /// Calls that the book knows of.
    booked: u64,
}

impl Scope {
    pub(super) fn new(name: ScopeName, settings: Settings, book: Arc<Book>) -> Arc<Self> {
        let (permit_time, store) = (settings.permit_time, settings.store.clone());
        let inner = Inner { rate: Rate::default(), core: Core::new(settings), used: Used::default(), booked: 0 };
        let account = OnceLock::new();
        Arc::new(Self {
            name,
            book,
            account,
            inner: Mutex::new(inner),
            permits: Mutex::new(Permits::default()),
            permit_time,
            store,
            is_untimed: AtomicBool::new(false),
            counts_tokens: AtomicBool::new(true),
        })
    }

    pub(super) fn name(&self) -> &ScopeName {
        &self.name
    }

    pub(super) fn book(&self) -> &Arc<Book> {
        &self.book
    }

    #[inline]
    pub(super) fn counts_tokens(&self) -> bool {
        self.counts_tokens.load(Ordering::Relaxed)
    }

    /// As far as the limits go it does, or does not.
    #[inline]
    pub(super) fn see_tokens(&self, are_limited: bool) {
        let counts = are_limited || self.book.counts_tokens() || self.store.is_some();
        if counts != self.counts_tokens() {
            self.counts_tokens.store(counts, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Runs `act` at this moment under the lock, and wakes whom it names after it.
    #[inline]
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Core, Moment, &mut Wakes) -> T) -> T {
        self.with_rate(|core, _, now, wakes| act(core, now, wakes))
    }

    #[inline]
    fn with_rate<T>(&self, act: impl FnOnce(&mut Core, Rate, Moment, &mut Wakes) -> T) -> T {
        let now = now();
        let mut wakes = Wakes::default();
        let mut inner = self.lock();
        let now = inner.core.clock.moment(now);
        let rate = inner.rate;
        let result = act(&mut inner.core, rate, now, &mut wakes);
        drop(inner);
        wakes.wake();
        result
    }

    /// Asks the store for more, if it is time for that.
    #[inline]
    pub(super) fn ask_store(self: &Arc<Self>) {
        if let Some(store) = &self.store {
            self.ask(&**store, None);
        }
    }

    /// Asks for what the line needs, or this one call that would not wait.
    #[cold]
    fn ask(self: &Arc<Self>, store: &dyn QuotaStore, beside: Option<Demand>) {
        let (asking, told) = self.with_rate(|core, rate, now, _| {
            let asking = core.asking(now, beside.map(|demand| rate.cost(demand)));
            let told = asking.is_some().then(|| (core.snapshot(now), core.heard_ago(now)));
            (asking, told)
        });
        let (Some(Asking { least, wanted, unused }), Some((levels, heard))) = (asking, told) else { return };
        let question = Question(Arc::downgrade(self));
        self.hand_back(store, unused);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Snapshot { requests, tokens, more, .. } = levels;
        let leasing = store.lease(Ask { scope: self.name.clone(), least, wanted, requests, tokens, more, heard });
        let scope = Arc::downgrade(self);
        runtime.spawn(async move {
            let answer = timeout(LEASE_TIME, leasing).await.ok().and_then(Result::ok);
            let Some(asker) = question.answered() else { return };
            let mut looks = asker.with(|core, now, wakes| core.leased(now, answer, wakes));
            // There may be more in line than this let go.
            asker.ask_store();
            drop(asker);
            while let Some(at) = looks {
                sleep_until(at).await;
                let Some(scope) = scope.upgrade() else { return };
                let unused;
                (unused, looks) = scope.with(|core, now, _| core.lapsed(now));
                if let Some(store) = &scope.store {
                    scope.hand_back(&**store, unused);
                }
            }
        });
    }

    fn hand_back(&self, store: &dyn QuotaStore, unused: Batch) {
        if unused != Batch::default() {
            store.give_back(&self.name, unused);
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.recall_permits();
        let (mut snapshot, used) = {
            let now = now();
            let mut inner = self.lock();
            let now = inner.core.clock.moment(now);
            (inner.core.snapshot(now), inner.used)
        };
        snapshot.scope = self.name.clone();
        snapshot.used = Used { requests: snapshot.counts.sent, ..used };
        snapshot
    }

    /// What most calls take: one that nothing holds up goes. `None` if there is anything to look at closely.
    #[inline(always)]
    pub(super) fn go(self: &Arc<Self>, demand: &Demand) -> Option<(FlightId, Stage)> {
        if self.book.has_budget() {
            return None;
        }
        let flown = if self.is_untimed.load(Ordering::Relaxed) { self.go_untimed(demand) } else { None };
        let flown = flown.or_else(|| self.go_timed(demand))?;
        self.book.changed();
        self.ask_store();
        Some(flown)
    }

    #[inline(always)]
    fn go_untimed(&self, demand: &Demand) -> Option<(FlightId, Stage)> {
        let mut inner = self.lock();
        let cost = inner.rate.cost(*demand);
        let id = inner.core.go_untimed(cost);
        drop(inner);
        if id.is_none() {
            self.is_untimed.store(false, Ordering::Relaxed);
        }
        Some((id?, Stage::Untimed))
    }

    #[inline(never)]
    fn go_timed(&self, demand: &Demand) -> Option<(FlightId, Stage)> {
        let now = now();
        let mut inner = self.lock();
        let now = inner.core.clock.moment(now);
        let cost = inner.rate.cost(*demand);
        let id = inner.core.go(now, cost);
        let is_untimed = inner.core.is_untimed();
        drop(inner);
        if is_untimed {
            self.is_untimed.store(true, Ordering::Relaxed);
        }
        Some((id?, Stage::Sent))
    }

    /// The answer to a call that left untimed says nothing of limits. `false` if the clock is needed all the same.
    #[inline]
    pub(super) fn succeed_untimed(&self, id: FlightId) -> bool {
        self.lock().core.succeed_untimed(id)
    }

    /// A call that goes, waits no longer than `limit`, or is refused.
    pub(super) fn arrive(self: Arc<Self>, call: &Arriving, limit: Option<Duration>) -> Entry {
        let held = match self.book.today() {
            Some(today) => self.with_rate(|core, rate, _, _| self.hold(core, rate.cost(call.demand), today)),
            None => Ok(0.0),
        };
        match held {
            Ok(money) => self.line_up(call, Load { bytes: call.demand.bytes, money }, limit),
            Err(refusal) => Entry::Refused(refusal),
        }
    }

    fn line_up(self: Arc<Self>, call: &Arriving, mut load: Load, limit: Option<Duration>) -> Entry {
        self.recall_permits();
        let arrival = self.with_rate(|core, rate, now, wakes| {
            let Arriving { class, seq, had_its_turn, demand } = *call;
            let comer = Comer { class, seq, had_its_turn, cost: rate.cost(demand), sure: demand.tokens.sure() };
            let arrival = core.arrive(now, &comer, limit, wakes);
            if let Arrival::Go(id) = arrival {
                core.sent(now, id);
            }
            arrival
        });
        if !matches!(arrival, Arrival::Go(_)) {
            load.release(&self.book);
        }
        self.ask_store();
        self.book.changed();
        match arrival {
            Arrival::Go(id) => Entry::Go(Flight::new(self, load, id, Stage::Sent)),
            Arrival::Wait(id) => Entry::Wait(Waiter::new(self, load, id)),
            Arrival::Refused(refusal) => Entry::Refused(refusal),
        }
    }

    /// Holds what the call takes of the day's money.
    fn hold(&self, core: &mut Core, cost: Cost, today: Today) -> Result<f32, Refusal> {
        self.book.hold(&self.name, cost, today).inspect_err(|_| core.refuse())
    }

    /// A call that goes now or not at all.
    pub(super) fn try_acquire(self: Arc<Self>, class: u8, demand: Demand) -> Result<Permit, Refusal> {
        self.recall_permits();
        let today = self.book.today();
        let (granted, money) = self.with_rate(|core, rate, now, wakes| {
            let cost = rate.cost(demand);
            let money = today.map_or(Ok(0.0), |today| self.hold(core, cost, today))?;
            Ok((core.try_arrive(now, class, cost, demand.tokens.sure(), wakes), money))
        })?;
        let mut load = Load { bytes: demand.bytes, money };
        let id = granted.inspect_err(|_| {
            load.release(&self.book);
            if let Some(store) = &self.store {
                self.ask(&**store, Some(demand));
            }
        })?;
        self.book.changed();
        let flight = Flight::new(Arc::clone(&self), load, id, Stage::Granted);
        let permit: Permit = Arc::new(Mutex::new(Some(flight)));
        self.permits().push(Arc::downgrade(&permit), now() + self.permit_time);
        Ok(permit)
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        lock(&self.permits)
    }

    /// Takes back what was kept for too long; until when the next may be kept.
    pub(super) fn recall_permits(&self) -> Option<Instant> {
        let mut kept = Vec::new();
        let ends = self.permits().take_due(now(), &mut kept);
        // Dropped out of all locks: each gives back what it holds.
        let _ended: Vec<_> = kept.iter().filter_map(|permit| lock(permit).take()).collect();
        ends
    }

    /// How long a call that came now would wait.
    pub(super) fn expected_wait(&self, class: u8, demand: Demand) -> Option<Duration> {
        self.with_rate(|core, rate, now, _| core.expected_wait_of(now, class, rate.cost(demand)))
    }

    /// The answer to a call has been read, or dropped: what it used, as far as it said.
    pub(super) fn settle_usage(&self, pending: Pending, usage: &Usage) {
        let Pending { bytes, cost, money, told } = pending;
        let (input, output) = usage.with_estimate(cost);
        let used = Used {
            input_tokens: input,
            output_tokens: output,
            ..self.book.priced(&self.name, input, output, usage.cache)
        };
        let requests = {
            let now = now();
            let mut wakes = Wakes::default();
            let mut inner = self.lock();
            let now = inner.core.clock.moment(now);
            if usage.is_said() {
                if let Some(input) = usage.input {
                    inner.rate.learn(bytes, input);
                }
                let taken = Cost::of_tokens(input as f64, output as f64);
                inner.core.correct(now, taken, cost, told, &mut wakes);
            }
            inner.used += used;
            let requests = inner.unbooked();
            drop(inner);
            wakes.wake();
            requests
        };
        self.book.record(self.account(), Used { requests, ..used });
        self.book.release(money);
        self.book.changed();
    }

    /// Brings the calls into the book that it does not know of.
    pub(super) fn book_calls(&self) {
        let requests = self.lock().unbooked();
        if requests > 0 {
            self.book.record(self.account(), Used { requests, ..Used::default() });
        }
    }

    /// Opened once there is something to put down: many a scope is but looked for.
    fn account(&self) -> &Account {
        self.account.get_or_init(|| self.book.account(&self.name))
    }
}

/// A question on its way to the store. Dropped before the answer, because the store panicked or the runtime that it was asked in
/// is gone, it has failed: else nobody would ever ask again.
struct Question(Weak<Scope>);

impl Question {
    /// Whose it was, if that is still there.
    fn answered(mut self) -> Option<Arc<Scope>> {
        std::mem::take(&mut self.0).upgrade()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(scope) = self.0.upgrade() {
            scope.with(|core, now, wakes| core.leased(now, None, wakes));
        }
    }
}

/// What is forgotten was counted.
impl Drop for Scope {
    fn drop(&mut self) {
        self.book_calls();
        if let Some(store) = &self.store {
            self.hand_back(&**store, self.with(|core, _, _| core.unused()));
        }
    }
}

impl Inner {
    fn unbooked(&mut self) -> u64 {
        let sent = self.core.calls_sent();
        sent - std::mem::replace(&mut self.booked, sent)
    }
}
