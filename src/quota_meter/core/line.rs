//! Who waits, in which order, and who is let go.

use std::{task::Waker, time::Duration};

use tokio::time::Instant;

use super::{Core, Wakes};
use crate::quota_meter::{
    cost::Cost,
    demand::Sure,
    flights::FlightId,
    grants::Grant,
    moment::Moment,
    queue::Place,
    refusal::Refusal,
    store::{Asking, Batch, Leased, Leases},
};

/// A grant that its task does not take goes to the next in line.
const GRANT_TIME: Duration = Duration::from_secs(1);
/// How soon a waiter looks again when no event it could wait for has a known time.
pub(super) const WATCH: Duration = Duration::from_secs(1);

/// A waiting call, by its number in the slab.
pub(in crate::quota_meter) type WaiterId = usize;

/// A call that comes.
#[derive(Clone, Copy, Debug)]
pub(in crate::quota_meter) struct Comer {
    pub(in crate::quota_meter) class: u8,
    pub(in crate::quota_meter) seq: u64,
    /// It was let go once, and the server sent it back.
    pub(in crate::quota_meter) had_its_turn: bool,
    pub(in crate::quota_meter) cost: Cost,
    pub(in crate::quota_meter) sure: Sure,
}

#[derive(Debug)]
pub(in crate::quota_meter) enum Arrival {
    Go(FlightId),
    Wait(WaiterId),
    Refused(Refusal),
}

#[derive(Debug)]
pub(in crate::quota_meter) enum Turn {
    Now(FlightId, Standing),
    /// Not before something wakes it; it looks again at this time at the latest.
    Later(Moment),
}

/// Where a call stands in line, and how long it may.
#[derive(Clone, Copy, Debug)]
pub(in crate::quota_meter) struct Standing {
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
pub(super) struct Waiter {
    standing: Standing,
    cost: Cost,
    pub(super) waker: Option<Waker>,
    state: WaiterState,
    /// When its own timer fires.
    pub(super) armed: Option<Moment>,
    /// It let those go first who were let go before it. Once is enough: they may be held unpolled.
    gave_way: bool,
    sure: Sure,
}

#[derive(Debug)]
pub(super) enum WaiterState {
    InLine,
    Granted(Grant),
    /// Let a grant pass untaken; out of the line until it is polled again.
    Aside,
    /// Few are: boxed, for every one in line has room for it.
    Refused(Box<Refusal>),
}

impl Core {
    /// A call comes: it goes, waits no longer than `limit`, or is refused.
    pub(in crate::quota_meter) fn arrive(
        &mut self,
        now: Moment,
        call: &Comer,
        limit: Option<Duration>,
        wakes: &mut Wakes,
    ) -> Arrival {
        let arrival = self.admit(now, call, limit, wakes);
        if matches!(arrival, Arrival::Refused(_)) {
            self.counts.refused += 1;
        }
        arrival
    }

    pub(super) fn admit(&mut self, now: Moment, call: &Comer, limit: Option<Duration>, wakes: &mut Wakes) -> Arrival {
        let Comer { class, seq, had_its_turn, cost, sure } = *call;
        let cost = self.fitted(cost, sure);
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
            return Arrival::Go(self.reserve(now, cost));
        }
        let expected = self.expected_wait(now, place, cost);
        // One that had its turn already is no newcomer: there are never more of those than the window let go.
        if !had_its_turn && self.waiters.len() >= self.settings.max_queue.get() {
            return Arrival::Refused(Refusal::QueueFull { waiting: self.waiters.len(), expected });
        }
        if let (Some(expected), Some(limit)) = (expected, limit)
            && expected > limit
        {
            return Arrival::Refused(Refusal::TooLong { expected, limit });
        }
        Arrival::Wait(self.line_up(Standing { place, since: now, limit }, cost, sure))
    }

    pub(super) fn line_up(&mut self, standing: Standing, cost: Cost, sure: Sure) -> WaiterId {
        self.stand(standing.place, cost, self.waiters.vacant_key());
        self.waiters.insert(Waiter {
            standing,
            cost,
            waker: None,
            state: WaiterState::InLine,
            armed: None,
            gave_way: false,
            sure,
        })
    }

