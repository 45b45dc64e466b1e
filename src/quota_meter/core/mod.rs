//! The meter without clock, tasks or sockets: time and events in, grants and wakers out.
//!
//! Here is what happens to a call, and what is kept of it; [`line`] says whose turn it is, [`outlook`] when
//! that will be, [`levels`] what is left of each limit, and [`gate`] who is kept out all the same.

mod gate;
mod levels;
mod line;
mod outlook;

use std::{task::Waker, time::Duration};

use rand::{SeedableRng, rngs::SmallRng};
use slab::Slab;

use self::{
    gate::{FIRST_WINDOW, Gate, LONGEST_PATIENCE, PATIENCE, Spent},
    levels::{More, Origin},
    line::Waiter,
};
pub(super) use self::{
    levels::Told,
    line::{Arrival, Comer, Standing, Turn, WaiterId},
};
use super::{
    Settings,
    bucket::Bucket,
    cost::Cost,
    flights::{Flight, FlightId, Flights},
    grants::Grants,
    moment::{Clock, Moment},
    pace::Pace,
    priority::Turns,
    queue::{Place, Queue},
    quota::Given,
    store::Leases,
};
use crate::{
    ApiError,
    limits::{Limits, Unit},
};

/// From a server that named no limit in so many good answers in a row, none is expected.
const UNNAMED: u32 = 64;

/// What came of a call that was sent.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// An answer, with what it says of the limits.
    Success(&'a Limits),
    /// A 429 that means "wait", for that long where the server said.
    Limited(&'a Limits, Option<Duration>),
    /// The quota is used up: waiting does not help.
    Spent(ApiError),
    /// Anything else; it says nothing of the quota.
    Other,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls that were sent.
    pub sent: u64,
    /// Answers with a 2xx status.
    pub succeeded: u64,
    /// 429s that meant "wait".
    pub limited: u64,
    /// Calls refused without being sent.
    pub refused: u64,
}

/// Whom to wake, once the lock is released.
#[derive(Debug, Default)]
pub(super) struct Wakes(Vec<Waker>);

impl Wakes {
    #[inline]
    pub(super) fn wake(self) {
        if self.0.is_empty() {
            return;
        }
        for waker in self.0 {
            waker.wake();
        }
    }
}

/// In the order in which it lies in memory: what every call touches comes first, and close together, for with the lock
/// it goes from one processor to the other.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Core {
    /// Nobody waits, and a call needs no clock.
    untimed: bool,
    window: u32,
    flights: Flights,
    /// Counts how often the gate has closed.
    epoch: u64,
    /// What was ever sent.
    sent: Cost,
    counts: Counts,
    gate: Gate,
    queue: Queue<WaiterId>,
    /// What is reserved for calls that have not left yet.
    granted: Cost,
    requests: Bucket,
    tokens: Bucket,
    /// When the last answer came.
    heard: Moment,
    /// Nanoseconds of the quickest answer.
    fastest: u64,
    /// So many good answers in a row named no limit.
    unnamed: u32,
    patience: Duration,
    pub(super) clock: Clock,
    spent: Option<Spent>,
    /// Once a 429 came that no announced limit explains.
    pace: Option<Pace>,
    /// Limits beyond the usual two.
    more: Vec<More>,
    /// What a store has lent, where one is asked.
    leases: Option<Leases>,
    turns: Turns,
    waiters: Slab<Waiter>,
    grants: Grants,
    ties: u64,
    settings: Settings,
    rng: SmallRng,
}

