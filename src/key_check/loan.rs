//! [`Loan`]: the key lent to one call, and what its answer teaches.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ApiKey, KeyState,
    lending::State,
    pool::Pool,
    slot::{Answer, Held, Outage},
};
use crate::{ApiError, Refused, RetryHint};

/// How long a key is spared after a 429 that says nothing of time.
const COOLING: Duration = Duration::from_secs(1);
/// The least between two looks at a key that is out of use, whatever the settings or the server say.
const LEAST_RECHECK: Duration = Duration::from_millis(100);

/// The key lent to one call; what came of the call is told to it.
pub(super) struct Loan {
    pub(super) held: Arc<Held>,
    /// Whether the request had an organization of its caller's, which need not be the key's.
    pub(super) has_own_organization: bool,
    is_probe: bool,
}

impl Loan {
    #[inline]
    pub(super) fn of(held: Arc<Held>) -> Self {
        Self { held, has_own_organization: false, is_probe: false }
    }

    /// For a call that looks how the key is now.
    pub(super) fn to_look(held: Arc<Held>) -> Self {
        Self { held, has_own_organization: false, is_probe: true }
    }

    fn with<T>(&self, act: impl FnOnce(&Pool, &mut State) -> T) -> Option<T> {
        let pool = self.held.pool.upgrade()?;
        let mut state = pool.state();
        Some(act(&pool, &mut state))
    }

    /// All keys that an answer to this call may show: a meter further in may tell of another key's.
    pub(super) fn known(&self) -> Vec<ApiKey> {
        let mut known = self.with(|_, state| state.keys()).unwrap_or_default();
        if !known.iter().any(|key| key.is_same(&self.held.key.0)) {
            known.push(self.held.key.0.clone());
        }
        known
    }

    /// The server took the key, and the call, too, if it succeeded.
    #[inline]
    pub(super) fn accepted(&mut self, succeeded: bool) {
        if self.is_probe || !self.held.is_proven() {
            self.note_accepted(succeeded);
        }
    }

    #[cold]
    fn note_accepted(&mut self, succeeded: bool) {
        let is_probe = self.is_probe;
        let was_well = self.with(|_, state| {
            let slot = state.slots.get_mut(self.held.slot).filter(|slot| slot.is_current(&self.held))?;
            let is_spent = slot.outage.as_ref().is_some_and(|outage| outage.state == KeyState::Spent);
            if is_probe && (succeeded || !is_spent) {
                slot.outage = None;
            } else if is_probe {
                return Some(false);
            }
            slot.proven();
            Some(true)
        });
        if was_well.flatten().unwrap_or(true) {
            #[cfg(feature = "tracing")]
            if is_probe {
                tracing::info!(key = self.held.key.0.fingerprint(), "the key is well again");
            }
            self.is_probe = false;
        }
    }

    /// The server refused the key: nobody uses it until it was looked at again. Whether the call can go with another.
    pub(super) fn rejected(&mut self, answer: Answer) -> bool {
        self.out_of_use(KeyState::Rejected, answer)
    }

    /// The key's quota is used up. Whether the call can go with another.
    pub(super) fn spent(&mut self, answer: Answer) -> bool {
        self.out_of_use(KeyState::Spent, answer)
    }

    fn out_of_use(&mut self, state_of_key: KeyState, answer: Answer) -> bool {
        let has_looked = std::mem::take(&mut self.is_probe);
        let now = Instant::now();
        let has_prospect = self.with(|pool, state| {
            let mut looker = None;
            // A call that left before the key was replaced, or found well again, says nothing of it now.
            if let Some(slot) = state.slots.get_mut(self.held.slot).filter(|slot| slot.is_current(&self.held)) {
                #[cfg(feature = "tracing")]
                tracing::warn!(
                    key = self.held.key.0.fingerprint(),
                    state = ?state_of_key,
                    error = %answer.error,
                    "a key is out of use"
                );
                let settings = &pool.settings;
                let back_after = |wait: Duration| now.checked_add(wait.max(LEAST_RECHECK));
                looker = slot.looker();
                match state_of_key {
                    KeyState::Rejected if self.held.is_first_refusal() => {
                        slot.reject(answer, back_after(settings.recheck), now);
                    }
                    KeyState::Rejected => {}
                    _ => {
                        let back_at = back_after(hint(&answer.error).unwrap_or(settings.spent_recheck));
                        slot.outage = Some(Outage { state: state_of_key, answer, back_at, probed: false, looker });
                    }
                }
            }
            state.has_prospect_after(self.held.slot, has_looked.then_some(looker), now)
        });
        // After the state: whoever turns back finds it as it is.
        self.held.lease.end();
        has_prospect.unwrap_or(false)
    }

