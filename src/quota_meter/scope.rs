//! One quota, shared: the [`Core`] under its lock, and the guards that give back what a dropped call held.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Context,
};

use tokio::time::Instant;

use super::{
    Settings, Snapshot,
    core::{self, Arrival, Comer, Core, FlightId, Outcome, Standing, WaiterId, Wakes},
    moment::Moment,
    refusal::Refusal,
};

#[derive(Debug)]
pub(super) struct Scope(Mutex<Core>);

/// What became of a call that arrived.
pub(super) enum Entry {
    Go(Flight),
    Wait(Waiter),
    Refused(Refusal),
}

impl Scope {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Mutex::new(Core::new(settings)))
    }

    /// Runs `act` at this moment under the lock, and wakes whom it names after it.
    fn with<T>(&self, act: impl FnOnce(&mut Core, Moment, &mut Wakes) -> T) -> T {
        let now = Instant::now();
        let mut wakes = Wakes::default();
        let mut core = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = core.clock.moment(now);
        let result = act(&mut core, now, &mut wakes);
        drop(core);
        wakes.wake();
        result
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.with(|core, now, _| core.snapshot(now))
    }

    pub(super) fn arrive(self: &Arc<Self>, call: &Comer, deadline: Option<Instant>) -> Entry {
        match self.with(|core, now, _| core.go(now, call.cost)) {
            Some(id) => Entry::Go(Flight { scope: Arc::clone(self), id, stage: Stage::Sent }),
            None => self.line_up(call, deadline),
        }
    }

    #[cold]
    #[inline(never)]
    fn line_up(self: &Arc<Self>, call: &Comer, deadline: Option<Instant>) -> Entry {
        let scope = Arc::clone(self);
        match self.with(|core, now, wakes| {
            let deadline = deadline.map(|deadline| core.clock.moment(deadline));
            let arrival = core.arrive(now, call, deadline, wakes);
            if let Arrival::Go(id) = arrival {
                core.sent(now, id);
            }
            arrival
        }) {
            Arrival::Go(id) => Entry::Go(Flight { scope, id, stage: Stage::Sent }),
            Arrival::Wait(id) => Entry::Wait(Waiter { scope, id: Some(id), standing: None }),
            Arrival::Refused(refusal) => Entry::Refused(refusal),
        }
    }
}

/// A call in line; dropped, it gives back its place.
#[derive(Debug)]
pub(super) struct Waiter {
    scope: Arc<Scope>,
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
                Turn::Now(Flight { scope: Arc::clone(&self.scope), id, stage: Stage::Granted })
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
        }
    }
}

/// A call that was let go; dropped unsent, it gives back its quota, dropped in flight, its slot.
///
/// Small, for every call's future carries one.
#[derive(Debug)]
pub(super) struct Flight {
    scope: Arc<Scope>,
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

    /// It has ended. For a 429 that means "wait": when it may be sent again.
    pub(super) fn settle(&mut self, outcome: Outcome) -> Option<Instant> {
        self.stage = Stage::Ended;
        self.scope.with(|core, now, wakes| {
            let opens = core.settle(now, self.id, outcome, wakes)?;
            core.clock.instant(opens)
        })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        match self.stage {
            Stage::Ended => {}
            Stage::Sent => drop(self.settle(Outcome::Other)),
            Stage::Granted => self.scope.with(|core, now, wakes| core.cancel(now, self.id, wakes)),
        }
    }
}
