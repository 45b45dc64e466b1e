//! The scopes in use: found by hash, bounded, the idle ones forgotten.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::{
    RequestView, ScopeName, Settings,
    book::Book,
    parts::{Key, LONGEST, github_resource, host, named_outside},
    scope::Scope,
    scoping::{By, Parts, Scoping},
};

/// A scope that nobody used for so long is forgotten when a new one needs room, or, twice as late, when any new one comes.
const IDLE: Duration = Duration::from_secs(3600);
/// One in so many scopes is looked out at once as to be forgotten, so that one look over all serves for many newcomers.
const PART: usize = 16;
#[derive(Debug)]
pub(super) struct Scopes {
    settings: Settings,
    book: Arc<Book>,
    hash: RandomState,
    found: Found,
}

#[derive(Debug)]
enum Found {
    One(Arc<Scope>),
    Many(Mutex<Map>),
}

#[derive(Debug, Default)]
struct Map {
    places: HashMap<u64, Place, foldhash::fast::RandomState>,
    /// Counts the look-ups.
    ticks: u64,
    swept: Option<(Instant, u64)>,
    overflow: Option<Place>,
    /// Which one a call used last; `None` for the overflow.
    latest: Option<u64>,
    /// Those to be forgotten next: where, and as of which use.
    next: VecDeque<(u64, u64)>,
    /// Until then no look over all: none was free.
    barren_until: u64,
}

#[derive(Debug)]
struct Place {
    scope: Arc<Scope>,
    /// When a call used it last; 0 if none has.
    used: u64,
}

/// Why a scope is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A call is made.
    Call,
    /// A permit is asked for.
    Permit,
    /// Nothing is to be taken of it: none is made.
    Look,
}

/// By what a scope is found and known.
struct Address<'a> {
    id: u64,
    host: Cow<'a, str>,
    model: &'a str,
    own: Cow<'a, str>,
    key: Option<Key<'a>>,
}

impl Address<'_> {
    #[inline]
    fn is_of(&self, name: &ScopeName) -> bool {
        name.host() == self.host && name.model() == self.model && name.own() == self.own
    }

    fn name(&self) -> ScopeName {
        ScopeName::new(&self.host, self.model, &self.own, self.key.as_ref().map(Key::fingerprint))
    }
}

/// Where a call will be counted, as far as can be told before it comes.
pub(super) enum Foreseen {
    In(Arc<Scope>),
    /// A `KeyCheck` further in will say which: the request names no key yet, or no host.
    OneOf(Vec<Arc<Scope>>),
    /// In one that there is not yet.
    New(ScopeName),
}

impl Scopes {
    pub(super) fn new(settings: Settings, book: Arc<Book>) -> Self {
        let found = match settings.scoping.0 {
            By::Parts(Parts { host: false, key: false, model: false, github: false }) => {
                Found::One(Scope::new(ScopeName::default(), settings.clone(), Arc::clone(&book)))
            }
            _ => Found::Many(Mutex::default()),
        };
        Self { settings, book, hash: RandomState::default(), found }
    }

    pub(super) fn one(&self) -> Option<&Arc<Scope>> {
        match &self.found {
            Found::One(scope) => Some(scope),
            Found::Many(_) => None,
        }
    }

