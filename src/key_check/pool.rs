//! The keys of a layer: which is lent to a call, and what its answers teach.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use super::{
    ApiKey, Elsewhere, KeySnapshot, KeySource, KeyState, NoSoundKey, Origin, Placement, conceal, fetch, issuer,
    placement::Credential,
    slot::{Held, Outage, Slot},
};
use crate::{ApiError, Gate, Refused, RetryHint};

/// How long a key is spared after a 429 that says nothing of time.
const COOLING: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) sources: Vec<KeySource>,
    pub(super) origin: Origin,
    pub(super) placement: Placement,
    pub(super) elsewhere: Elsewhere,
    pub(super) replaces_own: bool,
    pub(super) marks: bool,
    pub(super) recheck: Duration,
    pub(super) spent_recheck: Duration,
    pub(super) source_timeout: Duration,
    /// Whether a key that is odd is none.
    pub(super) denies_warnings: bool,
}

/// Shared by all services of a layer.
pub(super) struct Pool {
    pub(super) settings: Settings,
    me: Weak<Self>,
    state: Mutex<State>,
    /// Told whenever a source has answered.
    fetched: Arc<Notify>,
}

struct State {
    slots: Vec<Slot>,
    /// Counts what was lent, for keys of equal merit to take turns.
    turn: u64,
}

/// What a call gets that asks for a key.
pub(super) enum Lent {
    Now(Loan),
    /// A source is being asked; then it is to ask again.
    Later(OwnedNotified),
    Refused(Refused),
}

/// Which slots' sources are to be asked, once the lock is released.
type ToFetch = Vec<usize>;

impl Pool {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            let slots = settings.sources.iter().enumerate().map(|(number, source)| {
                let mut slot = Slot::new(source.clone());
                if let Some((key, stamp)) = source.first() {
                    slot.hold(held_key(&settings, key), me.clone(), number);
                    slot.set_stamp(stamp);
                }
                slot
            });
            let state = State { slots: slots.collect(), turn: 0 };
            Self { me: me.clone(), state: Mutex::new(state), fetched: Arc::default(), settings }
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a key for one call; one that can go again (`may_look`) may look at a key that is out of use though others
    /// are sound.
    pub(super) fn lend(&self, may_look: bool) -> Lent {
        let now = Instant::now();
        let mut to_fetch = ToFetch::new();
        let lent = self.state().lend(self, may_look, now, &mut to_fetch);
        self.fetch(to_fetch);
        lent
    }

    /// Called without the lock: a source may answer at once.
    fn fetch(&self, slots: ToFetch) {
        for slot in slots {
            let (source, stamp) = {
                let state = self.state();
                let Some(slot) = state.slots.get(slot) else { continue };
                (slot.source().clone(), slot.stamp())
            };
            if let Some(pool) = self.me.upgrade() {
                fetch::start(pool, slot, source, stamp);
            }
        }
    }

    /// A source has answered; `Ok(None)` if nothing has changed.
    pub(super) fn fetched(&self, slot: usize, result: Result<Option<fetch::Given>, Arc<str>>) {
        let now = Instant::now();
        {
            let mut state = self.state();
            let result = result.and_then(|given| self.without_warning(given));
            let known = if result.is_err() { state.keys() } else { Vec::new() };
            if let Some(place) = state.slots.get_mut(slot) {
                match result {
                    Ok(Some((token, stamp))) => {
                        if place.fetched(&token, stamp, now) {
                            #[cfg(feature = "tracing")]
                            tracing::info!(key = token.key.fingerprint(), "a new key is in use");
                            place.hold(held_key(&self.settings, token.key), self.me.clone(), slot);
                        }
                    }
                    Ok(None) => place.unchanged(now),
                    Err(error) => {
                        let error = conceal::in_text(&error, &known).map_or(error, Into::into);
                        #[cfg(feature = "tracing")]
                        tracing::warn!(%error, "the source of a key gave none");
                        place.fetch_failed(error, now);
                    }
                }
            }
        }
        self.fetched.notify_waiters();
    }

    /// What a source gave, if it is not odd, or may be.
    fn without_warning(&self, given: Option<fetch::Given>) -> Result<Option<fetch::Given>, Arc<str>> {
        let key = given.as_ref().map(|(token, _)| &token.key);
        let Some(warning) = key.and_then(|key| issuer::warning(key, &self.settings.origin)) else { return Ok(given) };
        if self.settings.denies_warnings {
            return Err(warning.to_string().into());
        }
        #[cfg(feature = "tracing")]
        tracing::warn!("{warning}");
        Ok(given)
    }

    /// The key in use, if there is but one and nothing needs to be asked before it is lent.
    pub(super) fn steady(&self) -> Option<Arc<Held>> {
        match &*self.state().slots {
            [slot] if slot.is_steady() => slot.held.clone().filter(|held| held.lease.is_alive()),
            _ => None,
        }
    }

    pub(super) fn keys(&self) -> Vec<ApiKey> {
        self.state().keys()
    }

    pub(super) fn snapshot(&self) -> Vec<KeySnapshot> {
        self.state().snapshot(Instant::now())
    }

    /// Why a call is refused now.
    pub(super) fn refusal(&self) -> Refused {
        self.state().refusal(Instant::now())
    }
}

impl State {
    fn keys(&self) -> Vec<ApiKey> {
        self.slots.iter().filter_map(|slot| Some(slot.held.as_ref()?.key.0.clone())).collect()
    }

    fn snapshot(&self, now: Instant) -> Vec<KeySnapshot> {
        self.slots.iter().map(|slot| slot.snapshot(now)).collect()
    }

