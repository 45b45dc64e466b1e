//! One quota, shared: the [`Core`] under its lock, and the guards that give back what a dropped call held.

#[cfg(not(all(test, outbound_loom)))]
use std::sync::{Mutex as CoreLock, MutexGuard as CoreGuard};
use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Context,
    time::Duration,
};

#[cfg(all(test, outbound_loom))]
use loom::sync::{Mutex as CoreLock, MutexGuard as CoreGuard};
use tokio::time::{Instant, timeout};

use super::{
    ScopeName, Settings, Snapshot, TokenCost, Used,
    book::{Account, Book, Today},
    core::{self, Arrival, Comer, Core, Outcome, Standing, Told, WaiterId, Wakes},
    cost::Cost,
    flights::FlightId,
    moment::Moment,
    permits::{Permit, Permits},
    rate::Rate,
    refusal::Refusal,
    store::{Ask, Asking, Batch, QuotaStore},
};
use crate::wall_clock::WallClock;

/// A store that has not answered for so long has failed.
const LEASE_TIME: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Scope {
    name: ScopeName,
    book: Arc<Book>,
    account: OnceLock<Arc<Account>>,
    inner: CoreLock<Inner>,
    permits: Mutex<Permits>,
    permit_time: Duration,
    store: Option<Arc<dyn QuotaStore>>,
}

#[derive(Debug)]
struct Inner {
    core: Core,
    rate: Rate,
    used: Used,
    /// Calls that the book knows of.
    booked: u64,
}

/// What became of a call that arrived.
pub(super) enum Entry {
    Go(Flight),
    Wait(Waiter),
    Refused(Refusal),
}

/// A call that comes: its place in the order, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    pub(super) class: u8,
    pub(super) seq: u64,
    pub(super) had_its_turn: bool,
    pub(super) demand: Demand,
}

/// What a request asks for: the tokens that are known, and the bytes of which the others are reckoned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) tokens: Tokens,
    /// 0 where nobody knows the length.
    pub(super) bytes: u32,
}

/// What is known of the tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tokens {
    /// Prompt and answer together.
    Together(u32),
    /// The prompt, and the most that the answer may be.
    #[cfg_attr(not(feature = "tiktoken"), expect(dead_code, reason = "only a tokenizer knows"))]
    Apart(u32, u32),
    /// The most that the answer may be.
    Output(u32),
}

impl Demand {
    pub(super) fn given(cost: TokenCost, length: Option<u64>) -> Self {
        Self { tokens: Tokens::Together(cost.0), bytes: Self::bytes(length) }
    }

