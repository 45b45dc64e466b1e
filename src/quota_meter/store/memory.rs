//! [`MemoryStore`]: a store for the meters of one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Ask, Batch, Leased, Leasing, QuotaStore};
use crate::{
    limits::Unit,
    quota_meter::{
        Level, Quota, ScopeName,
        bucket::Bucket,
        moment::{Clock, Moment},
        quota::Given,
    },
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
    requests: Buckets,
    tokens: Buckets,
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
        let wait = shelf.requests.wait_for(least.requests, now).max(shelf.tokens.wait_for(least.tokens, now));
        if !wait.is_zero() {
            return Leased::Later(wait);
        }
        let batch = Batch {
            requests: shelf.requests.part(least.requests, wanted.requests, now),
            tokens: shelf.tokens.part(least.tokens, wanted.tokens, now),
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
            let buckets = |unit| Buckets::of(quota.given().filter(|given| given.unit == unit), now);
            Shelf { requests: buckets(Unit::Requests), tokens: buckets(Unit::Tokens), lent: Batch::default() }
        })
    }
}

/// All limits of one kind.
#[derive(Debug)]
struct Buckets(Vec<Bucket>);

impl Buckets {
    /// Those that are given; else one of which nothing is known.
    fn of(given: impl Iterator<Item = Given>, now: Moment) -> Self {
        let mut all: Vec<_> = given.map(|given| Bucket::full(given.capacity, given.period, now)).collect();
        if all.is_empty() {
            all.push(Bucket::new());
        }
        Self(all)
    }

    fn wait_for(&self, least: f64, now: Moment) -> Duration {
        let wait = |bucket: &Bucket| {
            let whole = bucket.limit().unwrap_or(f64::INFINITY);
            bucket.wait_for((least + margin(bucket)).min(whole.max(least)), now)
        };
        self.0.iter().map(wait).max().unwrap_or_default()
    }

    /// What may be lent now.
    fn part(&self, least: f64, wanted: f64, now: Moment) -> f64 {
        let free = |bucket: &Bucket| bucket.level(now).map(|level| level.remaining - margin(bucket));
        self.0.iter().filter_map(free).map(|free| free.min(wanted).max(least)).fold(wanted, f64::min)
    }

    fn reserve(&mut self, amount: f64, now: Moment) {
        self.0.iter_mut().for_each(|bucket| bucket.reserve(amount, now));
    }

    fn refund(&mut self, amount: f64) {
        self.0.iter_mut().for_each(|bucket| bucket.refund(amount));
    }

    fn learn(&mut self, told: Option<Level>, lent: f64, now: Moment) {
        self.0.iter_mut().for_each(|bucket| bucket.learn(told, lent, now));
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