impl Core {
    pub(super) fn new(settings: Settings) -> Self {
        let quota = &settings.quota;
        let more = |Given { name, unit, capacity, period }| {
            let bucket = Bucket::full(capacity, period, Moment::START);
            More { name: name.into(), origin: Origin::Given, unit, bucket }
        };
        let more: Vec<More> = quota.given().map(more).collect();
        // Who names a limit has no need of feeling for it.
        let window = if quota.limits_requests() { u32::MAX } else { FIRST_WINDOW };
        let leases = settings.store.is_some().then(Leases::default);
        let rng = settings.seed.map_or_else(rand::make_rng, SmallRng::seed_from_u64);
        Self {
            clock: Clock::default(),
            settings,
            requests: Bucket::new(),
            tokens: Bucket::new(),
            more,
            leases,
            pace: None,
            gate: Gate { opens: None, named: None, streak: 0, probing: false, probe: None },
            epoch: 0,
            spent: None,
            window,
            queue: Queue::default(),
            turns: Turns::default(),
            waiters: Slab::new(),
            grants: Grants::default(),
            flights: Flights::default(),
            sent: Cost::ZERO,
            granted: Cost::ZERO,
            fastest: u64::MAX,
            heard: Moment::START,
            patience: PATIENCE,
            unnamed: 0,
            untimed: false,
            ties: 0,
            counts: Counts::default(),
            rng,
        }
    }

    /// A call comes while nobody waits and there is room for it: it goes. `None` if that is not so.
    ///
    /// What most calls take, and apart from [`arrive`](Self::arrive) because it is.
    #[inline]
    pub(super) fn go(&mut self, now: Moment, cost: Cost) -> Option<FlightId> {
        let may_fit = self.tokens.limit().is_none_or(|limit| cost.tokens <= limit) && self.more.is_empty()
            || self.never_fits(now, cost).is_none();
        if self.spent.is_some() || !self.queue.is_empty() || !may_fit || !self.fits(now, cost) {
            return None;
        }
        self.counts.sent += 1;
        self.sent += cost;
        Some(self.launch(now, cost))
    }

    /// Whether a call needs no clock.
    #[inline]
    pub(super) fn is_untimed(&self) -> bool {
        self.untimed
    }

    /// No limit is known, none is expected, and nothing holds calls up. All of this changes only when a call ends, but for
    /// the line.
    fn needs_no_clock(&self) -> bool {
        self.unnamed >= UNNAMED
            && self.requests.limit().is_none()
            && self.tokens.limit().is_none()
            && self.more.is_empty()
            && self.leases.is_none()
            && self.pace.is_none()
            && self.gate.opens.is_none()
            && !self.gate.probing
            && self.spent.is_none()
            && self.queue.is_empty()
    }

    /// A call comes that needs no clock: it goes. `None` if that is not so.
    #[inline(always)]
    pub(super) fn go_untimed(&mut self, cost: Cost) -> Option<FlightId> {
        if !self.untimed || self.flights.len() >= self.window {
            return None;
        }
        self.counts.sent += 1;
        self.sent += cost;
        Some(self.flights.add(Flight::new(cost, self.epoch, None, self.sent)))
    }

    /// The answer to a call that left untimed names no limit. `false` if the clock is needed all the same.
    #[inline(always)]
    pub(super) fn succeed_untimed(&mut self, id: FlightId) -> bool {
        let is_as_it_was = self.flights.get(id).is_some_and(|flight| flight.epoch == self.epoch);
        if !self.untimed || !is_as_it_was {
            return false;
        }
        self.flights.free(id);
        self.counts.succeeded += 1;
        self.widen(true);
        true
    }

    /// A call was refused before it came here.
    pub(super) fn refuse(&mut self) {
        self.counts.refused += 1;
    }

    /// What was reserved for a call.
    pub(super) fn cost_of(&self, id: FlightId) -> Cost {
        self.flights.get(id).map_or(Cost::ZERO, |flight| flight.cost)
    }

    /// How long ago the last answer came, if there was one.
    pub(super) fn heard_ago(&self, now: Moment) -> Option<Duration> {
        (self.heard != Moment::START).then(|| now.since(self.heard))
    }

    pub(super) fn calls_sent(&self) -> u64 {
        self.counts.sent
    }

