//! One place in the pool: a source, the key that it gave, and what is known of that key.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ApiKey, KeySource, KeyState, Token, file::Stamp, placement::Credential, pool::Pool, snapshot::KeySnapshot,
};
use crate::{ApiError, Lease};

/// How often a file is looked at.
const WATCH: Duration = Duration::from_secs(1);
/// The longest between two tries of a source that fails.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long before its expiry a token is renewed, at the most.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// A key from when its source gave it, or it was lent anew, until it is refused or replaced.
///
/// Each call holds one, so the references are the calls outstanding.
pub(super) struct Held {
    pub(super) key: Arc<(ApiKey, Credential)>,
    pub(super) lease: Lease,
    pub(super) pool: Weak<Pool>,
    pub(super) slot: usize,
    /// Whether the server has taken it.
    proven: AtomicBool,
    /// Whether the server has refused it: that many calls hear of it makes it no more than one failure.
    rejected: AtomicBool,
}

impl Held {
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Whether this is the first refusal of it.
    pub(super) fn is_first_refusal(&self) -> bool {
        !self.rejected.swap(true, Ordering::Relaxed)
    }
}

pub(super) struct Slot {
    source: KeySource,
    /// What names its quota to meters, once there was a key: it stays when that is replaced.
    number: Option<u32>,
    pub(super) held: Option<Arc<Held>>,
    pub(super) outage: Option<Outage>,
    cooling_until: Option<Instant>,
    expires_at: Option<Instant>,
    /// The order in which keys of equal merit take turns.
    pub(super) last_lent: u64,
    fetch: Fetch,
}

/// A key that the server does not serve now.
pub(super) struct Outage {
    pub(super) state: KeyState,
    pub(super) answer: Answer,
    /// When one call is let through to look; `None` for never.
    pub(super) back_at: Option<Instant>,
    /// Whether one call looks.
    pub(super) probed: bool,
    /// The number of the call that looks, or that looked last and was refused.
    pub(super) looker: Option<u64>,
}

/// What the server said of a key.
pub(super) struct Answer {
    /// As it came: what is heard of it by another way is known by it, and nothing of it is shown.
    told: ApiError,
    /// Without any key.
    pub(super) error: ApiError,
}

impl Answer {
    pub(super) fn new(told: ApiError, error: ApiError) -> Self {
        Self { told, error }
    }

    /// Whether it is this very answer, and not one with the same words.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.told.is_same(&other.told)
    }
}

/// How the source is doing.
#[derive(Default)]
struct Fetch {
    under_way: bool,
    /// Not before: it has failed.
    pause_until: Option<Instant>,
    /// When it is to be asked though there is a key.
    due_at: Option<Instant>,
    /// How often in a row it gave nothing new though a key was needed.
    failures: u32,
    /// How many keys in a row were refused before the server had taken one.
    deaths: u32,
    /// It was begun before the server refused the key, and knows nothing of that.
    is_outdated: bool,
    error: Option<Arc<str>>,
    stamp: Option<Stamp>,
}

impl Slot {
    pub(super) fn new(source: KeySource) -> Self {
        Self {
            source,
            number: None,
            held: None,
            outage: None,
            cooling_until: None,
            expires_at: None,
            last_lent: 0,
            fetch: Fetch::default(),
        }
    }

    pub(super) fn source(&self) -> &KeySource {
        &self.source
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.fetch.stamp
    }

    /// Takes a key into use.
    pub(super) fn hold(&mut self, key: Arc<(ApiKey, Credential)>, pool: Weak<Pool>, slot: usize) -> &Arc<Held> {
        let lease = Lease::new(*self.number.get_or_insert_with(|| self.source.number(&key.0)));
        self.held.insert(Arc::new(Held {
            key,
            lease,
            pool,
            slot,
            proven: AtomicBool::default(),
            rejected: AtomicBool::default(),
        }))
    }

    pub(super) fn set_stamp(&mut self, stamp: Option<Stamp>) {
        self.fetch.stamp = stamp;
    }

