//! The guards of a call: in line, and let go. Dropped, each gives back what it held.

use std::{error::Error, sync::Arc, task::Context};

use tokio::time::Instant;

use super::{
    book::Book,
    core::{self, Outcome, Standing, Told, WaiterId},
    demand::Demand,
    flights::FlightId,
    refusal::Refusal,
    scope::Scope,
    usage::{Pending, Usage},
};
use crate::{ApiError, limits::Limits, wall_clock::WallClock};

/// What became of a call that arrived.
pub(super) enum Entry {
    Go(Flight),
    Wait(Waiter),
    Refused(Refusal),
}

/// What is to be known of a call beside its cost. Small, for every call's future carries one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) bytes: u32,
    /// What is held of the day's money.
    pub(super) money: f32,
}

impl Load {
    /// Of a call for which no money is held.
    #[inline]
    pub(super) fn of(demand: Demand) -> Self {
        Self { bytes: demand.bytes, money: 0.0 }
    }

    #[inline]
    pub(super) fn release(&mut self, book: &Book) {
        if self.money > 0.0 {
            book.release(std::mem::take(&mut self.money));
        }
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
    pub(super) fn new(scope: Arc<Scope>, load: Load, id: WaiterId) -> Self {
        Self { scope, load, id: Some(id), standing: None }
    }

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
            self.scope.book().changed();
        }
        self.scope.ask_store();
        Ok(match turn? {
            core::Turn::Now(id, standing) => {
                self.standing = Some(standing);
                let (scope, load) = (Arc::clone(&self.scope), self.load);
                Turn::Now(Flight::new(scope, load, id, Stage::Granted))
            }
            core::Turn::Later(_) => Turn::Later(look.into_iter().chain(recalls).min()),
        })
    }

    /// Its turn had come, and has gone: it goes back to its place.
    pub(super) fn rejoin(&mut self, mut flight: Flight) {
        if let Some(standing) = self.standing.take() {
            flight.stage = Stage::Ended;
            self.id = Some(self.scope.with(|core, now, wakes| core.rejoin(now, flight.id, standing, wakes)));
            self.scope.book().changed();
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.scope.with(|core, now, wakes| core.leave(now, id, wakes));
            self.scope.book().changed();
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
pub(super) enum Stage {
    Granted,
    Sent,
    /// Sent, without a look at the clock.
    Untimed,
    Ended,
}

impl Flight {
    #[inline]
    pub(super) fn new(scope: Arc<Scope>, load: Load, id: FlightId, stage: Stage) -> Self {
        Self { scope, load, id, stage }
    }

    /// It is handed to the network now; `false` if it may not leave any more.
    pub(super) fn send(&mut self) -> bool {
        let may_leave = self.scope.with(|core, now, _| core.sent(now, self.id));
        if may_leave {
            self.stage = Stage::Sent;
            self.scope.book().changed();
        }
        may_leave
    }

    pub(super) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    pub(super) fn reads_usage(&self) -> bool {
        self.scope.book().reads_usage()
    }

    pub(super) fn clock(&self) -> &WallClock {
        self.scope.book().clock()
    }

    pub(super) fn counts_tokens(&self) -> bool {
        self.scope.book().counts_tokens()
    }

    /// Its turn has come: holds what it takes of the day's money, which may be spent by now.
    pub(super) fn hold(&mut self) -> Result<(), Refusal> {
        if let Some(today) = self.scope.book().today() {
            let cost = self.scope.with(|core, _, _| core.cost_of(self.id));
            let held = self.scope.book().hold(self.scope.name(), cost, today);
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

    /// It ended without an answer.
    #[cold]
    pub(super) fn fail(&mut self, error: &(dyn Error + 'static)) {
        let is_lost = || {
            let error = ApiError::from_error(error);
            error.status().is_none() && error.may_have_been_processed()
        };
        if self.counts_tokens() && is_lost() {
            self.lose();
        }
        self.settle(Outcome::Other);
    }

    /// Nobody will hear what it used: it counts with what was reckoned.
    fn lose(&mut self) {
        let pending = self.pending(Told::by(&Limits::default()));
        self.scope.settle_usage(pending, &Usage::default());
    }

    /// It left untimed, and its answer, a good one, says nothing of limits or tokens: `true` if that settles it.
    #[inline(always)]
    pub(super) fn succeed_untimed(&mut self) -> bool {
        let is_settled = self.stage == Stage::Untimed && self.scope.succeed_untimed(self.id);
        if is_settled {
            // No money is held for one that left so.
            self.stage = Stage::Ended;
            self.scope.book().changed();
        }
        is_settled
    }

    /// Whether its good answer may be settled [untimed](Self::succeed_untimed), if it says nothing.
    #[inline]
    pub(super) fn is_untimed(&self) -> bool {
        self.stage == Stage::Untimed && self.scope.book().is_silent()
    }

    /// It has ended. For a 429 that means "wait": when it may be sent again.
    pub(super) fn settle(&mut self, outcome: Outcome<'_>) -> Option<Instant> {
        self.stage = Stage::Ended;
        self.load.release(self.scope.book());
        let (opens, limits_tokens) = self.scope.with(|core, now, wakes| {
            let opens = core.settle(now, self.id, outcome, wakes);
            (opens.and_then(|opens| core.clock.instant(opens)), core.limits_tokens())
        });
        self.scope.see_tokens(limits_tokens);
        if self.scope.book().counts_at_once() {
            self.scope.book_calls();
        }
        self.scope.book().changed();
        opens
    }
}

impl Drop for Flight {
    #[inline]
    fn drop(&mut self) {
        if self.stage != Stage::Ended {
            self.end_early();
        }
    }
}

impl Flight {
    #[cold]
    fn end_early(&mut self) {
        if self.stage == Stage::Granted {
            self.load.release(self.scope.book());
            self.scope.with(|core, now, wakes| core.cancel(now, self.id, wakes));
            self.scope.book().changed();
            return;
        }
        if self.counts_tokens() {
            self.lose();
        }
        self.settle(Outcome::Other);
    }
}
