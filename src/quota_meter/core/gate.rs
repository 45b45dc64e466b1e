//! Who is kept out whatever is left: by a 429, a quota that is used up, the window, or a probe that is out.

use std::time::Duration;

use rand::RngExt;

use super::{
    Core, Wakes,
    levels::{More, Origin},
    line::{WaiterId, WaiterState},
};
use crate::{
    ApiError,
    limits::{Limit, Limits},
    quota_meter::{bucket::Bucket, cost::Cost, flights::Flight, moment::Moment, pace::Pace, refusal::Refusal},
};

/// Calls in flight before anything is known of the limits.
pub(super) const FIRST_WINDOW: u32 = 4;
/// How long the first calls are unanswered before another goes, and another: a refusal comes sooner than an answer, so
/// that silence says they were let in.
const SILENCE: Duration = Duration::from_millis(100);
/// The most that go so. Where answers take seconds, more would run into a limit of 20 a minute before its first header.
const UNHEARD: u32 = 8;
/// Up to here the window opens by more with each success, while no limit is known: what a full bucket gets back
/// meanwhile is lost.
const EARLY_WINDOW: u32 = 32;
const EARLY_STEP: u32 = 2;
/// From here on the window opens by one only with every [`BLIND_STEP`]th success, while no limit is known.
const BLIND_WINDOW: u32 = 128;
const BLIND_STEP: u64 = 3;
/// How often a gate doubles at the most where the server says what is left: who shares the quota took it, and that passes.
const LONGEST_STREAK: (u32, u32) = (2, 16);
/// When for so long no answer came and the limits let nobody go, one call goes to look whether they are still so: what a
/// server once said must not hold for ever. Twice as long with each that is refused, up to [`LONGEST_PATIENCE`].
pub(super) const PATIENCE: Duration = Duration::from_secs(3600);
/// So many times sooner where how much comes back, and when, is but guessed.
const PATIENCE_FOR_A_GUESS: u32 = 60;
pub(super) const LONGEST_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// A probe that has not been heard of for so long is held by somebody who does not poll it: another goes.
const PROBE_TIME: Duration = Duration::from_secs(600);
/// Where a rate that the headers do not show is looked for first, as a share of the one they do, if that is of a period
/// no longer than [`LONGEST_ANNOUNCED`]: a limit a day says nothing of one a minute.
const HIDDEN_START: f64 = 0.98;
/// In seconds.
const LONGEST_ANNOUNCED: f64 = 120.0;
/// The longest a gate stays closed without a longer hint from the server.
const LONGEST_GATE: Duration = Duration::from_secs(60);
/// The gate of a server that names neither time nor limits.
const BLIND_GATE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) opens: Option<Moment>,
    /// The time that the server itself named.
    pub(super) named: Option<Moment>,
    pub(super) streak: u32,
    /// Limits unknown and the last word was a 429: one call at a time until one succeeds.
    pub(super) probing: bool,
    /// When that one left.
    pub(super) probe: Option<Moment>,
}

#[derive(Debug)]
pub(super) struct Spent {
    pub(super) error: ApiError,
    pub(super) until: Moment,
    /// When the call left that looks whether it is so still.
    pub(super) probe: Option<Moment>,
}

/// Whether a probe is out, of which an answer may still be hoped for.
fn is_out(probe: Option<Moment>, now: Moment) -> bool {
    probe.is_some_and(|left| now.since(left) < PROBE_TIME)
}

impl Core {
    pub(super) fn has_room(&self, now: Moment) -> bool {
        let probe_is_out = self.gate.probing && is_out(self.gate.probe, now)
            || self.spent.as_ref().is_some_and(|spent| is_out(spent.probe, now) || spent.until > now);
        !probe_is_out && (self.flights.len() < self.window || self.may_ask_more(now))
    }

    /// Nothing was heard yet: when the next call may go nevertheless.
    pub(super) fn asks_more_at(&self) -> Option<Moment> {
        let is_silent = self.heard == Moment::START && self.window == FIRST_WINDOW && !self.is_known();
        let first = self.flights.get(0).filter(|_| is_silent)?;
        let beyond = Some((self.flights.len() + 1).saturating_sub(FIRST_WINDOW)).filter(|beyond| *beyond <= UNHEARD)?;
        Some(first.left? + SILENCE.saturating_mul(beyond))
    }

    /// The window, and those who went though it was full.
    pub(super) fn window_in_use(&self) -> u32 {
        let is_silent = self.heard == Moment::START && self.window == FIRST_WINDOW;
        if is_silent { self.window.max(self.flights.len()) } else { self.window }
    }

    #[cold]
    #[inline(never)]
    fn may_ask_more(&self, now: Moment) -> bool {
        self.asks_more_at().is_some_and(|at| at <= now)
    }