    fn refusal(&self, now: Instant) -> Refused {
        let wait = self.slots.iter().filter_map(|slot| slot.back_in(now)).min();
        Refused::new(Gate::Key, wait, NoSoundKey { keys: self.snapshot(now) })
    }

    fn lend(&mut self, pool: &Pool, may_look: bool, now: Instant, to_fetch: &mut ToFetch) -> Lent {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.is_fetch_due(now) && slot.begin_fetch(now) {
                to_fetch.push(number);
            }
        }
        let probe = self.slots.iter().position(|slot| slot.is_probe_due(now));
        if let Some(best) = self.best(now) {
            // Who can go again loses nothing if the key is still out of use: it goes with another.
            return match probe.filter(|_| may_look) {
                Some(probe) => self.lend_probe(pool, probe),
                None => self.lend_slot(best),
            };
        }
        let mut is_asked = false;
        // Made before the sources are asked, so that no answer is missed.
        let later = Arc::clone(&pool.fetched).notified_owned();
        for (number, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.may_get_key(now)) {
            is_asked = true;
            if slot.begin_fetch(now) {
                to_fetch.push(number);
            }
        }
        match probe {
            _ if is_asked => Lent::Later(later),
            Some(probe) => self.lend_probe(pool, probe),
            None => Lent::Refused(self.refusal(now)),
        }
    }

    /// The sound key that cools off first, has the fewest calls outstanding, and was lent the longest ago.
    fn best(&self, now: Instant) -> Option<usize> {
        let sound = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_sound(now));
        let best = sound.min_by_key(|(_, slot)| (slot.cooling_until(now), slot.outstanding(), slot.last_lent));
        best.map(|(number, _)| number)
    }

    fn lend_slot(&mut self, number: usize) -> Lent {
        self.turn += 1;
        let turn = self.turn;
        let held = self.slots.get_mut(number).and_then(|slot| {
            slot.last_lent = turn;
            slot.held.clone()
        });
        match held {
            Some(held) => Lent::Now(Loan::of(held)),
            None => Lent::Refused(self.refusal(Instant::now())),
        }
    }

    fn lend_probe(&mut self, pool: &Pool, number: usize) -> Lent {
        if let Some(slot) = self.slots.get_mut(number)
            && let (Some(held), Some(outage)) = (slot.held.clone(), &mut slot.outage)
        {
            outage.probed = true;
            // A lease of its own: the old one has ended.
            slot.hold(Arc::clone(&held.key), pool.me.clone(), number);
        }
        let mut lent = self.lend_slot(number);
        if let Lent::Now(loan) = &mut lent {
            loan.is_probe = true;
        }
        lent
    }

    fn others(&self, number: usize) -> impl Iterator<Item = &Slot> {
        self.slots.iter().enumerate().filter(move |(other, _)| *other != number).map(|(_, slot)| slot)
    }

    /// Whether a call that comes now gets a key, or one is on the way.
    fn has_prospect(&self, now: Instant) -> bool {
        self.slots.iter().any(|slot| slot.is_sound(now) || slot.may_get_key(now) || slot.is_probe_due(now))
    }
}

fn held_key(settings: &Settings, key: ApiKey) -> Arc<(ApiKey, Credential)> {
    let credential = settings.placement.credential(&key);
    Arc::new((key, credential))
}

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
    pub(super) fn rejected(&mut self, error: &ApiError) -> bool {
        self.out_of_use(KeyState::Rejected, error)
    }

    /// The key's quota is used up. Whether the call can go with another.
    pub(super) fn spent(&mut self, error: &ApiError) -> bool {
        self.out_of_use(KeyState::Spent, error)
    }

    fn out_of_use(&mut self, state_of_key: KeyState, error: &ApiError) -> bool {
        self.is_probe = false;
        let now = Instant::now();
        let has_prospect = self.with(|pool, state| {
            // A call that left before the key was replaced, or found well again, says nothing of it now.
            if let Some(slot) = state.slots.get_mut(self.held.slot).filter(|slot| slot.is_current(&self.held)) {
                #[cfg(feature = "tracing")]
                tracing::warn!(key = self.held.key.0.fingerprint(), state = ?state_of_key, %error, "a key is out of use");
                let settings = &pool.settings;
                match state_of_key {
                    KeyState::Rejected if self.held.is_first_refusal() => {
                        slot.reject(error.clone(), now.checked_add(settings.recheck), now);
                    }
                    KeyState::Rejected => {}
                    _ => {
                        let wait = match error.retry() {
                            RetryHint::After(hint) => hint,
                            _ => settings.spent_recheck,
                        };
                        let (error, back_at) = (error.clone(), now.checked_add(wait));
                        slot.outage = Some(Outage { state: state_of_key, error, back_at, probed: false });
                    }
                }
            }
            state.has_prospect(now)
        });
        // After the state: whoever turns back finds it as it is.
        self.held.lease.end();
        has_prospect.unwrap_or(false)
    }

    /// Whether there is another key that is sound.
    pub(super) fn has_another(&self) -> bool {
        let now = Instant::now();
        self.with(|_, state| state.others(self.held.slot).any(|slot| slot.is_sound(now))).unwrap_or(false)
    }

    /// The server asked for a pause. Whether another key could serve the call now.
    pub(super) fn limited(&mut self, error: &ApiError) -> bool {
        let now = Instant::now();
        let pause = match error.retry() {
            RetryHint::After(hint) => hint,
            _ => COOLING,
        };
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
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.is_probe {
            self.with(|_, state| {
                let slot = state.slots.get_mut(self.held.slot).filter(|slot| slot.is_current(&self.held));
                if let Some(outage) = slot.and_then(|slot| slot.outage.as_mut()) {
                    outage.probed = false;
                }
            });
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("key", &self.held.key.0).field("is_probe", &self.is_probe).finish()
    }
}
