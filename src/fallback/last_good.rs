//! [`LastGood`]: the last good answer to the same request.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CACHE_CONTROL, CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use tokio::time::Instant;

use crate::kept::Kept;

/// Keeps good answers, to give them again when the same request fails: `stale-if-error`.
///
/// Requests are the same by method, URI, body and, where they have one of their own, `Authorization`. Kept is what has a
/// status of 2xx (but 206), no `Cache-Control: no-store`, a request body in memory, and was read to its end by its caller.
/// The oldest goes first. Clones share what they keep.
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
    max_answer: usize,
}

/// What tells requests apart.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    method: Method,
    uri: Uri,
    body: Bytes,
    /// Nobody gets an answer that was for another.
    authorization: Option<HeaderValue>,
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

struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

impl LastGood {
    /// Answers of up to 1 MiB for an hour, 64 MiB in all.
    #[must_use]
    pub fn new() -> Self {
        let settings = Settings { max_age: Duration::from_secs(3600), max_bytes: 64 << 20, max_answer: 1 << 20 };
        Self { settings, store: Arc::default() }
    }

    /// How old an answer may be. Default: an hour.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { settings: Settings { max_age, ..self.settings }, ..self }
    }

    /// The most bytes of all answers, with their requests and headers. Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { settings: Settings { max_bytes, ..self.settings }, ..self }
    }

    /// The most bytes of one answer's body; a longer one is not kept. Default: 1 MiB.
    #[must_use]
    pub fn max_answer(self, max_answer: usize) -> Self {
        Self { settings: Settings { max_answer, ..self.settings }, ..self }
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

    /// What a request is known by; `None` if its body is not in memory.
    pub(super) fn key<B: crate::body::Resend>(kept: &Kept<Option<B>>) -> Option<Key> {
        Some(Key {
            method: kept.method.clone(),
            uri: kept.uri.clone(),
            body: kept.body.as_ref()?.in_memory()?,
            authorization: kept.headers.get(AUTHORIZATION).cloned(),
        })
    }

    /// What copies this response on its way to the caller, if it is one to be kept.
    pub(super) fn recorder<RB>(&self, key: Key, response: &Response<RB>) -> Option<Box<Recorder>> {
        let status = response.status();
        if !status.is_success() || status == StatusCode::PARTIAL_CONTENT || is_secret(response.headers()) {
            return None;
        }
        let mut headers = response.headers().clone();
        // Of the connection that it came by.
        for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
            headers.remove(name);
        }
        Some(Box::new(Recorder { key, head: Head { status, headers }, chunks: Vec::new(), bytes: 0, to: self.clone() }))
    }

    /// The answer to this request, and how old it is.
    pub(super) fn answer(&self, key: &Key) -> Option<(Response<Bytes>, Duration)> {
        let mut store = self.store();
        let answer = store.answers.get(key)?;
        let age = answer.at.elapsed();
        if age > self.settings.max_age {
            let number = answer.number;
            store.remove(number);
            return None;
        }
        let mut response = Response::new(answer.body.clone());
        *response.status_mut() = answer.head.status;
        *response.headers_mut() = answer.head.headers.clone();
        Some((response, age))
    }

    fn keep(&self, key: Key, head: Head, body: Bytes) {
        let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let uri = key.uri.path().len() + key.uri.query().map_or(0, str::len);
        let bytes = body.len() + key.body.len() + headers + uri;
        if bytes > self.settings.max_bytes {
            return;
        }
        let mut store = self.store();
        if let Some(old) = store.answers.get(&key) {
            let number = old.number;
            store.remove(number);
        }
        while store.bytes + bytes > self.settings.max_bytes {
            let Some(oldest) = store.ages.keys().next().copied() else { break };
            store.remove(oldest);
        }
        let (key, number) = (Arc::new(key), store.next);
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

fn is_secret(headers: &HeaderMap) -> bool {
    let directives = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    directives.flat_map(|value| value.split(',')).any(|directive| directive.trim().eq_ignore_ascii_case("no-store"))
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

/// The copy of one response, on its way.
pub(super) struct Recorder {
    key: Key,
    head: Head,
    chunks: Vec<Bytes>,
    bytes: usize,
    to: LastGood,
}

impl Recorder {
    /// Whether there was room for it.
    pub(super) fn push(&mut self, chunk: &Bytes) -> bool {
        self.bytes = self.bytes.saturating_add(chunk.len());
        if self.bytes > self.to.settings.max_answer {
            return false;
        }
        self.chunks.push(chunk.clone());
        true
    }

    pub(super) fn store(self) {
        // In one piece of its own: a chunk may be a corner of a connection's large buffer.
        let mut body = BytesMut::with_capacity(self.bytes);
        self.chunks.iter().for_each(|chunk| body.extend_from_slice(chunk));
        self.to.keep(self.key, self.head, body.freeze());
    }
}
