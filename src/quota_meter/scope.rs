//! One quota, shared: the [`Core`] under its lock, and the guards that give back what a dropped call held.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
};

use tokio::time::Instant;

use super::{
    ScopeName, Settings, Snapshot, TokenCost, Used,
    book::Book,
    core::{self, Arrival, Comer, Core, Outcome, Standing, WaiterId, Wakes},
    cost::Cost,
    flights::FlightId,
    moment::Moment,
    rate::Rate,
    refusal::Refusal,
};

#[derive(Debug)]
pub(super) struct Scope {
    name: ScopeName,
    book: Arc<Book>,
    inner: Mutex<Inner>,
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

/// What a request asks for: tokens named, and bytes of which the tokens are reckoned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) tokens: u32,
    pub(super) bytes: u32,
}

impl Demand {
    pub(super) fn given(cost: TokenCost) -> Self {
        Self { tokens: cost.0, bytes: 0 }
    }
}

/// A call that was answered, and whose answer has not been read yet.
#[derive(Debug)]
pub(super) struct Pending {
    demand: Demand,
    /// What was reserved for it.
    tokens: f64,
    /// The answer's head told how many tokens are left.
    was_told: bool,
}

impl Scope {
    pub(super) fn new(name: ScopeName, settings: Settings, book: Arc<Book>) -> Arc<Self> {
        let inner = Inner { core: Core::new(settings), rate: Rate::default(), used: Used::default(), booked: 0 };
        Arc::new(Self { name, book, inner: Mutex::new(inner) })
    }