    #[inline]
    pub(super) fn end_probe(&mut self, flight: &Flight) {
        if flight.probe {
            self.gate.probe = None;
        }
        if let (true, Some(spent)) = (flight.looks, &mut self.spent) {
            spent.probe = None;
        }
    }

    /// After a success. `is_blind` while neither a limit nor a pace is known.
    #[inline]
    pub(super) fn widen(&mut self, is_blind: bool) {
        // A limit that nobody names is found by running into it: the slower, the fewer are on their way then.
        let step = match self.window {
            BLIND_WINDOW.. if is_blind => u32::from(self.counts.succeeded.is_multiple_of(BLIND_STEP)),
            ..EARLY_WINDOW if is_blind => EARLY_STEP,
            _ => 1,
        };
        self.window = self.window.saturating_add(step);
    }

    /// A 429: closes the gate, unless an earlier one of the same epoch did. Answers when it opens.
    pub(super) fn close(&mut self, now: Moment, flight: &Flight, limits: &Limits, hint: Option<Duration>) -> Moment {
        if flight.epoch < self.epoch {
            if let Some(pace) = &mut self.pace {
                pace.refused_late(flight.epoch);
            }
            return self.gate.opens.map_or(now, |opens| opens.max(now));
        }
        // Not by the pace: that is our own, and waits for the last gate.
        let one = self.announced_wait(now, flight.cost);
        let is_vague = self.is_vague();
        let base = match hint {
            Some(hint) => hint.max(one),
            None if one.is_zero() || is_vague => BLIND_GATE.max(one),
            None => one,
        };
        let is_told = limits.requests.is_some_and(|told| told.remaining.is_some())
            || limits.tokens.is_some_and(|told| told.remaining.is_some());
        let is_told = is_told && !is_vague;
        let longest_streak = if is_told { LONGEST_STREAK.0 } else { LONGEST_STREAK.1 };
        // A window is whole again for all at once: nothing is gained by coming later.
        let is_window = self.requests.is_window() && !self.requests.holds(flight.cost.requests, now);
        let jitter = if is_window { 1.0 } else { self.rng.random_range(1.0..1.2) };
        let factor = 2f64.powi(self.gate.streak.min(longest_streak) as i32) * jitter;
        let longest = LONGEST_GATE.max(base.saturating_mul(2));
        let closed = Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(longest).min(longest);
        let opens = now + closed;
        self.gate.opens = Some(opens);
        self.gate.named = hint.map(|hint| now + hint);
        self.epoch += 1;
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
    pub(super) fn slow_down(&mut self, now: Moment, opens: Moment) {
        let admitted = (self.counts.sent - self.counts.limited) as f64;
        let assumed = self.requests.refill_within(LONGEST_ANNOUNCED).map(|refill| refill * HIDDEN_START);
        let epoch = self.epoch;
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
    pub(super) fn spend(&mut self, now: Moment, error: ApiError, wakes: &mut Wakes) {
        let wait = self.settings.spent_recheck;
        let waiting: Vec<WaiterId> = self.queue.drain().collect();
        for id in waiting {
            let refusal = Refusal::Spent { error: error.clone(), wait };
            self.answer(id, WaiterState::Refused(Box::new(refusal)), wakes);
        }
        let until = now + wait;
        self.spent = Some(Spent { error, until, probe: None });
    }

    pub(super) fn refusal_while_spent(&self, now: Moment) -> Option<Refusal> {
        let spent = self.spent.as_ref().filter(|spent| is_out(spent.probe, now) || spent.until > now)?;
        Some(Refusal::Spent { error: spent.error.clone(), wait: spent.until.since(now) })
    }

    /// From when on one call may look, whatever the server said. A time that it named itself is waited for, unless it is
    /// out of all reason.
    pub(super) fn looks_from(&self) -> Moment {
        let named = self.gate.named.filter(|named| named.since(self.heard) <= LONGEST_PATIENCE);
        let patience = if self.is_vague() { self.patience / PATIENCE_FOR_A_GUESS } else { self.patience };
        named.unwrap_or(self.heard).max(self.heard + patience)
    }

    /// Whether it is time that one call looks, whatever the server said.
    pub(super) fn may_look(&self, now: Moment, cost: Cost) -> bool {
        let is_given = |more: &&More| more.origin != Origin::Server;
        self.flights.is_empty()
            && self.spent.is_none()
            && now >= self.looks_from()
            && self.more.iter().filter(is_given).all(|more| more.holds(cost, now))
            && self.leases.as_ref().is_none_or(|leases| leases.holds(cost, now))
    }

    /// One that looked came through: what held it back is so no more, unless this very answer says it.
    #[cold]
    pub(super) fn forget(&mut self, limits: &Limits) {
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
        self.gate.named = None;
        self.gate.streak = 0;
        self.gate.probing = false;
        self.pace = None;
    }
}