    /// A granted call is handed to the network now; `false` if it may not leave any more, because the gate has closed
    /// since, or the quota is used up.
    pub(super) fn sent(&mut self, now: Moment, id: FlightId) -> bool {
        let Some(flight) = self.flights.get_mut(id) else { return true };
        if flight.epoch != self.epoch || self.spent.is_some() && !flight.looks {
            return false;
        }
        self.granted -= flight.cost;
        self.sent += flight.cost;
        flight.left = Some(now);
        flight.mark = self.sent;
        self.counts.sent += 1;
        true
    }

    /// A granted call was never sent: its quota is free again.
    pub(super) fn cancel(&mut self, now: Moment, id: FlightId, wakes: &mut Wakes) {
        self.give_back(id);
        self.move_up(now, wakes);
    }

    /// A sent call has ended. For a 429 that means "wait": when it may be sent again.
    pub(super) fn settle(
        &mut self,
        now: Moment,
        id: FlightId,
        outcome: Outcome<'_>,
        wakes: &mut Wakes,
    ) -> Option<Moment> {
        let flight = *self.flights.get(id)?;
        self.flights.free(id);
        if self.heard == Moment::START {
            self.window = self.window_in_use();
        }
        self.end_probe(&flight);
        self.heard = now;
        let mut opens = None;
        match outcome {
            Outcome::Success(limits) => {
                self.counts.succeeded += 1;
                if flight.epoch == self.epoch {
                    self.widen(self.pace.is_none() && !self.is_known());
                    self.gate.streak = 0;
                    self.gate.probing = false;
                } else if flight.epoch + 1 == self.epoch {
                    // A 429 comes back sooner than an answer: the gate before this one had been long enough after all.
                    self.gate.streak = self.gate.streak.min(1);
                }
                // One that left before the quota was used up says nothing of it now.
                if flight.looks {
                    self.spent = None;
                }
                self.patience = PATIENCE;
                if flight.anew {
                    self.forget(limits);
                }
                self.unnamed = if limits.is_empty() { self.unnamed.saturating_add(1) } else { 0 };
                self.learn(now, &flight, limits);
            }
            Outcome::Limited(limits, hint) => opens = Some(self.turned_away(now, flight, limits, hint)),
            Outcome::Spent(error) => self.spend(now, error, wakes),
            Outcome::Other => {}
        }
        self.move_up(now, wakes);
        self.untimed = self.needs_no_clock();
        opens
    }

    /// A sent call met a 429 that means "wait": when it may be sent again.
    #[cold]
    fn turned_away(&mut self, now: Moment, flight: Flight, limits: &Limits, hint: Option<Duration>) -> Moment {
        self.counts.limited += 1;
        if flight.anew {
            self.patience = self.patience.saturating_mul(2).min(LONGEST_PATIENCE);
        }
        // It took a request, but no tokens.
        self.credit_tokens(now, flight.cost, Told::by(limits));
        self.learn(now, &flight, limits);
        self.close(now, &flight, limits, hint)
    }

    pub(super) fn snapshot(&self, now: Moment) -> super::Snapshot {
        let place = Place { class: u8::MAX, seq: u64::MAX, tie: u64::MAX };
        super::Snapshot {
            requests: self.level(Unit::Requests, &self.requests, now),
            tokens: self.level(Unit::Tokens, &self.tokens, now),
            more: self.others(now),
            in_flight: self.flights.len() as usize,
            window: self.window_in_use(),
            waiting: self.waiters.len(),
            expected_wait: self.expected_wait(now, place, Cost::of_tokens(0.0, 0.0)),
            gate_opens_in: self.gate.opens.filter(|opens| *opens > now).map(|opens| opens.since(now)),
            spent: self.spent.as_ref().map(|spent| spent.error.clone()),
            counts: self.counts,
            scope: super::ScopeName::default(),
            used: super::Used::default(),
        }
    }
}
