//! [`KeyCheckLayer`]: the keys, and what its services know of them.

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    KeyCheck, KeySnapshot, KeySource, KeyWarning, Origin, Placement, issuer,
    pool::{Pool, Settings},
};

/// Default for [`KeyCheckLayer::recheck`] and [`KeyCheckLayer::spent_recheck`].
const RECHECK: Duration = Duration::from_secs(60);
/// Default for [`KeyCheckLayer::source_timeout`].
const SOURCE_TIMEOUT: Duration = Duration::from_secs(30);

/// What becomes of a request for another origin than the key's, such as a redirect, or one whose URI is but a path
/// and names no host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Elsewhere {
    /// It goes without the key.
    #[default]
    WithoutKey,
    /// It is refused, with [`WrongOrigin`](super::WrongOrigin) as the cause.
    Refuse,
}

/// Makes [`KeyCheck`]s that share keys and what is known of them.
///
/// Clones share it too; a setting changed makes a layer of its own. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct KeyCheckLayer {
    pool: Arc<Pool>,
}

impl KeyCheckLayer {
    /// Sends this key, or the keys that this source gives, to `origin`, and nowhere else.
    #[must_use]
    pub fn new(key: impl Into<KeySource>, origin: Origin) -> Self {
        Self::made(Settings {
            sources: vec![key.into()],
            origin,
            placement: Placement::bearer(),
            elsewhere: Elsewhere::default(),
            replaces_own: false,
            marks: true,
            recheck: RECHECK,
            spent_recheck: RECHECK,
            source_timeout: SOURCE_TIMEOUT,
            denies_warnings: false,
        })
    }

    fn made(settings: Settings) -> Self {
        let layer = Self { pool: Pool::new(settings) };
        #[cfg(feature = "tracing")]
        for warning in layer.warnings() {
            tracing::warn!("{warning}");
        }
        layer
    }

    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.pool.settings.clone();
        change(&mut settings);
        Self { pool: Pool::new(settings) }
    }

    /// One key more: each call takes one that is sound, preferably not cooling, with the fewest calls outstanding.
    ///
    /// Keys of one account usually share its limits; a pool helps where they are of several, or may be revoked.
    #[must_use]
    pub fn with_key(self, key: impl Into<KeySource>) -> Self {
        let mut settings = self.pool.settings.clone();
        settings.sources.push(key.into());
        Self::made(settings)
    }

    /// Where the key goes. Default: `Authorization: Bearer …`.
    #[must_use]
    pub fn placement(self, placement: Placement) -> Self {
        self.set(|settings| settings.placement = placement)
    }

    /// What becomes of requests for another origin. Default: they go without the key.
    #[must_use]
    pub fn elsewhere(self, elsewhere: Elsewhere) -> Self {
        self.set(|settings| settings.elsewhere = elsewhere)
    }

    /// Whether a key that the request has in the same place already gives way to one of these. Default: no.
    #[must_use]
    pub fn replace_callers_key(self, replace: bool) -> Self {
        self.set(|settings| settings.replaces_own = replace)
    }

    /// Puts no [`Call`](crate::Call) extension on a request that has none: three allocations less. Default: it is put on.
    ///
    /// By it a `QuotaMeter` further in learns that a key has died, and turns back calls that wait with it. Without such a
    /// meter nobody needs it; under a `BackoffRetry` there is one already, and this changes nothing.
    #[must_use]
    pub fn without_mark(self) -> Self {
        self.set(|settings| settings.marks = false)
    }

    /// After a 401, how long a key is not used before one call looks whether it is well again. Default: 60 s, the least
    /// 100 ms; [`Duration::MAX`] for never.
    ///
    /// A call looks once at each key, and does not go again with the one that was just refused.
    #[must_use]
    pub fn recheck(self, recheck: Duration) -> Self {
        self.set(|settings| settings.recheck = recheck)
    }

    /// The same for a key whose quota is used up, where the server does not say when it is filled. Default: 60 s, the least
    /// 100 ms, and so for what the server says.
    #[must_use]
    pub fn spent_recheck(self, recheck: Duration) -> Self {
        self.set(|settings| settings.spent_recheck = recheck)
    }

    /// The longest that a source may take to give a key. Default: 30 s.
    #[must_use]
    pub fn source_timeout(self, timeout: Duration) -> Self {
        self.set(|settings| settings.source_timeout = timeout)
    }

    /// What is probably wrong with the keys at hand, such as another provider's key.
    ///
    /// With the feature `tracing`, each is an event of level WARN when the layer is made, or when its source gives the key.
    #[must_use]
    pub fn warnings(&self) -> Vec<KeyWarning> {
        self.pool.keys().iter().filter_map(|key| issuer::warning(key, &self.pool.settings.origin)).collect()
    }

    /// Takes warnings for errors, at once, and later of keys that sources give: then the source is taken to have failed.
    ///
    /// # Errors
    /// The first of [`warnings`](Self::warnings).
    pub fn deny_warnings(self) -> Result<Self, KeyWarning> {
        let first = self.warnings().into_iter().next();
        first.map_or_else(|| Ok(self.set(|settings| settings.denies_warnings = true)), Err)
    }

    /// Puts on a copy of a request's head what it would have when it goes on, as far as that is known now.
    #[cfg(feature = "stack")]
    pub(crate) fn foresee(&self, head: &mut http::Request<()>) {
        super::service::foresee(&self.pool, head);
    }

    /// How each key is now, in the order in which they were given.
    #[must_use]
    pub fn snapshot(&self) -> Vec<KeySnapshot> {
        self.pool.snapshot()
    }
}

impl<S> Layer<S> for KeyCheckLayer {
    type Service = KeyCheck<S>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyCheck::new(inner, Arc::clone(&self.pool))
    }
}
