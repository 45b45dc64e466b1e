//! The permits that are out: what is kept for too long is taken back.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use super::{
    ScopeName,
    guards::Flight,
    lock::{Mutex, lock},
    scope::Scope,
};

/// Leave for one call, until somebody goes with it.
pub(super) type Permit = Arc<Mutex<Option<Flight>>>;

/// The flight, if it is of this scope and nobody took it.
pub(super) fn take(permit: &Permit, scope: &Arc<Scope>) -> Option<Flight> {
    lock(permit).take_if(|flight| Arc::ptr_eq(flight.scope(), scope))
}

/// Gives back what it took, of whichever scope; of which that was, if nobody took it.
pub(super) fn revoke(permit: &Permit) -> Option<ScopeName> {
    // Dropped out of the permit's lock: it gives back what it holds.
    let flight = lock(permit).take()?;
    Some(flight.scope().name().clone())
}

/// The number of the key whose quota it is of.
#[cfg(feature = "key-check")]
pub(super) fn key(permit: &Permit) -> Option<u32> {
    lock(permit).as_ref().and_then(|flight| flight.scope().name().key_number())
}

/// In the order in which they end, for all may be kept equally long.
#[derive(Debug, Default)]
pub(super) struct Permits(VecDeque<(Instant, Weak<Mutex<Option<Flight>>>)>);

impl Permits {
    pub(super) fn push(&mut self, permit: Weak<Mutex<Option<Flight>>>, ends: Instant) {
        // Those that live are calls in flight, of which there are never more than the window: so this is bounded.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|(_, permit)| permit.strong_count() > 0);
        }
        self.0.push_back((ends, permit));
    }

    /// Those whose time is over; when the next one's is.
    pub(super) fn take_due(&mut self, now: Instant, due: &mut Vec<Permit>) -> Option<Instant> {
        while let Some((ends, permit)) = self.0.front() {
            // Not upgraded before it is due: it might be the last that drops it, under the lock.
            if *ends > now && permit.strong_count() > 0 {
                return Some(*ends);
            }
            due.extend(permit.upgrade());
            self.0.pop_front();
        }
        None
    }
}
