//! [`LastGood`]: the last good answer to the same request.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
    header::{
        ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, CONNECTION, RANGE, SET_COOKIE, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE, VARY,
    },
};
use tokio::time::Instant;

use super::record::Recorder;
use crate::{error::tells_callers_apart, kept::Kept};

/// Keeps good answers, to give them again when the same request fails: `stale-if-error`.
///
/// Requests are the same by method, URI, body, by each header that tells who asks (`Authorization`, `x-api-key`, `Cookie`
/// and the like, organization and project, all that is marked sensitive), by what they accept, and by the headers that the
/// answer's `Vary` names. Kept is what has a status of 2xx (but 206), no `Vary: *`, no `Cache-Control: no-store` on either
/// side, a request body in memory, and was read to its end by its caller; an event stream only if it told of no error.
/// `Cache-Control: private` is no hindrance: the answer goes to who asked for it. `Set-Cookie` is left out. The oldest goes
/// first. Clones share what they keep.
///
/// A caller whose credential is in a header of another name is told apart by marking that value
/// [sensitive](HeaderValue::set_sensitive).
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::fallback::LastGood;
///
/// let last_good = LastGood::new().max_age(Duration::from_secs(600)).max_bytes(16 << 20);
/// assert!(last_good.is_empty());
/// ```
#[derive(Clone)]
pub struct LastGood {
    settings: Settings,
    store: Arc<Mutex<Store>>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    max_age: Duration,
    max_bytes: usize,
    pub(super) max_answer: usize,
    max_answers: usize,
}

/// What an answer takes beside its bytes: its places in the maps, and the headers' own map.
const ENTRY: usize = 512;
/// What a header takes beside its bytes.
const HEADER: usize = 128;

/// Names and values of headers.
type Fields = Vec<(HeaderName, HeaderValue)>;

/// What tells requests apart.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    method: Method,
    uri: Uri,
    body: Bytes,
    /// Who asks, and what is accepted, by name: nobody gets an answer that was for another.
    told: Fields,
}

impl Key {
    /// In buffers of its own: what came with the request may be a corner of a connection's large buffer.
    fn copied(self) -> Self {
        Self {
            uri: self.uri.to_string().parse().unwrap_or(self.uri),
            body: Bytes::copy_from_slice(&self.body),
            told: copied(self.told),
            method: self.method,
        }
    }

    fn bytes(&self) -> usize {
        // The authority is seldom long, and copied along.
        let authority = self.uri.authority().map_or(0, |authority| authority.as_str().len());
        let uri = authority + self.uri.path().len() + self.uri.query().map_or(0, str::len);
        self.body.len() + uri + bytes(self.told.iter().map(|(name, value)| (name, value)))
    }
}

fn copied(fields: Fields) -> Fields {
    fields.into_iter().map(|(name, value)| (name, copy(&value))).collect()
}

fn copy(value: &HeaderValue) -> HeaderValue {
    let mut own = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
    own.set_sensitive(value.is_sensitive());
    own
}

fn bytes<'a>(headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> usize {
    headers.map(|(name, value)| name.as_str().len() + value.len() + HEADER).sum()
}

#[derive(Default)]
struct Store {
    answers: HashMap<Arc<Key>, Answer>,
    /// Oldest first.
    ages: BTreeMap<u64, Arc<Key>>,
    next: u64,
    bytes: usize,
}

struct Answer {
    number: u64,
    at: Instant,
    bytes: usize,
    head: Head,
    body: Bytes,
}

/// The answer's head, and what of the request's decided on it.
pub(super) struct Head {
    status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The request's headers that `Vary` names, as they were.
    vary: Vec<(HeaderName, Vec<HeaderValue>)>,
}

impl Head {
    fn copied(mut self) -> Self {
        self.headers.values_mut().for_each(|value| *value = copy(value));
        self.vary.iter_mut().flat_map(|(_, values)| values).for_each(|value| *value = copy(value));
        self
    }

    fn bytes(&self) -> usize {
        let vary = self.vary.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        bytes(self.headers.iter()) + bytes(vary) + self.vary.len() * HEADER
    }

    fn is_for(&self, headers: &HeaderMap) -> bool {
        self.vary.iter().all(|(name, values)| headers.get_all(name).iter().eq(values))
    }
}

impl LastGood {
    /// Answers of up to 1 MiB for an hour, 10,000 and 64 MiB in all.
    #[must_use]
    pub fn new() -> Self {
        let max_age = Duration::from_secs(3600);
        let settings = Settings { max_age, max_bytes: 64 << 20, max_answer: 1 << 20, max_answers: 10_000 };
        Self { settings, store: Arc::default() }
    }

