//! How long who waits will wait yet, and when it looks again.

use std::time::Duration;

use super::{Core, Wakes, line::WATCH};
use crate::quota_meter::{cost::Cost, moment::Moment, queue::Place};

impl Core {
    /// How long a call of this class that came now would wait, as far as the limits are known.
    pub(in crate::quota_meter) fn expected_wait_of(&self, now: Moment, class: u8, cost: Cost) -> Option<Duration> {
        self.expected_wait(now, Place { class, seq: u64::MAX, tie: u64::MAX }, cost)
    }

    /// How long a call at `place` will wait, as far as the limits are known.
    pub(super) fn expected_wait(&self, now: Moment, place: Place, cost: Cost) -> Option<Duration> {
        let gate = self.gate.opens.filter(|opens| *opens > now).map(|opens| opens.since(now));
        if !self.is_known() && self.pace.is_none() && self.leases.is_none() {
            return gate;
        }
        let is_next = || self.next().is_some_and(|(next, ..)| next == place);
        let ahead = match self.turns.owed(place.class) && is_next() {
            true => Cost::ZERO,
            false => self.queue.ahead_of(place).1,
        };
        let lent = self.leases.as_ref().map(|leases| leases.wait_for(ahead + cost, now));
        let held_up = lent.filter(|wait| !wait.is_zero()).max(gate);
        if !self.is_known() && self.pace.is_none() {
            return held_up;
        }
        let requests = self.requests.wait_for(ahead.requests + cost.requests, now);
        let pace = self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.wait_for(now, ahead.requests + cost.requests));
        let more = self.more.iter().map(|more| more.wait_for(ahead, cost, now)).max();
        let tokens = match ahead.tokens + self.with_margin(cost.tokens) {
            needed if needed > 0.0 => self.tokens.wait_for(needed, now),
            _ => Duration::ZERO,
        };
        Some(requests.max(tokens).max(pace).max(more.unwrap_or_default()).max(held_up.unwrap_or_default()))
    }

    /// When a waiter looks again: when its turn should come, or, where only an event can tell, after a while that
    /// grows with its place, so that a long line costs a hundred looks a second and not one a waiter.
    pub(super) fn next_look(&self, now: Moment, place: Place, cost: Cost) -> Moment {
        let watch = || {
            let (before, _) = self.queue.ahead_of(place);
            Duration::from_millis(10).saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))
        };
        let wait = match self.expected_wait(now, place, cost).filter(|wait| !wait.is_zero()) {
            None => watch().saturating_add(WATCH),
            // All who wait for the store wait for the same moment.
            Some(wait) if self.leases.is_some() => wait.saturating_add(watch()),
            Some(wait) => wait,
        };
        let look = self.looks_from();
        if self.queue.first().is_none_or(|(first, ..)| first != place) {
            return now + wait;
        }
        let wait = self.asks_more_at().filter(|at| *at > now).map_or(wait, |at| wait.min(at.since(now)));
        if look > now && self.flights.is_empty() { look.min(now + wait) } else { now + wait }
    }

    /// Wakes the first in line if its turn comes before its own timer.
    pub(super) fn rearm_first(&mut self, now: Moment, wakes: &mut Wakes) {
        let Some((place, cost, id)) = self.next() else { return };
        let look = self.next_look(now, place, cost);
        let waiter = &mut self.waiters[id];
        if waiter.armed.is_some_and(|armed| look + Duration::from_millis(1) < armed) {
            wakes.0.extend(waiter.waker.take());
        }
    }
}