    pub(super) fn name(&self) -> &ScopeName {
        &self.name
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` at this moment under the lock, and wakes whom it names after it.
    #[inline]
    fn with<T>(&self, act: impl FnOnce(&mut Core, Moment, &mut Wakes) -> T) -> T {
        self.with_rate(|core, _, now, wakes| act(core, now, wakes))
    }

    #[inline]
    fn with_rate<T>(&self, act: impl FnOnce(&mut Core, Rate, Moment, &mut Wakes) -> T) -> T {
        let now = Instant::now();
        let mut wakes = Wakes::default();
        let mut inner = self.lock();
        let now = inner.core.clock.moment(now);
        let rate = inner.rate;
        let result = act(&mut inner.core, rate, now, &mut wakes);
        drop(inner);
        wakes.wake();
        result
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (mut snapshot, used) = {
            let now = Instant::now();
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
        let (gone, cost) = self.with_rate(|core, rate, now, _| {
            let cost = rate.cost(call.demand);
            (core.go(now, cost), cost)
        });
        let load = Load::new(call.demand, cost);
        match gone {
            Some(id) => {
                self.book.changed();
                Entry::Go(Flight { scope: self, load, id, stage: Stage::Sent })
            }
            None => self.line_up(call, cost, deadline),
        }
    }

    #[cold]
    #[inline(never)]
    fn line_up(self: Arc<Self>, call: &Arriving, cost: Cost, deadline: Option<Instant>) -> Entry {
        let arrival = self.with(|core, now, wakes| {
            let deadline = deadline.map(|deadline| core.clock.moment(deadline));
            let Arriving { class, seq, had_its_turn, .. } = *call;
            let arrival = core.arrive(now, &Comer { class, seq, had_its_turn, cost }, deadline, wakes);
            if let Arrival::Go(id) = arrival {
                core.sent(now, id);
            }
            arrival
        });
        self.book.changed();
        let load = Load::new(call.demand, cost);
        match arrival {
            Arrival::Go(id) => Entry::Go(Flight { scope: self, load, id, stage: Stage::Sent }),
            Arrival::Wait(id) => Entry::Wait(Waiter { scope: self, load, id: Some(id), standing: None }),
            Arrival::Refused(refusal) => Entry::Refused(refusal),
        }
    }

    /// A call that goes now or not at all.
    pub(super) fn try_acquire(self: Arc<Self>, class: u8, demand: Demand) -> Result<Flight, Refusal> {
        let (granted, cost) = self.with_rate(|core, rate, now, wakes| {
            let cost = rate.cost(demand);
            (core.try_arrive(now, class, cost, wakes), cost)
        });
        self.book.changed();
        let id = granted?;
        Ok(Flight { scope: self, load: Load::new(demand, cost), id, stage: Stage::Granted })
    }

    /// How long a call that came now would wait.
    pub(super) fn expected_wait(&self, class: u8, demand: Demand) -> Option<std::time::Duration> {
        self.with_rate(|core, rate, now, _| core.expected_wait_of(now, class, rate.cost(demand)))
    }

    /// Refused before it came here.
    pub(super) fn refuse(&self) {
        self.with(|core, _, _| core.refuse());
    }

    /// The answer to a call has been read, or dropped: what it used, as far as it said.
    pub(super) fn settle_usage(&self, pending: Pending, (input, output): (Option<u64>, Option<u64>)) {
        let Pending { demand, tokens, was_told } = pending;
        let said = input.is_some() || output.is_some();
        let (requests, used) = {
            let now = Instant::now();
            let mut wakes = Wakes::default();
            let mut inner = self.lock();
            let now = inner.core.clock.moment(now);
            let (input, output) = if said {
                if let Some(input) = input {
                    inner.rate.learn(demand.bytes, input);
                }
                let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
                // A server that says what is left has counted this call in its own way.
                if !was_told {
                    inner.core.correct(now, tokens, (input, output), &mut wakes);
                }
                (input, output)
            } else {
                let input = inner.rate.tokens(demand.bytes).min(tokens);
                (input as u64, (tokens - input) as u64)
            };
            let used =
                Used { input_tokens: input, output_tokens: output, ..self.book.priced(&self.name, input, output) };
            inner.used += used;
            let requests = inner.unbooked();
            drop(inner);
            wakes.wake();
            (requests, used)
        };
        self.book.record(&self.name, Used { requests, ..used });
        self.book.changed();
    }

    /// Brings the calls into the book that it does not know of.
    pub(super) fn book_calls(&self) {
        let requests = self.lock().unbooked();
        if requests > 0 {
            self.book.record(&self.name, Used { requests, ..Used::default() });
        }
    }
}

/// What is forgotten was counted.
impl Drop for Scope {
    fn drop(&mut self) {
        self.book_calls();
    }
}

impl Inner {
    fn unbooked(&mut self) -> u64 {
        let sent = self.core.calls_sent();
        sent - std::mem::replace(&mut self.booked, sent)
    }
}

/// What a call was reckoned at. Small, for every call's future carries one.
#[derive(Clone, Copy, Debug)]
struct Load {
    bytes: u32,
    tokens: f32,
}

impl Load {
    fn new(demand: Demand, cost: Cost) -> Self {
        Self { bytes: demand.bytes, tokens: cost.tokens as f32 }
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
        }
        Ok(match turn? {
            core::Turn::Now(id, standing) => {
                self.standing = Some(standing);
                let (scope, load) = (Arc::clone(&self.scope), self.load);
                Turn::Now(Flight { scope, load, id, stage: Stage::Granted })
            }
            core::Turn::Later(_) => Turn::Later(look),
        })
    }

    /// Its turn had come, and has gone: it goes back to its place.
    pub(super) fn rejoin(&mut self, mut flight: Flight) {
        if let Some(standing) = self.standing.take() {
            flight.stage = Stage::Ended;
            self.id = Some(self.scope.with(|core, now, wakes| core.rejoin(now, flight.id, standing, wakes)));
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
        }
        may_leave
    }

    pub(super) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    pub(super) fn reads_usage(&self) -> bool {
        self.scope.book.reads_usage()
    }

    /// Why it must not leave though its turn has come: the money is spent.
    pub(super) fn over_budget(&self) -> Option<Refusal> {
        self.scope.book.over_budget()
    }

    /// What is to be settled once its answer has been read.
    pub(super) fn pending(&self, was_told: bool) -> Pending {
        let Load { bytes, tokens } = self.load;
        Pending { demand: Demand { tokens: 0, bytes }, tokens: f64::from(tokens), was_told }
    }

    /// It has ended. For a 429 that means "wait": when it may be sent again.
    pub(super) fn settle(&mut self, outcome: Outcome<'_>) -> Option<Instant> {
        self.stage = Stage::Ended;
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
