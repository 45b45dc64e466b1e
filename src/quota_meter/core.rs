//! The meter without clock, tasks or sockets: time and events in, grants and wakers out.

use std::{task::Waker, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use slab::Slab;

use super::{
    Settings,
    bucket::{Bucket, Level},
    cost::Cost,
    flights::{Flight, FlightId, Flights},
    grants::{Grant, Grants},
    moment::{Clock, Moment},
    pace::Pace,
    priority::Turns,
    queue::{Place, Queue},
    quota::Given,
    refusal::Refusal,
};
use crate::{
    ApiError,
    limits::{Dimension, Limit, Limits, MORE, Unit},
};

/// Calls in flight before anything is known of the limits.
const FIRST_WINDOW: u32 = 4;
/// The least window once a limit is known.
const LEAST_KNOWN_WINDOW: f64 = 8.0;
/// From here on the window opens by one only with every [`BLIND_STEP`]th success, while no limit is known.
const BLIND_WINDOW: u32 = 32;
const BLIND_STEP: u64 = 8;
/// How often a gate doubles at the most where the server says what is left: who shares the quota took it, and that passes.
const LONGEST_STREAK: (u32, u32) = (2, 16);
/// A token estimate is taken as this much short: without the margin 0.5 % of calls meet a 429.
const TOKEN_MARGIN: f64 = 1.1;
/// A grant that its task does not take goes to the next in line.
const GRANT_TIME: Duration = Duration::from_secs(1);
/// A call larger than the whole limit is refused for so long after the server named that; then one looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// When for so long no answer came and the limits let nobody go, one call goes to look whether they are still so: what a
/// server once said must not hold for ever. Twice as long with each that is refused, up to [`LONGEST_PATIENCE`].
const PATIENCE: Duration = Duration::from_secs(3600);
const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How soon a waiter looks again when no event it could wait for has a known time.
const WATCH: Duration = Duration::from_secs(1);
/// Where a rate that the headers do not show is looked for first, as a share of the one they do.
const HIDDEN_START: f64 = 0.98;
/// The longest a gate stays closed without a longer hint from the server.
const LONGEST_GATE: Duration = Duration::from_secs(60);
/// The gate of a server that names neither time nor limits.
const BLIND_GATE: Duration = Duration::from_secs(1);

/// A waiting call, by its number in the slab.
pub(super) type WaiterId = usize;

/// A call that comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comer {
    pub(super) class: u8,
    pub(super) seq: u64,
    /// It was let go once, and the server sent it back.
    pub(super) had_its_turn: bool,
    pub(super) cost: Cost,
}

#[derive(Debug)]
pub(super) enum Arrival {
    Go(FlightId),
    Wait(WaiterId),
    Refused(Refusal),
}

#[derive(Debug)]
pub(super) enum Turn {
    Now(FlightId, Standing),
    /// Not before something wakes it; it looks again at this time at the latest.
    Later(Moment),
}

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

/// Of which tokens an answer told how many are left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    tokens: bool,
    input: bool,
    output: bool,
}

impl Told {
    pub(super) fn by(limits: &Limits) -> Self {
        let of = |unit| limits.more.iter().any(|more| more.unit == unit && more.limit.remaining.is_some());
        let tokens = limits.tokens.is_some_and(|tokens| tokens.remaining.is_some()) || of(Unit::Tokens);
        Self { tokens, input: of(Unit::InputTokens), output: of(Unit::OutputTokens) }
    }

    fn of(self, unit: Unit) -> bool {
        match unit {
            Unit::Requests => true,
            Unit::Tokens => self.tokens,
            Unit::InputTokens => self.input,
            Unit::OutputTokens => self.output,
        }
    }
}

/// Where a call stands in line, and how long it may.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    place: Place,
    since: Moment,
    limit: Option<Duration>,
}

impl Standing {
    fn ends(&self) -> Option<Moment> {
        self.limit.map(|limit| self.since + limit)
    }
}

#[derive(Debug)]
struct Waiter {
    standing: Standing,
    cost: Cost,
    waker: Option<Waker>,
    state: WaiterState,
    /// When its own timer fires.
    armed: Option<Moment>,
    /// It let those go first who were let go before it. Once is enough: they may be held unpolled.
    gave_way: bool,
}

#[derive(Debug)]
enum WaiterState {
    InLine,
    Granted(Grant),
    /// Let a grant pass untaken; out of the line until it is polled again.
    Aside,
    Refused(Refusal),
}

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The server: its answers are the truth.
    Server,
    /// The caller: the meter's own count is.
    Given,
    /// The caller, as a share of what the server says.
    Share,
}