    /// Whether its key stays as it is until the server refuses it, so that nothing need be asked before it is lent.
    pub(super) fn is_steady(&self) -> bool {
        self.outage.is_none() && self.expires_at.is_none() && !self.source.is_watched()
    }

    pub(super) fn is_current(&self, held: &Arc<Held>) -> bool {
        self.held.as_ref().is_some_and(|current| Arc::ptr_eq(current, held))
    }

    pub(super) fn outstanding(&self) -> usize {
        self.held.as_ref().map_or(0, |held| Arc::strong_count(held) - 1)
    }

    pub(super) fn is_sound(&self, now: Instant) -> bool {
        self.held.is_some() && self.outage.is_none() && !self.is_expired(now)
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Until when it is to be spared; now if it need not be.
    pub(super) fn cooling_until(&self, now: Instant) -> Instant {
        self.cooling_until.map_or(now, |until| until.max(now))
    }

    pub(super) fn cool(&mut self, until: Option<Instant>) {
        self.cooling_until = self.cooling_until.max(until);
    }

    /// Whether one call may look how the key is now.
    pub(super) fn is_probe_due(&self, now: Instant) -> bool {
        let outage = self.outage.as_ref().filter(|outage| !outage.probed && !self.is_expired(now));
        outage.and_then(|outage| outage.back_at).is_some_and(|back_at| back_at <= now)
    }

    pub(super) fn looker(&self) -> Option<u64> {
        self.outage.as_ref().and_then(|outage| outage.looker)
    }

    fn needs_key(&self, now: Instant) -> bool {
        let is_dead = self.outage.as_ref().is_some_and(|outage| outage.state == KeyState::Rejected);
        self.held.is_none() || is_dead || self.is_expired(now)
    }

    /// Whether its source may be asked now for a key that is needed, or is being asked.
    pub(super) fn may_get_key(&self, now: Instant) -> bool {
        self.source.can_change() && self.needs_key(now) && (self.fetch.under_way || self.is_fetch_allowed(now))
    }

    fn is_fetch_allowed(&self, now: Instant) -> bool {
        self.fetch.pause_until.is_none_or(|until| until <= now)
    }

    /// Whether the source is to be asked ahead of need, or looked at.
    pub(super) fn is_fetch_due(&self, now: Instant) -> bool {
        let is_watched = self.source.is_watched();
        // A file's first look is due at once; and to look at one costs too little to wait.
        self.fetch.due_at.map_or(is_watched, |due_at| due_at <= now) && (is_watched || self.is_fetch_allowed(now))
    }

    /// Whether the caller is to ask the source now: nobody does yet.
    pub(super) fn begin_fetch(&mut self, now: Instant) -> bool {
        if self.source.is_watched() {
            self.fetch.due_at = now.checked_add(WATCH);
        }
        !std::mem::replace(&mut self.fetch.under_way, true)
    }

    /// The source has answered. Whether it was asked since the key was refused: else it is asked again, at once.
    fn end_fetch(&mut self) -> bool {
        self.fetch.under_way = false;
        !std::mem::take(&mut self.fetch.is_outdated)
    }

    /// The source gave this key. `true` if it is another one, which the caller is to take into use.
    pub(super) fn fetched(&mut self, token: &Token, stamp: Option<Stamp>, now: Instant) -> bool {
        let is_answer = self.end_fetch();
        self.fetch.error = None;
        // What was read before the refusal is to be read once more, however the file looks.
        self.fetch.stamp = stamp.filter(|_| is_answer);
        if let Some(lifetime) = token.lifetime {
            self.expires_at = now.checked_add(lifetime);
            self.fetch.due_at = now.checked_add(lifetime - (lifetime / 5).min(MAX_AHEAD));
        } else if !self.source.is_watched() {
            (self.expires_at, self.fetch.due_at) = (None, None);
        }
        let is_same = self.held.as_ref().is_some_and(|held| held.key.0.is_same(&token.key));
        if is_same && self.outage.as_ref().is_some_and(|outage| outage.state == KeyState::Rejected) {
            // It has nothing better; asking it with every call would not help.
            if is_answer {
                self.pause(now);
            }
        } else if !is_same {
            (self.outage, self.cooling_until) = (None, None);
            (self.fetch.failures, self.fetch.pause_until) = (0, None);
        } else {
            self.fetch.failures = 0;
        }
        !is_same
    }

    pub(super) fn unchanged(&mut self, now: Instant) {
        if self.end_fetch() && self.needs_key(now) {
            self.pause(now);
        }
    }

    pub(super) fn fetch_failed(&mut self, error: Arc<str>, now: Instant) {
        self.end_fetch();
        self.fetch.error = Some(error);
        self.pause(now);
    }

    /// 1 s after the first failure, 2, 4 …
    fn pause(&mut self, now: Instant) {
        let before = self.fetch.failures.max(self.fetch.deaths);
        let pause = Duration::from_secs(1 << before.min(6)).min(MAX_PAUSE);
        self.fetch.failures = self.fetch.failures.saturating_add(1);
        self.fetch.pause_until = now.checked_add(pause);
    }

    /// The server has taken the key.
    pub(super) fn proven(&mut self) {
        if let Some(held) = &self.held {
            held.proven.store(true, Ordering::Relaxed);
        }
        (self.fetch.failures, self.fetch.deaths, self.fetch.pause_until) = (0, 0, None);
    }

    /// The server has refused the key.
    pub(super) fn reject(&mut self, answer: Answer, back_at: Option<Instant>, now: Instant) {
        let was_probed = self.outage.as_ref().is_some_and(|outage| outage.state == KeyState::Rejected);
        // Of a file all is to be read, however it looks.
        self.fetch.stamp = None;
        self.fetch.is_outdated = self.fetch.under_way;
        // Keys that die as fast as they come are asked for ever more slowly; the first time, at once.
        if self.held.as_ref().is_some_and(|held| held.is_proven()) {
            (self.fetch.failures, self.fetch.deaths, self.fetch.pause_until) = (0, 0, None);
        } else {
            if self.fetch.deaths > 0 || was_probed {
                self.pause(now);
            }
            self.fetch.deaths = self.fetch.deaths.saturating_add(1);
        }
        let looker = self.looker();
        self.outage = Some(Outage { state: KeyState::Rejected, answer, back_at, probed: false, looker });
    }

    /// When it is of use again, where that is known.
    pub(super) fn back_in(&self, now: Instant) -> Option<Duration> {
        let wait = |at: Instant| at.saturating_duration_since(now);
        // While one call looks, nobody knows: "at once" would make who believes it spin.
        let probe = self.outage.as_ref().filter(|outage| !outage.probed).and_then(|outage| outage.back_at);
        let is_asked = self.source.can_change() && self.needs_key(now) && !self.fetch.under_way;
        let fetch = self.fetch.pause_until.filter(|_| is_asked);
        probe.into_iter().chain(fetch).min().map(wait)
    }

    pub(super) fn snapshot(&self, now: Instant) -> KeySnapshot {
        let state = match &self.outage {
            Some(outage) => outage.state,
            None if self.held.is_none() || self.is_expired(now) => KeyState::Missing,
            None if self.cooling_until.is_some_and(|until| until > now) => KeyState::Cooling,
            None => KeyState::Sound,
        };
        let cooling = self.cooling_until.map(|until| until.saturating_duration_since(now));
        KeySnapshot {
            fingerprint: self.held.as_ref().map(|held| held.key.0.fingerprint()),
            quota: self.number.map(|number| format!("{number:08x}")),
            state,
            outstanding: self.outstanding(),
            back_in: match state {
                KeyState::Sound => None,
                KeyState::Cooling => cooling,
                _ => self.back_in(now),
            },
            error: self.outage.as_ref().map(|outage| outage.answer.error.clone()),
            source_error: self.fetch.error.clone(),
        }
    }
}
