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
    /// When the server last told a meter of limits.
    told: Moment,
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
            let scopes = &mut levels.scopes;
            let own = if scopes.contains_key(scope) { scope } else { &ScopeName::default() };
            if let Some(shelf) = scopes.get_mut(own) {
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
        let heard =
            ask.heard.map_or(Moment::START, |ago| now.minus_nanos(ago.as_nanos().try_into().unwrap_or(u64::MAX)));
        let is_news = heard >= shelf.told;
        shelf.told = shelf.told.max(heard);
        shelf.requests.learn(ask.requests, is_news, shelf.lent.requests, now);
        shelf.tokens.learn(ask.tokens, is_news, shelf.lent.tokens, now);
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
            Shelf {
                requests: buckets(Unit::Requests),
                tokens: buckets(Unit::Tokens),
                lent: Batch::default(),
                told: Moment::START,
            }
        })
    }
}

/// The limits of one kind: those that were given, or what a meter has learned.
#[derive(Debug)]
struct Buckets {
    all: Vec<Bucket>,
    are_given: bool,
}

impl Buckets {
    /// Those that are given; else one of which nothing is known.
    fn of(given: impl Iterator<Item = Given>, now: Moment) -> Self {
        let mut all: Vec<_> = given.map(|given| Bucket::full(given.capacity, given.period, now)).collect();
        let are_given = !all.is_empty();
        if !are_given {
            all.push(Bucket::new());
        }
        Self { all, are_given }
    }

    fn wait_for(&self, least: f64, now: Moment) -> Duration {
        let wait = |bucket: &Bucket| {
            let whole = bucket.limit().unwrap_or(f64::INFINITY);
            bucket.wait_for((least + margin(bucket)).min(whole.max(least)), now)
        };
        self.all.iter().map(wait).max().unwrap_or_default()
    }

    /// What may be lent now.
    fn part(&self, least: f64, wanted: f64, now: Moment) -> f64 {
        let free = |bucket: &Bucket| bucket.level(now).map(|level| level.remaining - margin(bucket));
        self.all.iter().filter_map(free).map(|free| free.min(wanted).max(least)).fold(wanted, f64::min)
    }

    fn reserve(&mut self, amount: f64, now: Moment) {
        self.all.iter_mut().for_each(|bucket| bucket.reserve(amount, now));
    }

    fn refund(&mut self, amount: f64) {
        self.all.iter_mut().for_each(|bucket| bucket.refund(amount));
    }

    fn learn(&mut self, told: Option<Level>, is_news: bool, lent: f64, now: Moment) {
        if !self.are_given {
            self.all.iter_mut().for_each(|bucket| bucket.learn(told, is_news, lent, now));
        }
    }
}

/// What is lent is not sent at once, and a server that is full meanwhile gains nothing: so much of it is left alone.
fn margin(bucket: &Bucket) -> f64 {
    bucket.refill().unwrap_or(0.0) * MARGIN
}

impl Bucket {
    /// Takes in the limit that a meter has learned. What was `lent` before, that meter knows only its part of.
    fn learn(&mut self, told: Option<Level>, is_news: bool, lent: f64, now: Moment) {
        let Some(told) = told.filter(|told| told.refill_per_second > 0.0) else { return };
        let (used, refill) = match self.level(now) {
            None => ((told.limit - told.remaining).max(lent), told.refill_per_second),
            // What is left stays, and so does the period: of the refill a meter leaves a part to the others.
            Some(known) if is_news && told.limit != known.limit => {
                (told.limit - known.remaining, told.limit / known.limit * known.refill_per_second)
            }
            Some(_) => return,
        };
        *self = Self::full(told.limit, told.limit / refill, now);
        self.reserve(used.clamp(0.0, told.limit), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(scope: &str, limit: Option<f64>, heard_ago: u64) -> Ask {
        let level = |limit| Level { limit, remaining: limit, refill_per_second: limit / 60.0, resets_in: None };
        Ask {
            scope: ScopeName::new(scope, "", "", None),
            least: Batch::new(1.0, 0.0),
            wanted: Batch::new(1_000.0, 0.0),
            requests: limit.map(level),
            tokens: None,
            more: Vec::new(),
            heard: limit.map(|_| Duration::from_secs(heard_ago)),
        }
    }

    fn requests(leased: Leased) -> f64 {
        match leased {
            Leased::Now(batch, _) => batch.requests,
            Leased::Later(_) => 0.0,
        }
    }

    /// What a server grants more, or less, all meters hear of by and by.
    #[test]
    fn a_limit_that_changes_is_followed_and_an_old_word_is_not() {
        let store = MemoryStore::new(Quota::learned());
        let start = Instant::now();
        let lease = |limit: f64, heard_ago: u64, at: u64| {
            let ask = ask("a", Some(limit), heard_ago);
            requests(store.with(|levels| levels.lease(&ask, start + Duration::from_secs(at))))
        };
        assert_eq!(lease(300.0, 0, 0), 295.0, "all but a second's worth");
        assert_eq!(lease(600.0, 0, 10), 50.0 - 10.0 + 5.0, "what came back at the old rate");
        assert_eq!(lease(600.0, 0, 20), 100.0);
        assert_eq!(lease(300.0, 15, 30), 100.0, "it was told so before the raise");
        assert_eq!(lease(300.0, 0, 40), 105.0, "what had come back by now, less a second's worth");
        assert_eq!(lease(300.0, 0, 50), 50.0, "at the rate of before");
    }

    #[test]
    fn what_scopes_beyond_the_most_give_back_is_theirs_again() {
        let store = MemoryStore::new(Quota::per_minute(crate::nz!(60)));
        let start = Instant::now();
        let lease = |scope: &str| requests(store.with(|levels| levels.lease(&ask(scope, None, 0), start)));
        for scope in 0..MOST_SCOPES {
            assert_eq!(lease(&scope.to_string()), 59.0);
        }
        assert_eq!((lease("one more"), lease("another")), (59.0, 0.0), "they share one");
        store.give_back(&ask("one more", None, 0).scope, Batch::new(20.0, 0.0));
        assert_eq!(lease("another"), 20.0);
    }
}