    /// The model, where it tells scopes apart and is known without the body.
    pub(super) fn model_outside<'a>(&self, request: &RequestView<'a>) -> Option<&'a str> {
        match &self.settings.scoping.0 {
            By::Parts(parts) if parts.github => Some(github_resource(request.uri().path())),
            By::Parts(parts) if parts.model => named_outside(request),
            _ => None,
        }
    }

    /// Whether the body has to be looked at to know the scope of a request with this model.
    pub(super) fn reads_body(&self, model: Option<&str>) -> bool {
        match &self.settings.scoping.0 {
            By::Parts(parts) => parts.model && model.is_none(),
            By::Function(_) => true,
        }
    }

    /// Whether it has to be read as JSON.
    pub(super) fn reads_content(&self, model: Option<&str>) -> bool {
        matches!(self.settings.scoping, Scoping(By::Parts(_))) && self.reads_body(model)
    }

    pub(super) fn find(&self, request: &RequestView<'_>, model: Option<&str>) -> Arc<Scope> {
        match &self.found {
            Found::One(scope) => Arc::clone(scope),
            Found::Many(map) => self.look_up(map, &self.address(request, model), Purpose::Call),
        }
    }

    /// Where a call like this one would be counted. A scope is made only for a permit, and only where it is the one that the
    /// call will be in.
    pub(super) fn foresee(&self, request: &RequestView<'_>, model: Option<&str>, purpose: Purpose) -> Foreseen {
        let found = match &self.found {
            Found::One(scope) => return Foreseen::In(Arc::clone(scope)),
            Found::Many(map) => map,
        };
        let address = self.address(request, model);
        let name = address.name();
        let (lacks_host, lacks_key) = match &self.settings.scoping.0 {
            By::Parts(parts) => (parts.host && name.host().is_empty(), parts.key && address.key.is_none()),
            By::Function(_) => (false, false),
        };
        let map = lock(found);
        if let Some(place) = map.at(&address).and_then(|id| map.places.get(&id)) {
            return Foreseen::In(Arc::clone(&place.scope));
        }
        let is_like_it = |other: &ScopeName| {
            (other.model(), other.own()) == (name.model(), name.own())
                && (lacks_host || other.host() == name.host())
                && (lacks_key || other.key_number() == name.key_number())
        };
        let like_it = map.places.values().map(|place| &place.scope).filter(|scope| is_like_it(scope.name()));
        let like_it: Vec<_> = like_it.cloned().collect();
        if !like_it.is_empty() {
            return Foreseen::OneOf(like_it);
        }
        if let Some(overflow) = map.overflow.as_ref().filter(|_| map.places.len() >= self.settings.max_scopes.get()) {
            return Foreseen::In(Arc::clone(&overflow.scope));
        }
        drop(map);
        if purpose == Purpose::Look || lacks_host || lacks_key {
            return Foreseen::New(name);
        }
        Foreseen::In(self.look_up(found, &address, purpose))
    }

    /// One that nobody else finds.
    pub(super) fn apart(&self, name: ScopeName) -> Arc<Scope> {
        Scope::new(name, self.settings.clone(), Arc::clone(&self.book))
    }

    fn address<'a>(&self, request: &RequestView<'a>, model: Option<&'a str>) -> Address<'a> {
        let mut hasher = self.hash.build_hasher();
        match &self.settings.scoping.0 {
            By::Parts(parts) => {
                let host = if parts.host { host(request) } else { "".into() };
                let model =
                    model.filter(|model| (parts.model || parts.github) && model.len() <= LONGEST).unwrap_or_default();
                let key = if parts.key { Key::of(request) } else { None };
                hasher.write(host.as_bytes());
                hasher.write_u8(0xff);
                hasher.write(model.as_bytes());
                let before = hasher.finish();
                let id = key.as_ref().map_or(before, |key| {
                    key.hash(&mut hasher);
                    hasher.finish()
                });
                Address { id, host, model, own: "".into(), key }
            }
            By::Function(choose) => {
                let own = choose(request);
                hasher.write(own.as_bytes());
                Address { id: hasher.finish(), host: "".into(), model: "", own, key: None }
            }
        }
    }

    fn look_up(&self, map: &Mutex<Map>, address: &Address<'_>, purpose: Purpose) -> Arc<Scope> {
        let mut id = address.id;
        let forgotten;
        let mut map = lock(map);
        map.ticks += 1;
        let used = if purpose == Purpose::Call { map.ticks } else { 0 };
        while let Some(place) = map.places.get_mut(&id) {
            if address.is_of(place.scope.name()) {
                place.used = place.used.max(used);
                let scope = Arc::clone(&place.scope);
                if used > 0 {
                    map.latest = Some(id);
                }
                return scope;
            }
            id = id.wrapping_add(1);
        }
        let most = self.settings.max_scopes.get();
        // Dropped only when the lock is: it is counted then, and somebody may be told.
        forgotten = map.make_room(most);
        if map.places.len() >= most {
            let place = map.overflow.get_or_insert_with(|| Place { scope: self.apart(ScopeName::overflow()), used: 0 });
            place.used = place.used.max(used);
            let scope = Arc::clone(&place.scope);
            if used > 0 {
                map.latest = None;
            }
            return scope;
        }
        let scope = self.apart(address.name());
        map.places.insert(id, Place { scope: Arc::clone(&scope), used });
        if used > 0 {
            map.latest = Some(id);
        }
        drop(map);
        drop(forgotten);
        scope
    }

    /// All there are, the one used last first.
    pub(super) fn all(&self) -> Vec<Arc<Scope>> {
        match &self.found {
            Found::One(scope) => vec![Arc::clone(scope)],
            Found::Many(map) => {
                let mut all: Vec<_> = {
                    let map = lock(map);
                    let places = map.places.values().chain(&map.overflow);
                    places.map(|place| (place.used, Arc::clone(&place.scope))).collect()
                };
                // Not under the lock that every call takes.
                all.sort_unstable_by_key(|(used, _)| std::cmp::Reverse(*used));
                all.into_iter().map(|(_, scope)| scope).collect()
            }
        }
    }

    /// The one used last; one that nobody uses, if none was.
    pub(super) fn latest(&self) -> Arc<Scope> {
        let latest = match &self.found {
            Found::One(scope) => return Arc::clone(scope),
            Found::Many(map) => {
                let map = lock(map);
                let place = map.latest.map_or(map.overflow.as_ref(), |id| map.places.get(&id));
                place.filter(|place| place.used > 0).map(|place| Arc::clone(&place.scope))
            }
        };
        latest.unwrap_or_else(|| self.apart(ScopeName::default()))
    }
}

