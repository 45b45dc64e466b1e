//! The keys of a layer, shared by its services, and the asking of their sources.

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
    ApiKey, Elsewhere, KeySnapshot, KeySource, Origin, Placement, conceal, fetch, issuer,
    lending::{Lent, State, ToFetch},
    placement::Credential,
    slot::{Held, Slot},
};
use crate::{Call, Refused};

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
            let state = Mutex::new(State::new(slots.collect()));
            Self { me: me.clone(), state, fetched: Arc::default(), settings }
        })
    }

    pub(super) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    /// Told when next a source has answered.
    pub(super) fn next_answer(&self) -> OwnedNotified {
        Arc::clone(&self.fetched).notified_owned()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a key for one call: that with the number wished for, if it is sound, or else the best. A call that can go again
    /// may look at a key that is out of use though others are sound.
    pub(super) fn lend(&self, call: Option<&Call>, wished: Option<u32>) -> Lent {
        let now = Instant::now();
        let mut to_fetch = ToFetch::new();
        let lent = self.state().lend(self, call, wished, now, &mut to_fetch);
        self.fetch(to_fetch);
        lent
    }

    /// The key that a call would get that came now, if it is there.
    #[cfg(feature = "stack")]
    pub(super) fn next(&self) -> Option<Arc<Held>> {
        self.state().next(Instant::now())
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

fn held_key(settings: &Settings, key: ApiKey) -> Arc<(ApiKey, Credential)> {
    let credential = settings.placement.credential(&key);
    Arc::new((key, credential))
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("settings", &self.settings).finish_non_exhaustive()
    }
}
