//! [`BackoffRetryLayer`]: the settings of a retry, and the presets.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::HeaderName;
use rand::{SeedableRng, rngs::SmallRng};
use tower_layer::Layer;

use super::{Attempt, Backoff, BackoffRetry, Budget, Jitter, Policy, Repeat, Standard, settings::Settings};

/// Default for [`BackoffRetryLayer::max_wait`]: as the OpenAI SDK for Python has it.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// Default for [`BackoffRetryLayer::max_resends`].
const MAX_RESENDS: u32 = 64;

/// Makes [`BackoffRetry`]s, which share one budget and one source of chance; its clones do too.
///
/// See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct BackoffRetryLayer {
    pub(super) settings: Arc<Settings>,
}

impl BackoffRetryLayer {
    /// The [`Standard`] policy; only what may be processed twice is repeated; a tenth as many retries as there
    /// were calls in the last 10 s, or ten at once where there are few ([`Budget::share_of_traffic`]); no deadline; no single wait over 120 s.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Settings {
            policy: Arc::new(Standard::new()),
            budget: Arc::new(Budget::share_of_traffic(0.1)),
            repeat: Repeat::default(),
            max_elapsed: None,
            max_wait: MAX_WAIT,
            max_resends: MAX_RESENDS,
            idempotency_keys: false,
            count_header: None,
            marks: true,
            on_retry: None,
            rng: Mutex::new(rand::make_rng()),
            keys: Mutex::new(rand::make_rng()),
            held_jitter: None,
        })
    }

    /// As OpenAI's SDKs do: three attempts, 0.5 s doubling to 8 s less up to a quarter, a hint of up to 120 s waited
    /// exactly, every method repeated, no budget, and `x-stainless-retry-count` on each attempt.
    ///
    /// **A POST sent twice is billed twice**: one that was processed and whose answer got lost, or that ended in a 500, is
    /// sent again. [`repeat(Repeat::Idempotent)`](Self::repeat) leaves that out.
    ///
    /// Otherwise than they, it gives up at once on a spent quota, on a hint over 120 s, and on statuses that are the same
    /// tomorrow (501, 505, 508, 510, 511); and sends again what the server says will pass: 423 (locked) and 425 (too early).
    #[must_use]
    pub fn openai_sdk() -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(500)).jitter(Jitter::Proportional(0.25));
        Self::new()
            .policy(Standard::new().backoff(backoff).hint_spread(0.0))
            .repeat(Repeat::All)
            .budget(Budget::unlimited())
            .count_header(HeaderName::from_static("x-stainless-retry-count"))
    }

    /// As the AWS SDKs' standard mode does: three attempts, a random part of 1 s doubling to 20 s, every method
    /// repeated, and a bucket of 500 retry tokens.
    ///
    /// **A POST sent twice is billed twice**, or done twice: AWS's APIs take tokens against that, others may not.
    /// [`repeat(Repeat::Idempotent)`](Self::repeat) leaves it out.
    #[must_use]
    pub fn aws_standard() -> Self {
        let backoff = Backoff::exponential(Duration::from_secs(1)).cap(Duration::from_secs(20));
        Self::new().policy(Standard::new().backoff(backoff)).repeat(Repeat::All).budget(Budget::retry_tokens(500))
    }

    fn with(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    /// The same but for one thing: the rest is carried over, the budget's present state included.
    fn change(self, change: impl FnOnce(&mut Settings)) -> Self {
        let old = &*self.settings;
        let rng = SmallRng::from_rng(&mut *old.rng());
        let mut settings = Settings {
            policy: Arc::clone(&old.policy),
            budget: Arc::clone(&old.budget),
            count_header: old.count_header.clone(),
            on_retry: old.on_retry.clone(),
            rng: Mutex::new(rng),
            keys: Mutex::new(rand::make_rng()),
            ..*old
        };
        change(&mut settings);
        Self::with(settings)
    }

    /// The same settings with a budget of its own, as another process would have it.
    #[cfg(feature = "mock")]
    pub(crate) fn afresh(&self) -> Self {
        let budget = Arc::new(self.settings.budget.afresh());
        self.clone().change(|settings| settings.budget = budget)
    }

    /// Decides whether another attempt follows, and when. Default: [`Standard::new`].
    #[must_use]
    pub fn policy(self, policy: impl Policy + 'static) -> Self {
        self.change(|settings| settings.policy = Arc::new(policy))
    }

    /// How many retries all calls together may make. Default: [`Budget::share_of_traffic`] of 0.1, with its floor.
    ///
    /// An [`Arc`] shares it with other layers.
    #[must_use]
    pub fn budget(self, budget: impl Into<Arc<Budget>>) -> Self {
        let budget = budget.into();
        self.change(|settings| settings.budget = budget)
    }

    /// Which requests may be processed twice. Default: [`Repeat::Idempotent`].
    #[must_use]
    pub fn repeat(self, repeat: Repeat) -> Self {
        self.change(|settings| settings.repeat = repeat)
    }

    /// The time from the call's arrival after which no further attempt begins; a wait that would end later is not
    /// begun. Default: none. Leave it so above a `QuotaMeter`, or the tail of a batch dies in its line.
    ///
    /// A [`Call`](crate::Call) extension with a deadline sets one for its request alone. A limit for each attempt is
    /// `tower::timeout`, under the `QuotaMeter`.
    #[must_use]
    pub fn max_elapsed(self, max_elapsed: Duration) -> Self {
        self.change(|settings| settings.max_elapsed = Some(max_elapsed))
    }

    /// The longest single wait accepted, whoever asks for it: the server, the policy, or a meter further in. For a longer
    /// one there is no retry, and the caller has the answer at once. What [`Standard`]'s jitter adds to a server's hint is no
    /// reason to end a call: it is cut off here. Default: 120 s.
    ///
    /// While it waits, the rest of the failed answer is read, so that its connection lives on: 64 KiB and 1 s of it at the
    /// most, and no longer than 100 ms past a shorter wait.
    #[must_use]
    pub fn max_wait(self, max_wait: Duration) -> Self {
        self.change(|settings| settings.max_wait = max_wait)
    }

    /// How often a call is sent again for free because a layer further in asks for it. Default: 64.
    #[must_use]
    pub fn max_resends(self, max_resends: u32) -> Self {
        self.change(|settings| settings.max_resends = max_resends)
    }

    /// Puts an `Idempotency-Key` on requests whose method is not idempotent and that have none: the same one on all
    /// attempts of a call. Default: off. Only for servers that honour it: with it, such requests are repeated.
    #[must_use]
    pub fn idempotency_keys(self) -> Self {
        self.change(|settings| settings.idempotency_keys = true)
    }

    /// Puts the number of retries so far into this header: 0 on the first attempt. Default: none.
    #[must_use]
    pub fn count_header(self, name: HeaderName) -> Self {
        self.change(|settings| settings.count_header = Some(name))
    }

    /// Leaves out the [`Call`](crate::Call) extension: three allocations less. Then a `BackoffRetry` further in retries too,
    /// and a `QuotaMeter` takes a retried call for a new one. Default: it is put in.
    #[must_use]
    pub fn without_mark(self) -> Self {
        self.change(|settings| settings.marks = false)
    }

    /// Called as a retry is decided on, with the attempt that failed and the wait before the next. A call that is dropped
    /// in that wait, or whose service is not ready again, is not sent after all.
    #[must_use]
    pub fn on_retry(self, on_retry: impl Fn(&Attempt<'_>, Duration) + Send + Sync + 'static) -> Self {
        self.change(|settings| settings.on_retry = Some(Arc::new(on_retry)))
    }

    /// Makes the jitter repeatable, for tests. An `Idempotency-Key` is never drawn from it: two processes with one seed
    /// would send different requests under the same key.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.change(|settings| settings.rng = Mutex::new(SmallRng::seed_from_u64(seed)))
    }

    /// Holds the random number of every wait at this one, in 0..=1, for tests that expect exact waits: at 1,
    /// [`Jitter::Full`] waits longest.
    ///
    /// ```
    /// use tower_outbound::backoff_retry::BackoffRetryLayer;
    ///
    /// let layer = BackoffRetryLayer::aws_standard().hold_jitter(1.0); // waits 1 s, then 2 s
    /// ```
    #[must_use]
    pub fn hold_jitter(self, random: f64) -> Self {
        self.change(|settings| settings.held_jitter = Some(random))
    }

    #[cfg(feature = "mock")]
    pub(crate) fn holds_jitter(&self) -> bool {
        self.settings.held_jitter.is_some()
    }

    /// Retry tokens left, of a [`Budget::retry_tokens`]; `None` where the budget is not counted in them.
    #[must_use]
    pub fn tokens_left(&self) -> Option<u64> {
        self.settings.budget.tokens_left()
    }
}

impl Default for BackoffRetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone> Layer<S> for BackoffRetryLayer {
    type Service = BackoffRetry<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BackoffRetry::new(inner, Arc::clone(&self.settings))
    }
}