fn lock(map: &Mutex<Map>) -> MutexGuard<'_, Map> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Map {
    /// Where the scope with this address is, if there is one.
    fn at(&self, address: &Address<'_>) -> Option<u64> {
        let mut id = address.id;
        while !address.is_of(self.places.get(&id)?.scope.name()) {
            id = id.wrapping_add(1);
        }
        Some(id)
    }

    /// Forgets what nobody used since the sweep before the last, and, where that is not enough, what was not used for
    /// longest. What has calls waiting or under way is held by them, and stays.
    fn make_room(&mut self, most: usize) -> Vec<Arc<Scope>> {
        let mut forgotten = Vec::new();
        let now = Instant::now();
        let is_free = |place: &Place| Arc::strong_count(&place.scope) == 1;
        match self.swept {
            Some((at, ticks)) if now.saturating_duration_since(at) >= IDLE => {
                let idle = self.places.extract_if(|_, place| place.used <= ticks && is_free(place));
                forgotten.extend(idle.map(|(_, place)| place.scope));
                self.swept = Some((now, self.ticks));
            }
            None => self.swept = Some((now, self.ticks)),
            Some(_) => {}
        }
        if self.places.len() >= most {
            if self.next.is_empty() && self.ticks >= self.barren_until {
                self.look_out(most / PART);
            }
            while let Some((id, used)) = self.next.pop_front() {
                if self.places.get(&id).is_some_and(|place| place.used == used && is_free(place)) {
                    forgotten.extend(self.places.remove(&id).map(|place| place.scope));
                    break;
                }
            }
        }
        forgotten
    }

    /// Looks out so many as were not used for longest, and one more. Where none is free the next look is as far away, so that a
    /// newcomer costs the same however many scopes there are.
    #[cold]
    fn look_out(&mut self, more: usize) {
        let is_free = |place: &Place| Arc::strong_count(&place.scope) == 1;
        let mut free: Vec<_> =
            self.places.iter().filter(|(_, place)| is_free(place)).map(|(id, place)| (place.used, *id)).collect();
        if free.len() > more + 1 {
            free.select_nth_unstable(more);
            free.truncate(more + 1);
        }
        free.sort_unstable();
        self.next = free.into_iter().map(|(used, id)| (id, used)).collect();
        if self.next.is_empty() {
            self.barren_until = self.ticks.saturating_add(more as u64);
        }
    }
}
