//! [`MemoryStore`]: a store for the meters of one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Ask, Batch, Leased, Leasing, QuotaStore};
use crate::quota_meter::{
    Level, Quota, ScopeName,
    bucket::Bucket,
    moment::{Clock, Moment},
    quota::Given,
};

/// How long a batch is lent for.
const LENT_FOR: Duration = Duration::from_secs(10);
/// In seconds of the refill.
const MARGIN: f64 = 1.0;
/// How many scopes it keeps; those beyond share one.
const MOST_SCOPES: usize = 1024;

/// Lends a quota to several meters of one process, and shows how a store over a network behaves.
///
/// ```
/// use tower_outbound::{nz, quota_meter::{MemoryStore, Quota, QuotaMeterLayer}};
///
/// let store = MemoryStore::new(Quota::per_minute(nz!(500)));
/// let (one, other) = (QuotaMeterLayer::new().store(store.clone()), QuotaMeterLayer::new().store(store));
/// # let _ = (one, other);
/// ```
#[derive(Clone, Debug)]
pub struct MemoryStore(Arc<Mutex<Levels>>);

#[derive(Debug)]
struct Levels {
    quota: Quota,
    clock: Clock,
    scopes: HashMap<ScopeName, Shelf>,
}

/// The levels of one scope.
#[derive(Debug)]
struct Shelf {
    requests: Bucket,
    tokens: Bucket,
    /// All that was ever lent.
    lent: Batch,
}

impl MemoryStore {
    /// Each scope has this quota; what it leaves open is learned from the answers that meters hear.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self(Arc::new(Mutex::new(Levels { quota, clock: Clock::default(), scopes: HashMap::new() })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Levels) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl QuotaStore for MemoryStore {
    fn lease(&self, ask: Ask) -> Leasing {
        let leased = self.with(|levels| levels.lease(&ask, Instant::now()));
        Box::pin(std::future::ready(Ok(leased)))
    }

    fn give_back(&self, scope: &ScopeName, unused: Batch) {
        self.with(|levels| {
            if let Some(shelf) = levels.scopes.get_mut(scope) {
                shelf.requests.refund(unused.requests);
                shelf.tokens.refund(unused.tokens);
            }
        });
    }
}

impl Levels {
    fn lease(&mut self, ask: &Ask, now: Instant) -> Leased {
        let now = self.clock.moment(now);
        let shelf = self.shelf(&ask.scope, now);
        shelf.requests.learn(ask.requests, shelf.lent.requests, now);
        shelf.tokens.learn(ask.tokens, shelf.lent.tokens, now);
        let (least, wanted) = (ask.least, ask.wanted);
        let wait = |bucket: &Bucket, least: f64| {
            let whole = bucket.limit().unwrap_or(f64::INFINITY);
            bucket.wait_for((least + margin(bucket)).min(whole.max(least)), now)
        };
        let wait = wait(&shelf.requests, least.requests).max(wait(&shelf.tokens, least.tokens));
        if !wait.is_zero() {
            return Leased::Later(wait);
        }
        let part = |bucket: &Bucket, least: f64, wanted: f64| {
            bucket.level(now).map_or(wanted, |level| wanted.min(level.remaining - margin(bucket)).max(least))
        };
        let batch = Batch {
            requests: part(&shelf.requests, least.requests, wanted.requests),
            tokens: part(&shelf.tokens, least.tokens, wanted.tokens),
        };
        shelf.requests.reserve(batch.requests, now);
        shelf.tokens.reserve(batch.tokens, now);
        shelf.lent.requests += batch.requests;
        shelf.lent.tokens += batch.tokens;
        Leased::Now(batch, LENT_FOR)
    }

    fn shelf(&mut self, scope: &ScopeName, now: Moment) -> &mut Shelf {
        let is_room = self.scopes.len() < MOST_SCOPES || self.scopes.contains_key(scope);
        let quota = self.quota;
        let name = if is_room { scope.clone() } else { ScopeName::default() };
        self.scopes.entry(name).or_insert_with(|| {
            let bucket = |given: Option<Given>| {
                given.map_or(Bucket::new(), |Given { capacity, period }| Bucket::full(capacity, period, now))
            };
            Shelf {
                requests: bucket(quota.given_requests()),
                tokens: bucket(quota.given_tokens()),
                lent: Batch::default(),
            }
        })
    }
}

/// What is lent is not sent at once, and a server that is full meanwhile gains nothing: so much of it is left alone.
fn margin(bucket: &Bucket) -> f64 {
    bucket.refill().unwrap_or(0.0) * MARGIN
}

impl Bucket {
    /// Where no limit was given: the one that a meter has learned. What was `lent` before, that meter knows only its part of.
    fn learn(&mut self, told: Option<Level>, lent: f64, now: Moment) {
        let Some(told) = told.filter(|told| self.limit().is_none() && told.refill_per_second > 0.0) else { return };
        *self = Self::full(told.limit, told.limit / told.refill_per_second, now);
        self.reserve((told.limit - told.remaining).max(lent).min(told.limit), now);
    }
}
