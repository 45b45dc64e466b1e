//! [`BackoffRetryLayer`]: the settings.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tower_layer::Layer;

use super::{BackoffRetry, Policy, Standard};

/// Default for [`BackoffRetryLayer::max_wait`]: as the OpenAI SDK for Python has it.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// Default for [`BackoffRetryLayer::max_resends`].
const MAX_RESENDS: u32 = 64;

/// Makes [`BackoffRetry`]s. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct BackoffRetryLayer {
    settings: Arc<Settings>,
}

/// Which requests may be sent again when the first sending may have been processed.
///
/// One that was certainly not processed (429, no connection) may always be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeat {
    /// Those with an idempotent method (RFC 9110, 9.2.2) or an `Idempotency-Key` header.
    #[default]
    Idempotent,
    /// All, as the OpenAI SDKs do. A POST that was processed and whose answer got lost is then billed twice.
    All,
}

pub(super) struct Settings {
    pub(super) policy: Arc<dyn Policy>,
    pub(super) repeat: Repeat,
    pub(super) max_elapsed: Option<Duration>,
    pub(super) max_wait: Duration,
    pub(super) max_resends: u32,
    rng: Mutex<SmallRng>,
}

impl Settings {
    /// A fresh random number in 0..1. One generator for the layer: no two calls share a sequence.
    pub(super) fn random(&self) -> f64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("repeat", &self.repeat)
            .field("max_elapsed", &self.max_elapsed)
            .field("max_wait", &self.max_wait)
            .field("max_resends", &self.max_resends)
            .finish_non_exhaustive()
    }
}

impl BackoffRetryLayer {
    /// The [`Standard`] policy; idempotent requests only; no deadline; no single wait over 120 s.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Settings {
            policy: Arc::new(Standard::new()),
            repeat: Repeat::default(),
            max_elapsed: None,
            max_wait: MAX_WAIT,
            max_resends: MAX_RESENDS,
            rng: Mutex::new(rand::make_rng()),
        })
    }

    fn with(settings: Settings) -> Self {
        Self { settings: Arc::new(settings) }
    }

    fn change(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            policy: Arc::clone(&self.settings.policy),
            rng: Mutex::new(SmallRng::from_rng(&mut *self.settings.rng.lock().unwrap_or_else(PoisonError::into_inner))),
            ..*self.settings
        };
        change(&mut settings);
        Self::with(settings)
    }

    /// Decides whether another attempt follows, and when. Default: [`Standard::new`].
    #[must_use]
    pub fn policy(self, policy: impl Policy + 'static) -> Self {
        self.change(|settings| settings.policy = Arc::new(policy))
    }

    /// Which requests may be processed twice. Default: [`Repeat::Idempotent`].
    #[must_use]
    pub fn repeat(self, repeat: Repeat) -> Self {
        self.change(|settings| settings.repeat = repeat)
    }

    /// The time from the call's arrival after which no further attempt begins; a wait that would end later is not
    /// begun. Default: none. Leave it so above a `QuotaMeter`, or the tail of a batch dies in its line.
    ///
    /// A [`Call`](crate::Call) extension with a deadline sets one for its request alone.
    #[must_use]
    pub fn max_elapsed(self, max_elapsed: Duration) -> Self {
        self.change(|settings| settings.max_elapsed = Some(max_elapsed))
    }

    /// The longest single wait accepted: a server that asks for more gets no retry, and the caller its answer at
    /// once. Default: 120 s.
    #[must_use]
    pub fn max_wait(self, max_wait: Duration) -> Self {
        self.change(|settings| settings.max_wait = max_wait)
    }

    /// How often a call is sent again for free because a layer further in asks for it. Default: 64.
    #[must_use]
    pub fn max_resends(self, max_resends: u32) -> Self {
        self.change(|settings| settings.max_resends = max_resends)
    }

    /// Makes the jitter repeatable, for tests.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.change(|settings| settings.rng = Mutex::new(SmallRng::seed_from_u64(seed)))
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