/// A limit beside the usual two: in and out apart, a project's, a second policy.
#[derive(Debug)]
struct More {
    name: Box<str>,
    origin: Origin,
    unit: Unit,
    bucket: Bucket,
}

#[derive(Debug)]
struct Gate {
    opens: Option<Moment>,
    epoch: u64,
    streak: u32,
    /// Limits unknown and the last word was a 429: one call at a time until one succeeds.
    probing: bool,
    probe_in_flight: bool,
}

#[derive(Debug)]
struct Spent {
    error: ApiError,
    until: Moment,
    probe_in_flight: bool,
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

#[derive(Debug)]
pub(super) struct Core {
    pub(super) clock: Clock,
    settings: Settings,
    requests: Bucket,
    tokens: Bucket,
    /// Limits beyond the usual two.
    more: Vec<More>,
    /// Once a 429 came that no announced limit explains.
    pace: Option<Pace>,
    gate: Gate,
    spent: Option<Spent>,
    window: u32,
    queue: Queue<WaiterId>,
    turns: Turns,
    waiters: Slab<Waiter>,
    grants: Grants,
    flights: Flights,
    /// What was ever sent.
    sent: Cost,
    /// What was ever reserved, less what was given back.
    reserved: Cost,
    /// Nanoseconds of the quickest answer.
    fastest: u64,
    /// When the last answer came.
    heard: Moment,
    patience: Duration,
    ties: u64,
    counts: Counts,
    rng: SmallRng,
}

impl More {
    /// What must be free for this cost.
    fn wanted(&self, cost: f64) -> f64 {
        let is_exact = self.unit == Unit::Requests || self.origin != Origin::Server;
        let wanted = if is_exact { cost } else { cost * TOKEN_MARGIN };
        self.bucket.limit().map_or(wanted, |limit| wanted.min(limit))
    }

    fn holds(&self, cost: Cost, now: Moment) -> bool {
        let cost = cost.in_unit(self.unit);
        cost <= 0.0 || self.bucket.holds(self.wanted(cost), now)
    }