    /// How old an answer may be. Default: an hour.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { settings: Settings { max_age, ..self.settings }, ..self }
    }

    /// The most bytes of all answers, with their requests and headers, and what keeping each of them takes. Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { settings: Settings { max_bytes, ..self.settings }, ..self }
    }

    /// The most bytes of one answer's body; a longer one is not kept. Default: 1 MiB.
    #[must_use]
    pub fn max_answer(self, max_answer: usize) -> Self {
        Self { settings: Settings { max_answer, ..self.settings }, ..self }
    }

    /// The most answers that are kept. Default: 10,000.
    #[must_use]
    pub fn max_answers(self, max_answers: usize) -> Self {
        Self { settings: Settings { max_answers, ..self.settings }, ..self }
    }

    /// How many answers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store().answers.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all.
    pub fn clear(&self) {
        *self.store() = Store::default();
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most bytes of one answer's body.
    pub(super) fn most(&self) -> usize {
        self.settings.max_answer.min(self.settings.max_bytes)
    }

    /// What a request is known by; `None` if its body is not in memory.
    pub(super) fn key<B: crate::body::Resend>(kept: &Kept<Option<B>>) -> Option<Key> {
        let is_told = |name: &HeaderName, value: &HeaderValue| {
            value.is_sensitive()
                || [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, RANGE].contains(name)
                || tells_callers_apart(name.as_str())
        };
        let told = kept.headers.iter().filter(|(name, value)| is_told(name, value));
        let mut told: Fields = told.map(|(name, value)| (name.clone(), value.clone())).collect();
        // In whatever order they were put in; those of one name stay in theirs.
        told.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Some(Key { method: kept.method.clone(), uri: kept.uri.clone(), body: kept.body.as_ref()?.in_memory()?, told })
    }

    /// What copies this response on its way to the caller, if it is one to be kept. `asked`: the request's headers.
    pub(super) fn recorder<RB>(&self, key: Key, asked: &HeaderMap, response: &Response<RB>) -> Option<Box<Recorder>> {
        let status = response.status();
        let is_whole = status.is_success() && status != StatusCode::PARTIAL_CONTENT;
        if !is_whole || is_secret(asked) || is_secret(response.headers()) {
            return None;
        }
        let mut vary = Vec::new();
        for name in members(response.headers(), &VARY) {
            // `*`, or no name at all: nobody can tell for whom else it is.
            let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| name.as_str() != "*")?;
            let values = asked.get_all(&name).iter().cloned().collect();
            vary.push((name, values));
        }
        let mut headers = response.headers().clone();
        // Of the connection that it came by, and of one caller's session.
        for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, SET_COOKIE] {
            headers.remove(name);
        }
        Some(Box::new(Recorder::new(key, Head { status, headers, vary }, response, self.clone())))
    }

    /// The answer to this request, and how old it is.
    pub(super) fn answer(&self, key: &Key, asked: &HeaderMap) -> Option<(Response<Bytes>, Duration)> {
        let mut store = self.store();
        let answer = store.answers.get(key)?;
        let age = answer.at.elapsed();
        if age > self.settings.max_age {
            let number = answer.number;
            store.remove(number);
            return None;
        }
        if !answer.head.is_for(asked) {
            return None;
        }
        let mut response = Response::new(answer.body.clone());
        *response.status_mut() = answer.head.status;
        *response.headers_mut() = answer.head.headers.clone();
        Some((response, age))
    }

    pub(super) fn keep(&self, key: Key, head: Head, body: Vec<u8>) {
        let bytes = ENTRY + body.len() + key.bytes() + head.bytes();
        if bytes > self.settings.max_bytes || self.settings.max_answers == 0 {
            return;
        }
        // In one piece, without room to spare.
        let body = Bytes::from(body.into_boxed_slice());
        let (key, head) = (Arc::new(key.copied()), head.copied());
        let mut store = self.store();
        if let Some(old) = store.answers.get(&key) {
            let number = old.number;
            store.remove(number);
        }
        while store.bytes + bytes > self.settings.max_bytes || store.answers.len() >= self.settings.max_answers {
            let Some(oldest) = store.ages.keys().next().copied() else { break };
            store.remove(oldest);
        }
        let number = store.next;
        store.next += 1;
        store.bytes += bytes;
        store.ages.insert(number, Arc::clone(&key));
        store.answers.insert(key, Answer { number, at: Instant::now(), bytes, head, body });
    }
}

impl Store {
    fn remove(&mut self, number: u64) {
        if let Some(answer) = self.ages.remove(&number).and_then(|key| self.answers.remove(&key)) {
            self.bytes -= answer.bytes;
        }
    }
}

/// The members of a header that is a list.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lists = headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or("*"));
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

fn is_secret(headers: &HeaderMap) -> bool {
    members(headers, &CACHE_CONTROL).any(|directive| directive.eq_ignore_ascii_case("no-store"))
}

impl Default for LastGood {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LastGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store();
        f.debug_struct("LastGood")
            .field("settings", &self.settings)
            .field("answers", &store.answers.len())
            .field("bytes", &store.bytes)
            .finish()
    }
}