    pub(super) fn bytes(length: Option<u64>) -> u32 {
        u32::try_from(length.unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

/// A call that was answered, and whose answer has not been read yet.
#[derive(Debug)]
pub(super) struct Pending {
    bytes: u32,
    /// What was reserved for it.
    cost: Cost,
    /// What is held of the day's money.
    money: f32,
    told: Told,
}

/// What an answer said that it used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    /// Nothing was to come that would have said more.
    pub(super) is_whole: bool,
}

impl Usage {
    fn is_said(&self) -> bool {
        self.input.is_some() || self.output.is_some()
    }

    /// Input and output, with the estimate for what was not said.
    fn with_estimate(&self, cost: Cost) -> (u64, u64) {
        let (input, output) = cost.split();
        let (input, output) = (input as u64, output as u64);
        if !self.is_said() {
            return (input, output);
        }
        if self.is_whole {
            return (self.input.unwrap_or(0), self.output.unwrap_or(0));
        }
        // A stream begins with how little there is so far.
        (self.input.unwrap_or(input), self.output.unwrap_or(0).max(output))
    }
}

#[cfg(not(all(test, outbound_loom)))]
#[inline]
fn now() -> Instant {
    Instant::now()
}

/// Under loom time stands still: every run must be the same.
#[cfg(all(test, outbound_loom))]
fn now() -> Instant {
    static NOW: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *NOW.get_or_init(Instant::now)
}

impl Scope {
    pub(super) fn new(name: ScopeName, settings: Settings, book: Arc<Book>) -> Arc<Self> {
        let (permit_time, store) = (settings.permit_time, settings.store.clone());
        let inner = Inner { core: Core::new(settings), rate: Rate::default(), used: Used::default(), booked: 0 };
        let account = OnceLock::new();
        Arc::new(Self {
            name,
            book,
            account,
            inner: CoreLock::new(inner),
            permits: Mutex::default(),
            permit_time,
            store,
        })
    }

    pub(super) fn name(&self) -> &ScopeName {
        &self.name
    }

    fn lock(&self) -> CoreGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` at this moment under the lock, and wakes whom it names after it.
    #[inline]
    fn with<T>(&self, act: impl FnOnce(&mut Core, Moment, &mut Wakes) -> T) -> T {
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
    fn ask_store(self: &Arc<Self>) {
        if let Some(store) = &self.store {
            self.ask(&**store);
        }
    }

    #[cold]
    fn ask(self: &Arc<Self>, store: &dyn QuotaStore) {
        let (asking, requests, tokens) = self.with(|core, now, _| {
            let asking = core.asking(now);
            let levels = asking.is_some().then(|| core.snapshot(now));
            (asking, levels.as_ref().and_then(|now| now.requests), levels.as_ref().and_then(|now| now.tokens))
        });
        let Some(Asking { least, wanted, lapsed }) = asking else { return };
        if lapsed != Batch::default() {
            store.give_back(&self.name.common(), lapsed);
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.with(|core, now, wakes| core.leased(now, None, wakes));
        };
        let leasing = store.lease(Ask { scope: self.name.common(), least, wanted, requests, tokens });
        let scope = Arc::downgrade(self);
        runtime.spawn(async move {
            let answer = timeout(LEASE_TIME, leasing).await.ok().and_then(Result::ok);
            if let Some(scope) = scope.upgrade() {
                scope.with(|core, now, wakes| core.leased(now, answer, wakes));
                // There may be more in line than this let go.
                scope.ask_store();
            }
        });
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

    #[inline]
    pub(super) fn arrive(self: Arc<Self>, call: &Arriving, deadline: Option<Instant>) -> Entry {
        let today = self.book.today();
        let gone = self.with_rate(|core, rate, now, _| {
            let cost = rate.cost(call.demand);
            let money = self.hold(core, cost, today)?;
            Ok((core.go(now, cost), cost, money))
        });
        let load = |money| Load { bytes: call.demand.bytes, money };
        match gone {
            Ok((Some(id), _, money)) => {
                self.book.changed();
                self.ask_store();
                Entry::Go(Flight { scope: self, load: load(money), id, stage: Stage::Sent })
            }
            Ok((None, cost, money)) => self.line_up(call, cost, load(money), deadline),
            Err(refusal) => Entry::Refused(refusal),
        }
    }

    #[cold]
    #[inline(never)]
    fn line_up(self: Arc<Self>, call: &Arriving, cost: Cost, mut load: Load, deadline: Option<Instant>) -> Entry {
        self.recall_permits();
        let arrival = self.with(|core, now, wakes| {
            let deadline = deadline.map(|deadline| core.clock.moment(deadline));
            let Arriving { class, seq, had_its_turn, .. } = *call;
            let arrival = core.arrive(now, &Comer { class, seq, had_its_turn, cost }, deadline, wakes);
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
            Arrival::Go(id) => Entry::Go(Flight { scope: self, load, id, stage: Stage::Sent }),
            Arrival::Wait(id) => Entry::Wait(Waiter { scope: self, load, id: Some(id), standing: None }),
            Arrival::Refused(refusal) => Entry::Refused(refusal),
        }
    }

    /// Holds what the call takes of the day's money.
    #[inline]
    fn hold(&self, core: &mut Core, cost: Cost, today: Option<Today>) -> Result<f32, Refusal> {
        let Some(today) = today else { return Ok(0.0) };
        self.book.hold(&self.name, cost, today).inspect_err(|_| core.refuse())
    }

    /// A call that goes now or not at all.
    pub(super) fn try_acquire(self: Arc<Self>, class: u8, demand: Demand) -> Result<Permit, Refusal> {
        self.recall_permits();
        let today = self.book.today();
        let (granted, money) = self.with_rate(|core, rate, now, wakes| {
            let cost = rate.cost(demand);
            let money = self.hold(core, cost, today)?;
            Ok((core.try_arrive(now, class, cost, wakes), money))
        })?;
        let mut load = Load { bytes: demand.bytes, money };
        let id = granted.inspect_err(|_| load.release(&self.book))?;
        self.book.changed();
        let flight = Flight { scope: Arc::clone(&self), load, id, stage: Stage::Granted };
        let permit: Permit = Arc::new(Mutex::new(Some(flight)));
        self.permits().push(Arc::downgrade(&permit), Instant::now() + self.permit_time);
        Ok(permit)
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back what was kept for too long; until when the next may be kept.
    fn recall_permits(&self) -> Option<Instant> {
        let mut kept = Vec::new();
        let ends = self.permits().take_due(Instant::now(), &mut kept);
        // Dropped out of all locks: each gives back what it holds.
        let _ended: Vec<_> =
            kept.iter().filter_map(|permit| permit.lock().unwrap_or_else(PoisonError::into_inner).take()).collect();
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
        let used = Used { input_tokens: input, output_tokens: output, ..self.book.priced(&self.name, input, output) };
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

/// What is forgotten was counted.
impl Drop for Scope {
    fn drop(&mut self) {
        self.book_calls();
        if let Some(store) = &self.store {
            let unused = self.with(|core, now, _| core.unused(now));
            if unused != Batch::default() {
                store.give_back(&self.name.common(), unused);
            }
        }
    }
}

impl Inner {
    fn unbooked(&mut self) -> u64 {
        let sent = self.core.calls_sent();
        sent - std::mem::replace(&mut self.booked, sent)
    }
}

/// What is to be known of a call beside its cost. Small, for every call's future carries one.
#[derive(Clone, Copy, Debug)]
struct Load {
    bytes: u32,
    /// What is held of the day's money.
    money: f32,
}

impl Load {
    fn release(&mut self, book: &Book) {
        book.release(std::mem::take(&mut self.money));
    }
}

/// A call in line; dropped, it gives back its place.
#[derive(Debug)]
pub(super) struct Waiter {
    scope: Arc<Scope>,
    load: Load,
    id: Option<WaiterId>,
    /// Where it stood, once its turn has come.
    standing: Option<Standing>,
}

/// A waiter's answer.
pub(super) enum Turn {
    Now(Flight),
    /// Look again then, if that is ever, and nothing wakes it before.
    Later(Option<Instant>),
}

impl Waiter {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<Turn, Refusal> {
        let Some(id) = self.id else { return Ok(Turn::Later(None)) };
        let recalls = self.scope.recall_permits();
        let (turn, look) = self.scope.with(|core, now, wakes| {
            let turn = core.poll(now, id, cx.waker(), wakes);
            let look = match &turn {
                Ok(core::Turn::Later(look)) => core.clock.instant(*look),
                _ => None,
            };
            (turn, look)
        });
        if !matches!(turn, Ok(core::Turn::Later(_))) {
            self.id = None;
            self.scope.book.changed();
        }
        self.scope.ask_store();
        Ok(match turn? {
            core::Turn::Now(id, standing) => {
                self.standing = Some(standing);
                let (scope, load) = (Arc::clone(&self.scope), self.load);
                Turn::Now(Flight { scope, load, id, stage: Stage::Granted })
            }
            core::Turn::Later(_) => Turn::Later(look.into_iter().chain(recalls).min()),
        })
    }

    /// Its turn had come, and has gone: it goes back to its place.
    pub(super) fn rejoin(&mut self, mut flight: Flight) {
        if let Some(standing) = self.standing.take() {
            flight.stage = Stage::Ended;
            self.id = Some(self.scope.with(|core, now, wakes| core.rejoin(now, flight.id, standing, wakes)));
            self.scope.book.changed();
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.scope.with(|core, now, wakes| core.leave(now, id, wakes));
            self.scope.book.changed();
        }
    }
}

/// A call that was let go; dropped unsent, it gives back its quota, dropped in flight, its slot.
///
/// Small, for every call's future carries one.
#[derive(Debug)]
pub(super) struct Flight {
    scope: Arc<Scope>,
    load: Load,
    id: FlightId,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Granted,
    Sent,
    Ended,
}

impl Flight {
    /// It is handed to the network now; `false` if it may not leave any more.
    pub(super) fn send(&mut self) -> bool {
        let may_leave = self.scope.with(|core, now, _| core.sent(now, self.id));
        if may_leave {
            self.stage = Stage::Sent;
            self.scope.book.changed();
        }
        may_leave
    }

    pub(super) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    pub(super) fn reads_usage(&self) -> bool {
        self.scope.book.reads_usage()
    }

    pub(super) fn clock(&self) -> &WallClock {
        self.scope.book.clock()
    }

    pub(super) fn counts_tokens(&self) -> bool {
        self.scope.book.counts_tokens()
    }

    /// Its turn has come: holds what it takes of the day's money, which may be spent by now.
    pub(super) fn hold(&mut self) -> Result<(), Refusal> {
        if let Some(today) = self.scope.book.today() {
            let cost = self.scope.with(|core, _, _| core.cost_of(self.id));
            let held = self.scope.book.hold(&self.scope.name, cost, today);
            self.load.money = held.inspect_err(|_| self.scope.with(|core, _, _| core.refuse()))?;
        }
        Ok(())
    }

    /// It was let go, and does not leave: its caller has given up.
    pub(super) fn refuse(self) {
        self.scope.with(|core, _, _| core.refuse());
    }

    /// What is to be settled once its answer has been read, before it [settles](Self::settle) itself.
    pub(super) fn pending(&mut self, told: Told) -> Pending {
        let Load { bytes, money } = self.load;
        self.load.money = 0.0;
        Pending { bytes, cost: self.scope.with(|core, _, _| core.cost_of(self.id)), money, told }
    }

    /// It has ended. For a 429 that means "wait": when it may be sent again.
    pub(super) fn settle(&mut self, outcome: Outcome<'_>) -> Option<Instant> {
        self.stage = Stage::Ended;
        self.load.release(&self.scope.book);
        let opens = self.scope.with(|core, now, wakes| {
            let opens = core.settle(now, self.id, outcome, wakes)?;
            core.clock.instant(opens)
        });
        if self.scope.book.counts_at_once() {
            self.scope.book_calls();
        }
        self.scope.book.changed();
        opens
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.load.release(&self.scope.book);
        match self.stage {
            Stage::Ended => {}
            Stage::Sent => drop(self.settle(Outcome::Other)),
            Stage::Granted => {
                self.scope.with(|core, now, wakes| core.cancel(now, self.id, wakes));
                self.scope.book.changed();
            }
        }
    }
}