    fn stand(&mut self, place: Place, cost: Cost, id: WaiterId) {
        self.untimed = false;
        self.queue.insert(place, cost, id);
    }

    /// A call comes that goes now or not at all.
    pub(in crate::quota_meter) fn try_arrive(
        &mut self,
        now: Moment,
        class: u8,
        cost: Cost,
        sure: Sure,
        wakes: &mut Wakes,
    ) -> Result<FlightId, Refusal> {
        let cost = self.fitted(cost, sure);
        let place = Place { class, seq: u64::MAX, tie: u64::MAX };
        self.move_up(now, wakes);
        let refusal = match self.refusal_while_spent(now).or_else(|| self.never_fits(now, cost)) {
            Some(refusal) => refusal,
            None if self.is_next(place) && self.fits(now, cost) => {
                self.take_turn(class);
                return Ok(self.reserve(now, cost));
            }
            None => Refusal::TooLong { expected: self.wait_yet(now, place, cost), limit: Duration::ZERO },
        };
        self.refuse();
        Err(refusal)
    }

    /// A waiter looks whether its turn has come.
    pub(in crate::quota_meter) fn poll(
        &mut self,
        now: Moment,
        id: WaiterId,
        waker: &Waker,
        wakes: &mut Wakes,
    ) -> Result<Turn, Refusal> {
        if matches!(self.waiters[id].state, WaiterState::Aside) {
            self.waiters[id].state = WaiterState::InLine;
            self.stand(self.waiters[id].standing.place, self.waiters[id].cost, id);
        }
        self.waiters[id].armed = None;
        self.waiters[id].waker = Some(waker.clone());
        self.move_up(now, wakes);
        if matches!(self.waiters[id].state, WaiterState::InLine)
            && let Some(refusal) = self.refusal_while_spent(now).or_else(|| self.overdue(now, id))
        {
            self.queue.remove(self.waiters[id].standing.place);
            self.waiters[id].state = WaiterState::Refused(Box::new(refusal));
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
                let refusal = Refusal::clone(refusal);
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
    pub(in crate::quota_meter) fn leave(&mut self, now: Moment, id: WaiterId, wakes: &mut Wakes) {
        let Some(waiter) = self.waiters.try_remove(id) else { return };
        match waiter.state {
            WaiterState::InLine => drop(self.queue.remove(waiter.standing.place)),
            WaiterState::Granted(grant) => self.give_back(grant.flight),
            WaiterState::Aside | WaiterState::Refused(_) => {}
        }
        self.move_up(now, wakes);
    }

    /// A granted call that may not leave any more goes back to its place.
    pub(in crate::quota_meter) fn rejoin(
        &mut self,
        now: Moment,
        id: FlightId,
        standing: Standing,
        wakes: &mut Wakes,
    ) -> WaiterId {
        let cost = self.cost_of(id);
        self.give_back(id);
        // It was let go with this cost: nothing of it is too much.
        let waiter = self.line_up(standing, cost, Sure::Output);
        self.move_up(now, wakes);
        waiter
    }

    /// Something changed: lets go all whose turn it is, and wakes the next if its turn now comes sooner.
    #[inline]
    pub(super) fn move_up(&mut self, now: Moment, wakes: &mut Wakes) {
        if !self.queue.is_empty() {
            self.pump(now, wakes);
            self.rearm_first(now, wakes);
        }
    }

    /// Whose turn it is: the first in line, unless others have been passed over for too long.
    pub(super) fn next(&self) -> Option<(Place, Cost, WaiterId)> {
        let first = self.queue.first()?;
        Some(self.due(first.0.class).unwrap_or(first))
    }

    /// Who must not be passed over any more by calls of this class.
    pub(super) fn due(&self, class: u8) -> Option<(Place, Cost, WaiterId)> {
        self.turns.due_below(class).find_map(|below| self.queue.first_of(below))
    }

    /// Whether a newcomer for this place passes nobody whose turn it is.
    pub(super) fn is_next(&self, place: Place) -> bool {
        self.queue.first().is_none_or(|(first, ..)| place < first && self.due(place.class).is_none())
    }

    pub(super) fn take_turn(&mut self, class: u8) {
        if self.turns.owed(class) || self.queue.last_class().is_some_and(|last| last > class) {
            self.turns.taken(class, |other| self.queue.first_of(other).is_some());
        }
    }

    /// Lets go all whose turn it is.
    pub(super) fn pump(&mut self, now: Moment, wakes: &mut Wakes) {
        self.recall_untaken(now);
        while let Some((place, cost, id)) = self.next() {
            // The limits may be lower by now.
            let cost = self.fitted(cost, self.waiters[id].sure);
            let state = match self.never_fits(now, cost) {
                Some(refusal) => WaiterState::Refused(Box::new(refusal)),
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

    pub(super) fn answer(&mut self, id: WaiterId, state: WaiterState, wakes: &mut Wakes) {
        let waiter = &mut self.waiters[id];
        waiter.state = state;
        wakes.0.extend(waiter.waker.take());
    }

    pub(super) fn grant(&mut self, now: Moment, id: WaiterId, cost: Cost) -> WaiterState {
        let grant = Grant { waiter: id, flight: self.reserve(now, cost), at: now };
        self.grants.push(grant);
        WaiterState::Granted(grant)
    }

    pub(super) fn first_grant(&mut self) -> Option<Grant> {
        let Self { grants, waiters, .. } = self;
        grants.first(|grant| {
            let waiter = waiters.get(grant.waiter);
            waiter.is_some_and(|waiter| matches!(waiter.state, WaiterState::Granted(untaken) if untaken == grant))
        })
    }

    /// Takes back the grants that nobody came for.
    pub(super) fn recall_untaken(&mut self, now: Moment) {
        while let Some(grant) = self.first_grant().filter(|grant| now.since(grant.at) >= GRANT_TIME) {
            self.waiters[grant.waiter].state = WaiterState::Aside;
            self.give_back(grant.flight);
        }
    }

    /// Its time in line is over.
    pub(super) fn overdue(&self, now: Moment, id: WaiterId) -> Option<Refusal> {
        let Waiter { standing, cost, .. } = &self.waiters[id];
        let limit = standing.limit.filter(|limit| now.since(standing.since) >= *limit)?;
        let rest = self.wait_yet(now, standing.place, *cost);
        Some(Refusal::TooLong { expected: limit.saturating_add(rest), limit })
    }

    /// How long one that does not fit now would wait yet. Where nobody knows, a while: "at once" would make who believes it spin.
    fn wait_yet(&self, now: Moment, place: Place, cost: Cost) -> Duration {
        self.expected_wait(now, place, cost).filter(|wait| !wait.is_zero()).unwrap_or(WATCH)
    }

    /// What the store is to be asked now, if anything; `beside` is what one takes that would not wait.
    pub(in crate::quota_meter) fn asking(&mut self, now: Moment, beside: Option<Cost>) -> Option<Asking> {
        let next = self.next().map(|(_, cost, _)| cost).or(beside);
        let (_, line) = self.queue.ahead_of(Place { class: u8::MAX, seq: u64::MAX, tie: u64::MAX });
        self.leases.as_mut()?.ask(now, next, line)
    }

    /// The store has answered, or failed; when to look what has lapsed, if nobody else will.
    pub(in crate::quota_meter) fn leased(
        &mut self,
        now: Moment,
        answer: Option<Leased>,
        wakes: &mut Wakes,
    ) -> Option<Instant> {
        if let Some(leases) = &mut self.leases {
            leases.answered(now, answer);
        }
        self.move_up(now, wakes);
        let looks = self.leases.as_mut()?.watch(now)?;
        self.clock.instant(looks)
    }

    /// What was lent and is to be handed back now, and when to look next.
    pub(in crate::quota_meter) fn lapsed(&mut self, now: Moment) -> (Batch, Option<Instant>) {
        let Some(leases) = &mut self.leases else { return (Batch::default(), None) };
        let (unused, looks) = leases.lapsed(now);
        (unused, looks.and_then(|looks| self.clock.instant(looks)))
    }

    /// What was lent and is not used, in its time or past it.
    pub(in crate::quota_meter) fn unused(&self) -> Batch {
        self.leases.as_ref().map_or(Batch::default(), Leases::kept)
    }
}
