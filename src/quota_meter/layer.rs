//! [`QuotaMeterLayer`]: the settings, and the quota that all its services share.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{Quota, QuotaMeter, bucket::Level, core::Counts, scope::Scope};
use crate::ApiError;

/// Default for [`QuotaMeterLayer::max_queue`].
const MAX_QUEUE: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");
/// Default for [`QuotaMeterLayer::spent_recheck`].
const SPENT_RECHECK: Duration = Duration::from_secs(60);

/// Makes [`QuotaMeter`]s that share one quota.
///
/// Clones share it too. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct QuotaMeterLayer {
    settings: Settings,
    scope: Arc<Scope>,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_wait: Option<Duration>,
    pub(super) max_queue: NonZeroUsize,
    pub(super) spent_recheck: Duration,
    pub(super) seed: Option<u64>,
    pub(super) quota: Quota,
}

/// What the meter knows at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The request quota; `None` until an answer has named it.
    pub requests: Option<Level>,
    /// The token quota; `None` until an answer has named it.
    pub tokens: Option<Level>,
    /// Calls that were let go and have not been answered.
    pub in_flight: usize,
    /// The most that may be in flight.
    pub window: u32,
    /// Calls that wait.
    pub waiting: usize,
    /// How long a call that came now would wait; `None` while no limit is known.
    pub expected_wait: Option<Duration>,
    /// When the gate that a 429 closed opens again; `None` if it is open.
    pub gate_opens_in: Option<Duration>,
    /// The answer that said the quota is used up, until a call succeeds again.
    pub spent: Option<ApiError>,
    /// Counts since the layer was made.
    pub counts: Counts,
}

impl QuotaMeterLayer {
    /// A meter that learns its limits from the server's answers.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Settings {
            max_wait: None,
            max_queue: MAX_QUEUE,
            spent_recheck: SPENT_RECHECK,
            seed: None,
            quota: Quota::learned(),
        })
    }

    fn with(settings: Settings) -> Self {
        Self { scope: Arc::new(Scope::new(settings.clone())), settings }
    }

    /// The longest a call may have to wait for its turn: one whose turn would come later is
    /// [`Refused`](crate::Refused) at once, with the time; one whose turn turns out to be later, then. Default: no limit.
    ///
    /// The deadline of a [`Call`](crate::Call) limits the wait of its request alike.
    ///
    /// The builder's calls make a new, empty quota: set up the layer before it is cloned or applied.
    #[must_use]
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self::with(Settings { max_wait: Some(max_wait), ..self.settings })
    }

    /// How many calls may wait; one more is [`Refused`](crate::Refused) at once. Default: 100,000.
    ///
    /// A call that had its turn and got a 429 is no newcomer: it finds its place again beyond this number.
    #[must_use]
    pub fn max_queue(self, max_queue: NonZeroUsize) -> Self {
        Self::with(Settings { max_queue, ..self.settings })
    }

    /// After an answer that the quota is used up, how long calls are refused before one looks again. Default: 60 s.
    #[must_use]
    pub fn spent_recheck(self, spent_recheck: Duration) -> Self {
        Self::with(Settings { spent_recheck, ..self.settings })
    }

    /// Limits that one knows beforehand, alone or as a ceiling on what the server says. Default: none.
    #[must_use]
    pub fn quota(self, quota: Quota) -> Self {
        Self::with(Settings { quota, ..self.settings })
    }

    /// Makes the jitter of the gate repeatable, for tests.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self::with(Settings { seed: Some(seed), ..self.settings })
    }

    /// What the meter knows now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.scope.snapshot()
    }
}

impl Default for QuotaMeterLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for QuotaMeterLayer {
    type Service = QuotaMeter<S>;

    fn layer(&self, inner: S) -> Self::Service {
        QuotaMeter::new(inner, Arc::clone(&self.scope))
    }
}