    fn wait_for(&self, cost: Cost, now: Moment) -> Duration {
        let cost = cost.in_unit(self.unit);
        if cost > 0.0 { self.bucket.wait_for(self.wanted(cost), now) } else { Duration::ZERO }
    }
}

impl Core {
    pub(super) fn new(settings: Settings) -> Self {
        let quota = &settings.quota;
        let given = [(Unit::Requests, quota.given_requests()), (Unit::Tokens, quota.given_tokens())];
        let more: Vec<More> = given
            .into_iter()
            .filter_map(|(unit, given)| {
                let Given { capacity, period } = given?;
                let bucket = Bucket::full(capacity, period, Moment::START);
                Some(More { name: "given".into(), origin: Origin::Given, unit, bucket })
            })
            .collect();
        // Who names a limit has no need of feeling for it.
        let window = if quota.given_requests().is_some() { u32::MAX } else { FIRST_WINDOW };
        let rng = settings.seed.map_or_else(rand::make_rng, SmallRng::seed_from_u64);
        Self {
            clock: Clock::default(),
            settings,
            requests: Bucket::new(),
            tokens: Bucket::new(),
            more,
            pace: None,
            gate: Gate { opens: None, epoch: 0, streak: 0, probing: false, probe_in_flight: false },
            spent: None,
            window,
            queue: Queue::default(),
            turns: Turns::default(),
            waiters: Slab::new(),
            grants: Grants::default(),
            flights: Flights::default(),
            sent: Cost::ZERO,
            reserved: Cost::ZERO,
            fastest: u64::MAX,
            heard: Moment::START,
            patience: PATIENCE,
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

    /// A call comes: it goes, waits, or is refused.
    pub(super) fn arrive(&mut self, now: Moment, call: &Comer, deadline: Option<Moment>, wakes: &mut Wakes) -> Arrival {
        let arrival = self.admit(now, call, deadline, wakes);
        if matches!(arrival, Arrival::Refused(_)) {
            self.counts.refused += 1;
        }
        arrival
    }

    fn admit(&mut self, now: Moment, call: &Comer, deadline: Option<Moment>, wakes: &mut Wakes) -> Arrival {
        let Comer { class, seq, had_its_turn, cost } = *call;
        if let Some(refusal) = self.refusal_while_spent(now).or_else(|| self.never_fits(now, cost)) {
            return Arrival::Refused(refusal);
        }
        if !self.queue.is_empty() {
            self.pump(now, wakes);
        }
        self.ties += 1;
        let place = Place { class, seq, tie: self.ties };
        if self.is_next(place) && self.fits(now, cost) {
            self.take_turn(class);
            return Arrival::Go(self.launch(now, cost));
        }
        let expected = self.expected_wait(now, place, cost);
        // One that had its turn already is no newcomer: there are never more of those than the window let go.
        if !had_its_turn && self.waiters.len() >= self.settings.max_queue.get() {
            return Arrival::Refused(Refusal::QueueFull { waiting: self.waiters.len(), expected });
        }
        let limit = deadline.map(|deadline| deadline.since(now));
        let limit = limit.into_iter().chain(self.settings.max_wait).min();
        if let (Some(expected), Some(limit)) = (expected, limit)
            && expected > limit
        {
            return Arrival::Refused(Refusal::TooLong { expected, limit });
        }
        Arrival::Wait(self.line_up(Standing { place, since: now, limit }, cost))
    }

    fn line_up(&mut self, standing: Standing, cost: Cost) -> WaiterId {
        self.queue.insert(standing.place, cost, self.waiters.vacant_key());
        self.waiters.insert(Waiter {
            standing,
            cost,
            waker: None,
            state: WaiterState::InLine,
            armed: None,
            gave_way: false,
        })
    }

    /// A call comes that goes now or not at all.
    pub(super) fn try_arrive(
        &mut self,
        now: Moment,
        class: u8,
        cost: Cost,
        wakes: &mut Wakes,
    ) -> Result<FlightId, Refusal> {
        let place = Place { class, seq: u64::MAX, tie: u64::MAX };
        self.move_up(now, wakes);
        let refusal = match self.refusal_while_spent(now).or_else(|| self.never_fits(now, cost)) {
            Some(refusal) => refusal,
            None if self.is_next(place) && self.fits(now, cost) => {
                self.take_turn(class);
                return Ok(self.launch(now, cost));
            }
            None => {
                let expected = self.expected_wait(now, place, cost).filter(|wait| !wait.is_zero());
                Refusal::TooLong { expected: expected.unwrap_or(WATCH), limit: Duration::ZERO }
            }
        };
        self.refuse();
        Err(refusal)
    }

    /// A call was refused before it came here.
    pub(super) fn refuse(&mut self) {
        self.counts.refused += 1;
    }

    /// How long a call of this class that came now would wait, as far as the limits are known.
    pub(super) fn expected_wait_of(&self, now: Moment, class: u8, cost: Cost) -> Option<Duration> {
        self.expected_wait(now, Place { class, seq: u64::MAX, tie: u64::MAX }, cost)
    }

    /// What was reserved for a call.
    pub(super) fn cost_of(&self, id: FlightId) -> Cost {
        self.flights.get(id).map_or(Cost::ZERO, |flight| flight.cost)
    }

    /// Of a call for which so much was reserved, an answer says what it took, in and out.
    /// Where the server told what is left (`told`), it has counted the call in its own way.
    pub(super) fn correct(&mut self, now: Moment, taken: Cost, reserved: Cost, told: Told, wakes: &mut Wakes) {
        let more = taken - reserved;
        if !told.tokens {
            self.tokens.correct(more.tokens, now);
        }
        for limit in &mut self.more {
            if limit.unit != Unit::Requests && (limit.origin != Origin::Server || !told.of(limit.unit)) {
                limit.bucket.correct(more.in_unit(limit.unit), now);
            }
        }
        self.move_up(now, wakes);
    }

    pub(super) fn calls_sent(&self) -> u64 {
        self.counts.sent
    }

    /// A waiter looks whether its turn has come.
    pub(super) fn poll(
        &mut self,
        now: Moment,
        id: WaiterId,
        waker: &Waker,
        wakes: &mut Wakes,
    ) -> Result<Turn, Refusal> {
        if matches!(self.waiters[id].state, WaiterState::Aside) {
            self.waiters[id].state = WaiterState::InLine;
            self.queue.insert(self.waiters[id].standing.place, self.waiters[id].cost, id);
        }
        self.waiters[id].armed = None;
        self.waiters[id].waker = Some(waker.clone());
        self.move_up(now, wakes);
        if matches!(self.waiters[id].state, WaiterState::InLine)
            && let Some(refusal) = self.refusal_while_spent(now).or_else(|| self.overdue(now, id))
        {
            self.queue.remove(self.waiters[id].standing.place);
            self.waiters[id].state = WaiterState::Refused(refusal);
        }
        let first = self.first_grant().map(|first| first.waiter);
        let waiter = &mut self.waiters[id];
        match &waiter.state {
            // Its own timer came before the wakers of those who were let go before it.
            WaiterState::Granted(grant) if first != Some(id) && !waiter.gave_way => {
                waiter.gave_way = true;
                wakes.0.push(waker.clone());
                Ok(Turn::Later(grant.at + GRANT_TIME))
            }
            WaiterState::Granted(Grant { flight, .. }) => {
                let flight = *flight;
                Ok(Turn::Now(flight, self.waiters.remove(id).standing))
            }
            WaiterState::Refused(refusal) => {
                let refusal = refusal.clone();
                self.waiters.remove(id);
                self.counts.refused += 1;
                Err(refusal)
            }
            WaiterState::InLine | WaiterState::Aside => {
                let (standing, cost) = (self.waiters[id].standing, self.waiters[id].cost);
                let look = self.next_look(now, standing.place, cost);
                let look = standing.ends().map_or(look, |ends| ends.min(look));
                self.waiters[id].armed = Some(look);
                Ok(Turn::Later(look))
            }
        }
    }

    /// A waiter is dropped: its place, or its grant, goes to the next.
    pub(super) fn leave(&mut self, now: Moment, id: WaiterId, wakes: &mut Wakes) {
        let Some(waiter) = self.waiters.try_remove(id) else { return };
        match waiter.state {
            WaiterState::InLine => drop(self.queue.remove(waiter.standing.place)),
            WaiterState::Granted(grant) => self.give_back(grant.flight),
            WaiterState::Aside | WaiterState::Refused(_) => {}
        }
        self.move_up(now, wakes);
    }

    /// A granted call is handed to the network now; `false` if it may not leave any more, because the gate has closed
    /// since, or the quota is used up.
    pub(super) fn sent(&mut self, now: Moment, id: FlightId) -> bool {
        let Some(flight) = self.flights.get_mut(id) else { return true };
        if flight.epoch != self.gate.epoch || self.spent.is_some() && !flight.looks {
            return false;
        }
        self.sent += flight.cost;
        flight.left = now;
        flight.mark = self.sent;
        self.counts.sent += 1;
        true
    }

    /// A granted call that may not leave any more goes back to its place.
    pub(super) fn rejoin(&mut self, now: Moment, id: FlightId, standing: Standing, wakes: &mut Wakes) -> WaiterId {
        let cost = self.cost_of(id);
        self.give_back(id);
        let waiter = self.line_up(standing, cost);
        self.move_up(now, wakes);
        waiter
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
        let flight = self.flights.take(id)?;
        self.end_probe(&flight);
        self.heard = now;
        let mut opens = None;
        match outcome {
            Outcome::Success(limits) => {
                self.counts.succeeded += 1;
                if flight.epoch == self.gate.epoch {
                    self.widen();
                    self.gate.streak = 0;
                    self.gate.probing = false;
                } else if flight.epoch + 1 == self.gate.epoch {
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
                self.learn(now, &flight, limits);
            }
            Outcome::Limited(limits, hint) => {
                self.counts.limited += 1;
                if flight.anew {
                    self.patience = self.patience.saturating_mul(2).min(LONGEST_PATIENCE);
                }
                self.learn(now, &flight, limits);
                opens = Some(self.close(now, &flight, limits, hint));
            }
            Outcome::Spent(error) => self.spend(now, error, wakes),
            Outcome::Other => {}
        }
        self.move_up(now, wakes);
        opens
    }

    pub(super) fn snapshot(&self, now: Moment) -> super::Snapshot {
        let place = Place { class: u8::MAX, seq: u64::MAX, tie: u64::MAX };
        super::Snapshot {
            requests: self.level(Unit::Requests, &self.requests, now),
            tokens: self.level(Unit::Tokens, &self.tokens, now),
            in_flight: self.flights.len(),
            window: self.window,
            waiting: self.waiters.len(),
            expected_wait: self.expected_wait(now, place, Cost::of_tokens(0.0, 0.0)),
            gate_opens_in: self.gate.opens.filter(|opens| *opens > now).map(|opens| opens.since(now)),
            spent: self.spent.as_ref().map(|spent| spent.error.clone()),
            counts: self.counts,
            scope: super::ScopeName::default(),
            used: super::Used::default(),
        }
    }

    /// What the server says, or what is given where it says nothing.
    fn level(&self, unit: Unit, learned: &Bucket, now: Moment) -> Option<Level> {
        let given = || self.more.iter().find(|more| more.unit == unit && more.origin == Origin::Given);
        learned.level(now).or_else(|| given()?.bucket.level(now))
    }

    // --- granting ---

    /// Something changed: lets go all whose turn it is, and wakes the next if its turn now comes sooner.
    #[inline]
    fn move_up(&mut self, now: Moment, wakes: &mut Wakes) {
        if !self.queue.is_empty() {
            self.pump(now, wakes);
            self.rearm_first(now, wakes);
        }
    }

    /// Whose turn it is: the first in line, unless others have been passed over for too long.
    fn next(&self) -> Option<(Place, Cost, WaiterId)> {
        let first = self.queue.first()?;
        Some(self.due(first.0.class).unwrap_or(first))
    }

    /// Who must not be passed over any more by calls of this class.
    fn due(&self, class: u8) -> Option<(Place, Cost, WaiterId)> {
        self.turns.due_below(class).find_map(|below| self.queue.first_of(below))
    }

    /// Whether a newcomer for this place passes nobody whose turn it is.
    fn is_next(&self, place: Place) -> bool {
        self.queue.first().is_none_or(|(first, ..)| place < first && self.due(place.class).is_none())
    }

    fn take_turn(&mut self, class: u8) {
        if self.turns.owed(class) || self.queue.last_class().is_some_and(|last| last > class) {
            self.turns.taken(class, |other| self.queue.first_of(other).is_some());
        }
    }

    /// Lets go all whose turn it is.
    fn pump(&mut self, now: Moment, wakes: &mut Wakes) {
        self.recall_untaken(now);
        while let Some((place, cost, id)) = self.next() {
            let state = match self.never_fits(now, cost) {
                Some(refusal) => WaiterState::Refused(refusal),
                None if self.fits(now, cost) => {
                    self.take_turn(place.class);
                    self.grant(now, id, cost)
                }
                None if self.may_look(now, cost) => {
                    let state = self.grant(now, id, cost);
                    if let WaiterState::Granted(grant) = &state
                        && let Some(flight) = self.flights.get_mut(grant.flight)
                    {
                        flight.anew = true;
                    }
                    state
                }
                None => return,
            };
            self.queue.remove(place);
            self.answer(id, state, wakes);
        }
    }

    fn answer(&mut self, id: WaiterId, state: WaiterState, wakes: &mut Wakes) {
        let waiter = &mut self.waiters[id];
        waiter.state = state;
        wakes.0.extend(waiter.waker.take());
    }

    /// Whether it is time that one call looks, whatever the server said.
    fn may_look(&self, now: Moment, cost: Cost) -> bool {
        let is_given = |more: &&More| more.origin != Origin::Server;
        self.flights.is_empty()
            && self.spent.is_none()
            && now.since(self.heard) >= self.patience
            && self.more.iter().filter(is_given).all(|more| more.holds(cost, now))
    }

    /// One that looked came through: what held it back is so no more, unless this very answer says it.
    #[cold]
    fn forget(&mut self, limits: &Limits) {
        let is_told = |limit: Option<Limit>| limit.is_some_and(|limit| limit.remaining.is_some());
        if !is_told(limits.requests) {
            self.requests.forget();
        }
        if !is_told(limits.tokens) {
            self.tokens.forget();
        }
        self.more.retain(|more| {
            more.origin != Origin::Server
                || limits.more.iter().any(|told| *told.name == *more.name && is_told(Some(told.limit)))
        });
        self.gate.opens = None;
        self.gate.streak = 0;
        self.gate.probing = false;
        self.pace = None;
    }

    fn grant(&mut self, now: Moment, id: WaiterId, cost: Cost) -> WaiterState {
        let grant = Grant { waiter: id, flight: self.launch(now, cost), at: now };
        self.grants.push(grant);
        WaiterState::Granted(grant)
    }

    fn first_grant(&mut self) -> Option<Grant> {
        let Self { grants, waiters, .. } = self;
        grants.first(|grant| {
            let waiter = waiters.get(grant.waiter);
            waiter.is_some_and(|waiter| matches!(waiter.state, WaiterState::Granted(untaken) if untaken == grant))
        })
    }

    /// Takes back the grants that nobody came for.
    fn recall_untaken(&mut self, now: Moment) {
        while let Some(grant) = self.first_grant().filter(|grant| now.since(grant.at) >= GRANT_TIME) {
            self.waiters[grant.waiter].state = WaiterState::Aside;
            self.give_back(grant.flight);
        }
    }

    /// Whether a call of this cost may leave now.
    #[inline]
    fn fits(&self, now: Moment, cost: Cost) -> bool {
        self.gate.opens.is_none_or(|opens| opens <= now) && self.has_room(now) && self.holds(now, cost)
    }

    fn has_room(&self, now: Moment) -> bool {
        let probe_is_out = self.gate.probing && self.gate.probe_in_flight
            || self.spent.as_ref().is_some_and(|spent| spent.probe_in_flight || spent.until > now);
        !probe_is_out && self.flights.len() < self.window as usize
    }

    /// Whether the levels hold this cost, and the pace allows it.
    fn holds(&self, now: Moment, cost: Cost) -> bool {
        self.requests.holds(cost.requests, now)
            && (cost.tokens <= 0.0 || self.tokens.holds(self.with_margin(cost.tokens), now))
            && self.pace.as_ref().is_none_or(|pace| pace.wait_for(now, cost.requests).is_zero())
            && self.more.iter().all(|more| more.holds(cost, now))
    }

    /// How long until the levels hold this cost.
    fn announced_wait(&self, now: Moment, cost: Cost) -> Duration {
        let tokens =
            if cost.tokens > 0.0 { self.tokens.wait_for(self.with_margin(cost.tokens), now) } else { Duration::ZERO };
        let more = self.more.iter().map(|more| more.wait_for(cost, now)).max().unwrap_or_default();
        self.requests.wait_for(cost.requests, now).max(tokens).max(more)
    }

    fn with_margin(&self, tokens: f64) -> f64 {
        let wanted = tokens * TOKEN_MARGIN;
        self.tokens.limit().map_or(wanted, |limit| wanted.min(limit))
    }

    fn never_fits(&self, now: Moment, cost: Cost) -> Option<Refusal> {
        let more = self.more.iter().filter(|more| more.unit == Unit::Tokens).filter_map(|more| match more.origin {
            Origin::Server => more.bucket.limit_told_within(LOOK_AGAIN, now),
            Origin::Given | Origin::Share => more.bucket.limit(),
        });
        let limits = more.chain(self.tokens.limit_told_within(LOOK_AGAIN, now));
        let limit = limits.filter(|limit| cost.tokens > *limit).reduce(f64::min)?;
        Some(Refusal::TooLarge { tokens: cost.tokens as u64, limit: limit as u64 })
    }

    #[inline]
    fn launch(&mut self, now: Moment, cost: Cost) -> FlightId {
        self.reserved += cost;
        self.requests.reserve(cost.requests, now);
        self.tokens.reserve(cost.tokens, now);
        for more in &mut self.more {
            more.bucket.reserve(cost.in_unit(more.unit), now);
        }
        if let Some(pace) = &mut self.pace {
            pace.reserve(now, cost.requests);
        }
        let (probe, looks) = (self.gate.probing, self.spent.is_some());
        self.gate.probe_in_flight = self.gate.probing;
        if let Some(spent) = &mut self.spent {
            spent.probe_in_flight = true;
        }
        let flight = Flight { cost, epoch: self.gate.epoch, left: now, mark: self.sent, probe, looks, anew: false };
        self.flights.add(flight)
    }

    fn give_back(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.take(id) {
            self.end_probe(&flight);
            self.reserved -= flight.cost;
            self.requests.refund(flight.cost.requests);
            self.tokens.refund(flight.cost.tokens);
            for more in &mut self.more {
                more.bucket.refund(flight.cost.in_unit(more.unit));
            }
            if let Some(pace) = &mut self.pace {
                pace.refund(flight.cost.requests);
            }
        }
    }

    fn end_probe(&mut self, flight: &Flight) {
        if flight.probe {
            self.gate.probe_in_flight = false;
        }
        if let (true, Some(spent)) = (flight.looks, &mut self.spent) {
            spent.probe_in_flight = false;
        }
    }

    // --- learning ---

    #[inline]
    fn learn(&mut self, now: Moment, flight: &Flight, limits: &Limits) {
        if !limits.is_empty() {
            self.take_in(now, flight, limits);
        }
    }

    fn take_in(&mut self, now: Moment, flight: &Flight, limits: &Limits) {
        self.fastest = self.fastest.min(now.nanos_since(flight.left));
        let seen = flight.left.plus_nanos(self.fastest / 2);
        let was_known = self.is_known();
        if let Some(told) = &limits.requests {
            self.requests.reconcile(told, seen, flight.mark.requests, now, flight.anew);
        }
        if let Some(told) = &limits.tokens {
            self.tokens.reconcile(told, seen, flight.mark.tokens, now, flight.anew);
        }
        for dimension in limits.more.iter() {
            self.learn_more(dimension, seen, flight, now);
        }
        if let Some(share) = self.settings.quota.ceiling() {
            self.follow(share, now);
        }
        if !was_known && self.is_known() {
            let second = self.requests.refill().unwrap_or(0.0);
            self.window = self.window.max(second.max(LEAST_KNOWN_WINDOW) as u32);
        }
    }

    /// Keeps to a share of what the server says.
    #[cold]
    fn follow(&mut self, share: f64, now: Moment) {
        for (unit, whole) in [(Unit::Requests, &self.requests), (Unit::Tokens, &self.tokens)] {
            if whole.limit().is_none() {
                continue;
            }
            let is_it = |more: &&mut More| more.origin == Origin::Share && more.unit == unit;
            match self.more.iter_mut().find(is_it) {
                Some(more) => more.bucket.follow(whole, share, now),
                None => {
                    let mut bucket = Bucket::new();
                    bucket.follow(whole, share, now);
                    self.more.push(More { name: "share".into(), origin: Origin::Share, unit, bucket });
                }
            }
        }
    }

    #[cold]
    fn learn_more(&mut self, dimension: &Dimension, seen: Moment, flight: &Flight, now: Moment) {
        let place = self.more.iter().position(|more| more.origin == Origin::Server && *more.name == *dimension.name);
        let place = place.or_else(|| {
            let is_new = self.more.len() < MORE;
            // What is in flight is unseen by the server, as it is in the limits that were there from the start.
            let bucket = Bucket::after(self.reserved.in_unit(dimension.unit));
            is_new.then(|| {
                self.more.push(More {
                    name: (*dimension.name).into(),
                    origin: Origin::Server,
                    unit: dimension.unit,
                    bucket,
                })
            })?;
            Some(self.more.len() - 1)
        });
        if let Some(more) = place.and_then(|place| self.more.get_mut(place)) {
            let mark = flight.mark.in_unit(more.unit);
            more.bucket.reconcile(&dimension.limit, seen, mark, now, flight.anew);
        }
    }

    #[inline]
    fn widen(&mut self) {
        // A limit that nobody names is found by running into it: the slower, the fewer are on their way then.
        let is_blind = self.window >= BLIND_WINDOW && self.pace.is_none() && !self.is_known();
        if !is_blind || self.counts.succeeded.is_multiple_of(BLIND_STEP) {
            self.window = self.window.saturating_add(1);
        }
    }

    fn is_known(&self) -> bool {
        self.requests.limit().is_some()
            || self.tokens.limit().is_some()
            || self.more.iter().any(|more| more.bucket.limit().is_some())
    }

    /// A 429: closes the gate, unless an earlier one of the same epoch did. Answers when it opens.
    fn close(&mut self, now: Moment, flight: &Flight, limits: &Limits, hint: Option<Duration>) -> Moment {
        if flight.epoch < self.gate.epoch {
            if let Some(pace) = &mut self.pace {
                pace.refused_late(flight.epoch);
            }
            return self.gate.opens.map_or(now, |opens| opens.max(now));
        }
        // Not by the pace: that is our own, and waits for the last gate.
        let one = self.announced_wait(now, flight.cost);
        let base = match hint {
            Some(hint) => hint.max(one),
            None if one.is_zero() => BLIND_GATE,
            None => one,
        };
        let is_told = limits.requests.is_some_and(|told| told.remaining.is_some())
            || limits.tokens.is_some_and(|told| told.remaining.is_some());
        let longest_streak = if is_told { LONGEST_STREAK.0 } else { LONGEST_STREAK.1 };
        // A window is whole again for all at once: nothing is gained by coming later.
        let is_window = self.requests.is_window() && !self.requests.holds(flight.cost.requests, now);
        let jitter = if is_window { 1.0 } else { self.rng.random_range(1.0..1.25) };
        let factor = 2f64.powi(self.gate.streak.min(longest_streak) as i32) * jitter;
        let longest = LONGEST_GATE.max(base.saturating_mul(2));
        let closed = Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(longest).min(longest);
        let opens = now + closed;
        self.gate.opens = Some(opens);
        self.gate.epoch += 1;
        self.gate.streak = self.gate.streak.saturating_add(1);
        // Only what ran out is held back, where the answer tells which.
        let ran_out = |bucket: &Bucket, told: Option<Limit>, cost: f64| {
            bucket.limit().is_some() && told.and_then(|told| told.remaining).is_none_or(|remaining| remaining < cost)
        };
        let requests = ran_out(&self.requests, limits.requests, flight.cost.requests);
        let tokens = ran_out(&self.tokens, limits.tokens, flight.cost.tokens);
        if requests {
            self.requests.hold(flight.cost.requests, opens);
        }
        if tokens {
            self.tokens.hold(self.with_margin(flight.cost.tokens), opens);
        }
        let mut other = false;
        for more in &mut self.more {
            let told = limits.more.iter().find(|told| *told.name == *more.name).map(|told| told.limit);
            let cost = flight.cost.in_unit(more.unit);
            if more.origin == Origin::Server && cost > 0.0 && ran_out(&more.bucket, told, cost) {
                more.bucket.hold(more.wanted(cost), opens);
                other = true;
            }
        }
        if !requests && !tokens && !other {
            self.slow_down(now, opens);
        }
        opens
    }

    /// A 429 that no announced limit explains: from here on the refusals measure the rate.
    fn slow_down(&mut self, now: Moment, opens: Moment) {
        let admitted = (self.counts.sent - self.counts.limited) as f64;
        let assumed = self.requests.refill().map(|refill| refill * HIDDEN_START);
        let epoch = self.gate.epoch;
        self.pace = self.pace.take().filter(|pace| !pace.is_forgotten(now));
        let pace = self.pace.get_or_insert_with(|| Pace::new(now, admitted, assumed, epoch));
        pace.refused(now, admitted, opens, epoch);
        match pace.rate(now) {
            Some(rate) => self.window = self.window.max((2.0 * rate) as u32).max(FIRST_WINDOW),
            None => {
                self.gate.probing = true;
                self.window = FIRST_WINDOW;
            }
        }
    }

    /// The quota is used up: all who wait hear it now, and one call in a while looks whether it is back.
    fn spend(&mut self, now: Moment, error: ApiError, wakes: &mut Wakes) {
        let wait = self.settings.spent_recheck;
        let waiting: Vec<WaiterId> = self.queue.drain().collect();
        for id in waiting {
            let refusal = Refusal::Spent { error: error.clone(), wait };
            self.answer(id, WaiterState::Refused(refusal), wakes);
        }
        let until = now + wait;
        self.spent = Some(Spent { error, until, probe_in_flight: false });
    }

    fn refusal_while_spent(&self, now: Moment) -> Option<Refusal> {
        let spent = self.spent.as_ref().filter(|spent| spent.probe_in_flight || spent.until > now)?;
        Some(Refusal::Spent { error: spent.error.clone(), wait: spent.until.since(now) })
    }

    /// Its time in line is over.
    fn overdue(&self, now: Moment, id: WaiterId) -> Option<Refusal> {
        let Waiter { standing, cost, .. } = &self.waiters[id];
        let limit = standing.limit.filter(|limit| now.since(standing.since) >= *limit)?;
        let rest = self.expected_wait(now, standing.place, *cost).unwrap_or_default();
        Some(Refusal::TooLong { expected: limit.saturating_add(rest), limit })
    }

    // --- reckoning ---

    /// How long a call at `place` will wait, as far as the limits are known.
    fn expected_wait(&self, now: Moment, place: Place, cost: Cost) -> Option<Duration> {
        let gate = self.gate.opens.filter(|opens| *opens > now).map(|opens| opens.since(now));
        if !self.is_known() && self.pace.is_none() {
            return gate;
        }
        let is_next = || self.next().is_some_and(|(next, ..)| next == place);
        let ahead = match self.turns.owed(place.class) && is_next() {
            true => Cost::ZERO,
            false => self.queue.ahead_of(place).1,
        };
        let requests = self.requests.wait_for(ahead.requests + cost.requests, now);
        let pace = self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.wait_for(now, ahead.requests + cost.requests));
        let all = ahead + cost;
        let more = self.more.iter().map(|more| more.bucket.wait_for(all.in_unit(more.unit), now)).max();
        let tokens = match ahead.tokens + self.with_margin(cost.tokens) {
            needed if needed > 0.0 => self.tokens.wait_for(needed, now),
            _ => Duration::ZERO,
        };
        Some(requests.max(tokens).max(pace).max(more.unwrap_or_default()).max(gate.unwrap_or_default()))
    }

    /// When a waiter looks again: when its turn should come, or, where only an event can tell, after a while that
    /// grows with its place, so that a long line costs a hundred looks a second and not one a waiter.
    fn next_look(&self, now: Moment, place: Place, cost: Cost) -> Moment {
        let wait = self.expected_wait(now, place, cost).filter(|wait| !wait.is_zero()).unwrap_or_else(|| {
            let (before, _) = self.queue.ahead_of(place);
            WATCH.saturating_add(Duration::from_millis(10).saturating_mul(u32::try_from(before).unwrap_or(u32::MAX)))
        });
        let look = self.heard + self.patience;
        let is_first = self.queue.first().is_some_and(|(first, ..)| first == place);
        if is_first && look > now && self.flights.is_empty() { look.min(now + wait) } else { now + wait }
    }

    /// Wakes the first in line if its turn comes before its own timer.
    fn rearm_first(&mut self, now: Moment, wakes: &mut Wakes) {
        let Some((place, cost, id)) = self.next() else { return };
        let look = self.next_look(now, place, cost);
        let waiter = &mut self.waiters[id];
        if waiter.armed.is_some_and(|armed| look + Duration::from_millis(1) < armed) {
            wakes.0.extend(waiter.waker.take());
        }
    }
}