    /// Whether what a meter says was answered to another key: its quota is then one for all.
    pub(super) fn is_anothers(&self, answer: &Answer) -> bool {
        let is_it = |outage: &Outage| outage.answer.is_same(answer);
        let found =
            self.with(|_, state| state.others(self.held.slot).any(|slot| slot.outage.as_ref().is_some_and(is_it)));
        found.unwrap_or(false)
    }

    /// The answer is to this call. Where a call with another key heard of it first, from a meter, that key is well.
    pub(super) fn is_own(&self, answer: &Answer) {
        self.with(|pool, state| {
            for (number, slot) in state.slots.iter_mut().enumerate().filter(|(number, _)| *number != self.held.slot) {
                if slot.outage.take_if(|outage| outage.answer.is_same(answer)).is_some()
                    && let Some(key) = slot.held.as_ref().map(|held| Arc::clone(&held.key))
                {
                    // The old lease has ended.
                    slot.hold(key, pool.weak(), number);
                }
            }
        });
    }

    /// Whether there is another key that is sound.
    pub(super) fn has_another(&self) -> bool {
        let now = Instant::now();
        self.with(|_, state| state.others(self.held.slot).any(|slot| slot.is_sound(now))).unwrap_or(false)
    }

    /// The server asked for a pause. Whether another key could serve the call now.
    pub(super) fn limited(&mut self, error: &ApiError) -> bool {
        self.spare(hint(error).unwrap_or(COOLING))
    }

    /// The quota of one model, or of one sort of request, is used up. Whether another key could serve the call now.
    pub(super) fn partly_spent(&mut self, error: &ApiError) -> bool {
        let pause = hint(error).or_else(|| self.with(|pool, _| pool.settings.spent_recheck));
        self.spare(pause.unwrap_or(COOLING))
    }

    fn spare(&mut self, pause: Duration) -> bool {
        let now = Instant::now();
        let is_other_free = self.with(|_, state| {
            if let Some(slot) = state.slots.get_mut(self.held.slot).filter(|slot| slot.is_current(&self.held)) {
                slot.cool(now.checked_add(pause));
            }
            state.others(self.held.slot).any(|slot| slot.is_sound(now) && slot.cooling_until(now) == now)
        });
        is_other_free.unwrap_or(false)
    }

    /// Why a call that turned back on the way is refused, if there is no key for it.
    pub(super) fn refusal(&self) -> Option<Refused> {
        let now = Instant::now();
        self.with(|_, state| (!state.has_prospect(now)).then(|| state.refusal(now))).flatten()
    }

    #[cold]
    #[inline(never)]
    fn give_up_probe(&self) {
        self.with(|_, state| {
            let slot = state.slots.get_mut(self.held.slot).filter(|slot| slot.is_current(&self.held));
            if let Some(outage) = slot.and_then(|slot| slot.outage.as_mut()) {
                (outage.probed, outage.looker) = (false, None);
            }
        });
    }
}

/// The wait that the server asked for.
fn hint(error: &ApiError) -> Option<Duration> {
    match error.retry() {
        RetryHint::After(hint) => Some(hint),
        _ => None,
    }
}

impl Drop for Loan {
    #[inline]
    fn drop(&mut self) {
        if self.is_probe {
            self.give_up_probe();
        }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("key", &self.held.key.0).field("is_probe", &self.is_probe).finish()
    }
}
