//! [`QuotaMeterLayer`]: the settings, and the quota that all its services share.

use std::{
    marker::PhantomData,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_layer::Layer;

use super::{
    Contents, Estimate, HeadOnly, MeterHandle, Price, Quota, QuotaMeter, QuotaStore, Reached, Scoping, Snapshot,
    Threshold,
    book::{Accounts, Watch},
    shared::Shared,
};
use crate::wall_clock::WallClock;

/// Default for [`QuotaMeterLayer::max_queue`].
const MAX_QUEUE: NonZeroUsize = crate::nz!(100_000);
/// Default for [`QuotaMeterLayer::spent_recheck`].
const SPENT_RECHECK: Duration = Duration::from_secs(60);
/// Default for [`QuotaMeterLayer::permit_time`].
const PERMIT_TIME: Duration = Duration::from_secs(60);
/// Default for [`QuotaMeterLayer::max_scopes`].
const MAX_SCOPES: NonZeroUsize = crate::nz!(1024);

/// Makes [`QuotaMeter`]s that share their quotas.
///
/// Clones share it too. See the [module](super) for an example.
///
/// A call must pass only one service of them: with a second further in, those that the outer one let go take up the quota that
/// the inner one waits for, and none of them ever ends.
#[derive(Debug)]
pub struct QuotaMeterLayer<V = Contents> {
    shared: Arc<Shared>,
    sight: PhantomData<V>,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_wait: Option<Duration>,
    pub(super) max_queue: NonZeroUsize,
    pub(super) spent_recheck: Duration,
    pub(super) permit_time: Duration,
    pub(super) seed: Option<u64>,
    pub(super) quota: Quota,
    pub(super) max_scopes: NonZeroUsize,
    pub(super) scoping: Scoping,
    pub(super) estimate: Estimate,
    pub(super) accounts: Arc<Accounts>,
    pub(super) store: Option<Arc<dyn QuotaStore>>,
}

impl QuotaMeterLayer {
    /// A meter that learns its limits from the server's answers, apart for each host, key and model, and counts what the
    /// answers say was used.
    #[must_use]
    pub fn new() -> Self {
        let accounts = Accounts { reads_usage: true, ..Accounts::default() };
        Self::with(Settings {
            max_wait: None,
            max_queue: MAX_QUEUE,
            spent_recheck: SPENT_RECHECK,
            permit_time: PERMIT_TIME,
            seed: None,
            quota: Quota::learned(),
            max_scopes: MAX_SCOPES,
            scoping: Scoping::default(),
            estimate: Estimate::default(),
            accounts: Arc::new(accounts),
            store: None,
        })
    }

    /// The meter that costs least: one quota for everything, tokens by [`TokenCost`](super::TokenCost) or by length, and
    /// no look into any body. Each of these can be set as ever.
    #[must_use]
    pub fn fixed() -> Self {
        Self::new().scoping(Scoping::one()).estimate(Estimate::by_length()).usage(false)
    }
}

impl<V> QuotaMeterLayer<V> {
    fn with(settings: Settings) -> Self {
        Self { shared: Shared::new(settings), sight: PhantomData }
    }

    /// The same quotas for request bodies of any type, of which the meter sees the head alone: the model is that of the
    /// extension [`Model`](super::Model) or of the path, the tokens those of [`TokenCost`](super::TokenCost) or, of JSON
    /// and of what has no type, by `Content-Length`.
    ///
    /// ```
    /// use hyper::body::Incoming;
    /// use tower::{Service, ServiceBuilder};
    /// use tower_outbound::quota_meter::{HeadOnly, QuotaMeter, QuotaMeterLayer};
    ///
    /// /// What a proxy sends on.
    /// fn paced<S>(client: S) -> QuotaMeter<S, HeadOnly>
    /// where
    ///     S: Service<http::Request<Incoming>>,
    /// {
    ///     ServiceBuilder::new().layer(QuotaMeterLayer::new().any_body()).service(client)
    /// }
    /// ```
    #[must_use]
    pub fn any_body(self) -> QuotaMeterLayer<HeadOnly> {
        QuotaMeterLayer { shared: self.shared, sight: PhantomData }
    }

    fn set(self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings.clone();
        set(&mut settings);
        Self::with(settings)
    }

    fn account(self, set: impl FnOnce(&mut Accounts)) -> Self {
        self.set(|settings| set(Arc::make_mut(&mut settings.accounts)))
    }

    /// Which calls share a quota. Default: those for the same host, with the same key, for the same model.
    #[must_use]
    pub fn scoping(self, scoping: Scoping) -> Self {
        self.set(|settings| settings.scoping = scoping)
    }

    /// Takes from a quota that other machines share: each call leaves once the store has lent what it takes. Default: none.
    ///
    /// The store is asked in a task of tokio's, apart from the calls.
    #[must_use]
    pub fn store(self, store: impl QuotaStore) -> Self {
        self.set(|settings| settings.store = Some(Arc::new(store)))
    }

    /// How many quotas are kept apart. Default: 1,024. Beyond that the one not used for longest is forgotten, and learned
    /// anew if it is used again; where all have calls waiting or under way, newcomers share one. What nobody used for an hour
    /// is forgotten too.
    #[must_use]
    pub fn max_scopes(self, max_scopes: NonZeroUsize) -> Self {
        self.set(|settings| settings.max_scopes = max_scopes)
    }

    /// How the tokens of a request are reckoned that has no [`TokenCost`](super::TokenCost). Default:
    /// [`Estimate::by_body`].
    #[must_use]
    pub fn estimate(self, estimate: Estimate) -> Self {
        self.set(|settings| settings.estimate = estimate)
    }

    /// Whether `usage` is read from good answers as they pass: it settles what was estimated, and is what the counts of tokens
    /// and money are made of. Default: yes. It costs a look at each byte of JSON and events, and nothing on other answers.
    ///
    /// A good answer that cannot be read (compressed, neither JSON nor events) counts with its estimate. So do all where this
    /// is off, if a price, a budget, or a threshold on tokens or money asks for their count.
    #[must_use]
    pub fn usage(self, reads_usage: bool) -> Self {
        self.account(|accounts| accounts.reads_usage = reads_usage)
    }

    /// What tokens cost on models whose name begins so; the longest such name counts, and an empty one fits all. Scopes that
    /// do not tell models apart have the price of the empty name.
    ///
    /// A model without a price costs nothing, and no budget holds it: give the empty name the price of the dearest.
    #[must_use]
    pub fn price(self, model: impl Into<String>, price: Price) -> Self {
        self.account(|accounts| {
            accounts.prices.insert(model.into(), price);
        })
    }

    /// The money that may be spent in a day (UTC), at the prices given: past it, calls are [`Refused`](crate::Refused) with
    /// [`Refusal::OverBudget`](super::Refusal::OverBudget). Default: no limit.
    ///
    /// A call under way counts with what it is reckoned to cost (its [`Estimate`]), and with what it did cost once its answer
    /// has been read: so the budget is overdrawn by no more than the estimates were short. One that was sent and given up, by
    /// its caller or a time limit, or that broke off, costs what was reckoned: the server may have worked on it. An answer that
    /// is an error costs nothing, nor does a call that surely was not processed, such as one whose connection was refused. A call that does not fit in what is
    /// left is refused; a smaller one may still. Models that have no [`price`](Self::price) cost nothing, and always fit.
    #[must_use]
    pub fn budget_per_day(self, money: f64) -> Self {
        self.account(|accounts| accounts.budget = Some(money))
    }

    /// Calls this when a threshold is reached, once a day each, and tells those who listen to
    /// [`alerts`](MeterHandle::alerts). It runs in the task that used the last of it: let it be short.
    #[must_use]
    pub fn on_threshold(self, threshold: Threshold, call: impl Fn(&Reached) + Send + Sync + 'static) -> Self {
        let call: Arc<super::book::Call> = Arc::new(call);
        self.account(|accounts| accounts.thresholds.push(Watch { threshold, call: Some(call) }))
    }

    /// A threshold for those who listen to [`alerts`](MeterHandle::alerts).
    #[must_use]
    pub fn threshold(self, threshold: Threshold) -> Self {
        self.account(|accounts| accounts.thresholds.push(Watch { threshold, call: None }))
    }

    /// Asks this instead of the system for the date, for tests.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.account(|accounts| accounts.clock = WallClock::new(clock))
    }

    /// The longest a call may have to wait for its turn: one whose turn would come later is
    /// [`Refused`](crate::Refused) at once, with the time; one whose turn turns out to be later, then. Default: no limit.
    ///
    /// It is for an attempt, however often a 429 sends that back: a call that comes back has left what it did not wait before,
    /// with the sendings that were rejected counted as waiting. Another attempt, after a failure that is not the quota's, has all
    /// of it anew.
    ///
    /// The deadline of a [`Call`](crate::Call) limits the wait of its request alike.
    ///
    /// The builder's calls make a new, empty quota: set up the layer before it is cloned or applied.
    #[must_use]
    pub fn max_wait(self, max_wait: Duration) -> Self {
        self.set(|settings| settings.max_wait = Some(max_wait))
    }

    /// How many calls may wait; one more is [`Refused`](crate::Refused) at once. Default: 100,000.
    ///
    /// A call that had its turn and got a 429 is no newcomer: it finds its place again beyond this number.
    #[must_use]
    pub fn max_queue(self, max_queue: NonZeroUsize) -> Self {
        self.set(|settings| settings.max_queue = max_queue)
    }

    /// After an answer that the quota is used up, how long calls are refused before one looks again. Default: 60 s.
    #[must_use]
    pub fn spent_recheck(self, spent_recheck: Duration) -> Self {
        self.set(|settings| settings.spent_recheck = spent_recheck)
    }

    /// How long a [`Permit`](super::Permit) may be kept before what it took goes to others. Default: 60 s.
    #[must_use]
    pub fn permit_time(self, permit_time: Duration) -> Self {
        self.set(|settings| settings.permit_time = permit_time)
    }

    /// Limits that one knows beforehand, alone or as a ceiling on what the server says. Default: none.
    #[must_use]
    pub fn quota(self, quota: Quota) -> Self {
        self.set(|settings| settings.quota = quota)
    }

    /// Makes the jitter of the gate repeatable, for tests.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.set(|settings| settings.seed = Some(seed))
    }

    /// What the meter knows now of the scope used last.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.handle().snapshot()
    }

    /// The meter as one sees it from outside: all scopes, what was used, what a call would have to wait.
    #[must_use]
    pub fn handle(&self) -> MeterHandle<V> {
        MeterHandle::new(Arc::clone(&self.shared))
    }
}

impl Default for QuotaMeterLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Clone for QuotaMeterLayer<V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), sight: PhantomData }
    }
}

impl<S, V> Layer<S> for QuotaMeterLayer<V> {
    type Service = QuotaMeter<S, V>;

    fn layer(&self, inner: S) -> Self::Service {
        QuotaMeter::new(inner, Arc::clone(&self.shared))
    }
}
